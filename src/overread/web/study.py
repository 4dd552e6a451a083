"""One study: its images with what the AI found drawn on them, and everything that was said about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from overread.domain.analysis import Finding
from overread.domain.image import BoundingBox
from overread.domain.study import InstanceRecord, StoredInstance
from overread.http.auth import Reader
from overread.http.lookups import find_study, image_address
from overread.http.wiring import services_of
from overread.services.values import AnalysisRow
from overread.web import words
from overread.web.templates import page

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, kw_only=True)
class ShownFinding:
    """A finding with the number that it bears in the list and on the image."""

    number: int
    finding: Finding
    #: From 1; None if its image is not among those that can be shown.
    image_number: int | None


@dataclass(frozen=True, kw_only=True)
class Label:
    """Where a box's label stands, in pixels of the image; sizes are chosen so that it reads at any zoom."""

    shown: ShownFinding
    box: BoundingBox
    text: str
    text_x: float
    text_y: float
    size: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The image in front."""

    number: int
    count: int
    record: InstanceRecord
    address: str
    rows: int
    columns: int
    labels: tuple[Label, ...]


def number_findings(row: AnalysisRow | None, images: Sequence[StoredInstance]) -> tuple[ShownFinding, ...]:
    """Most severe first, then most confident; numbered from 1."""
    if row is None or row.outcome is None:
        return ()
    place = {image.record.sop_instance_uid: i for i, image in enumerate(images, start=1)}
    return tuple(
        ShownFinding(number=i, finding=f, image_number=place.get(f.sop_instance_uid))
        for i, f in enumerate(words.by_weight(row.outcome.findings), start=1)
    )


def make_stage(study_uid: str, images: Sequence[StoredInstance], number: int, found: Sequence[ShownFinding]) -> Stage:
    """The `number`th image (from 1) with the boxes that lie in it."""
    record = images[number - 1].record
    rows, columns = record.rows or 1, record.columns or 1
    here = [s for s in found if s.image_number == number and s.finding.bounding_box is not None]
    size = max(rows, columns) / 42
    return Stage(
        number=number,
        count=len(images),
        record=record,
        address=image_address(study_uid, record.sop_instance_uid),
        rows=rows,
        columns=columns,
        labels=_labels(here, rows, columns, size),
    )


def _labels(found: Sequence[ShownFinding], rows: int, columns: int, size: float) -> tuple[Label, ...]:
    """A label stands above its box, else inside it, and never on another label."""
    taken: list[tuple[float, float, float]] = []
    labels = []
    for shown in found:
        box = shown.finding.bounding_box
        if box is None:
            continue
        text = (
            f"{shown.number} {words.finding_name(shown.finding.finding_type)} {words.percent(shown.finding.confidence)}"
        )
        width = len(text) * size * 0.62 + size * 0.6
        x = min(max(0.0, box.x), max(0.0, columns - width))
        y = box.y - size * 1.45
        if y < 0:
            y = box.y + size * 0.2
        while any(abs(y - ty) < size * 1.45 and x < tx + tw and tx < x + width for tx, ty, tw in taken):
            y += size * 1.5
        y = min(y, rows - size * 1.45)
        taken.append((x, y, width))
        labels.append(Label(shown=shown, box=box, text=text, text_x=x, text_y=y, size=size, width=width))
    return tuple(labels)


@router.get("/studies/{study_id}")
def study_page(
    request: Request, study_id: str, who: Reader, image: Annotated[str, Query(max_length=7)] = ""
) -> Response:
    """The newest result of the study. `image` counts from 1; left out: where the first finding lies."""
    services = services_of(request)
    with services.db.unit(who.tenant) as uow:
        study = find_study(uow, study_id)
        stored = uow.studies.instances(study.id)
        row = uow.analyses.latest_for_study(study.id)
        uow.audit.record(
            "study.view", actor=who.name, study_id=study.id, analysis_id=str(row.id) if row is not None else None
        )
    images = [s for s in stored if s.record.rows and s.record.columns]
    found = number_findings(row, images)
    stage = None
    if images:
        asked = int(image) if image.isascii() and image.isdigit() else 0
        first = next((s.image_number for s in found if s.image_number), 1)
        stage = make_stage(study.study_instance_uid, images, asked if 1 <= asked <= len(images) else first, found)
    outcome = row.outcome if row is not None else None
    seen = {s.finding.finding_type for s in found}
    return page(
        request,
        "study.html",
        who,
        study=study,
        row=row,
        outcome=outcome,
        stage=stage,
        found=found,
        age=words.age(study.patient_birth_date, study.study_datetime or study.received_first),
        quiet_types=[key for key in outcome.assessed if key not in seen] if outcome else [],
        not_assessed=words.by_reason(outcome.not_assessed) if outcome else (),
        filed_only=[s.record for s in stored if not (s.record.rows and s.record.columns)],
        stale=row is not None and row.revision < study.revision,
    )
