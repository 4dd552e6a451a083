"""One study: its images with what the AI found drawn on them, and everything that was said about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from overread.domain.audit import AuditAction
from overread.domain.errors import NotFound
from overread.domain.study import StoredInstance
from overread.http.audit import looked
from overread.http.auth import Reader, Requester
from overread.http.lookups import find_study, get_analysis, parse_analysis_id
from overread.http.wiring import services_of
from overread.render.outlines import SliceOutline
from overread.services.gate import not_analysed
from overread.services.ports import UnitOfWork
from overread.services.values import AnalysisRow, StudyRow
from overread.web import figures, stage, words
from overread.web.shown import ShownFinding, number_findings
from overread.web.stacks import MAX_FRAMES, Picture, Stack, stacks_of
from overread.web.templates import page

router = APIRouter(include_in_schema=False)

_WINDOWS: Final = {name for name, _, _ in stage.WINDOWS}


def _can_be_shown(images: Sequence[StoredInstance]) -> list[StoredInstance]:
    return [s for s in images if s.record.rows and s.record.columns]


def _at(stacks: Sequence[Stack], number: int) -> tuple[Stack, Picture] | None:
    """The picture that `?image=` names."""
    for stack in stacks:
        first = stack.pictures[0].number
        if first <= number < first + len(stack.pictures):
            return stack, stack.pictures[number - first]
    return None


@router.get("/studies/{study_id}")
def study_page(
    request: Request,
    study_id: str,
    who: Reader,
    image: Annotated[str, Query(max_length=7)] = "",
    window: Annotated[str, Query(max_length=20)] = "?",
) -> Response:
    """The newest result of the study. `image` counts from 1; left out: where the first finding lies."""
    services = services_of(request)
    with services.db.unit(who.tenant) as uow:
        study = find_study(uow, study_id)
        stored = uow.studies.instances(study.id)
        row = uow.analyses.latest_for_study(study.id)
        barred = not_analysed(uow, study, uow.features.switches(), services.clock(), stored)
        segments = uow.outlines.summary(row.id) if row is not None else ()
        looked(request, uow, AuditAction.STUDY_VIEW, study, analysis=str(row.id) if row is not None else None)
        stacks = stacks_of(_can_be_shown(stored))
        count = sum(len(s.pictures) for s in stacks)
        found = number_findings(row, stacks, segments)
        front = None
        if stacks:
            asked = _at(stacks, int(image)) if image.isascii() and image.isdigit() else None
            if asked is None:
                first = stage.first_stack(stacks, found, segments)
                asked = first, stage.start_of(first, found)
            front = stage.make_stage(*asked, count, found, _outlines(uow, row, asked[1]))
    outcome = row.outcome if row is not None else None
    body_part = (outcome.body_part if outcome is not None else None) or study.body_part
    windows = [stage.default_window(s, body_part, found) for s in stacks]
    chosen = window if window in _WINDOWS else None
    front_window = ""
    if front is not None and front.stack.modality == "CT":
        front_window = windows[stacks.index(front.stack)] if chosen is None else chosen
    seen = {s.finding.finding_type for s in found}
    return page(
        request,
        "study.html",
        who,
        study=study,
        row=row,
        outcome=outcome,
        body_part=body_part,
        stage=front,
        stacks=stacks,
        starts=[stage.start_of(s, found).number for s in stacks],
        window=front_window,
        address=f"{stage.picture_address(study.study_instance_uid, front.picture)}" if front is not None else "",
        position=stage.position_text(front.stack, front.picture, front.count) if front is not None else "",
        scroll=_scroll(study, row, stacks, windows, found, body_part, count),
        anatomy=[s for s in segments if s.finding_id is None],
        found=found,
        figures=figures.table_of(outcome.measurements) if outcome is not None else None,
        age=words.age(study.patient_birth_date, study.study_datetime or study.received_first),
        quiet_types=[key for key in outcome.assessed if key not in seen] if outcome else [],
        not_assessed=words.by_reason(outcome.not_assessed) if outcome else (),
        filed_only=[s.record for s in stored if not (s.record.rows and s.record.columns)],
        stale=row is not None and row.revision < study.revision,
        barred=barred,
    )


@router.post("/studies/{study_id}/analyse")
def ask(request: Request, study_id: str, who: Requester) -> Response:
    """Ask for the AI's reading of a study that it did not read when it arrived."""
    services = services_of(request)
    with services.db.unit(who.tenant) as uow:
        study = find_study(uow, study_id)
    services.requests.create(who.tenant, study=str(study.id), modality=None, priority=None, requested_by=who.name)
    return RedirectResponse(f"/studies/{quote(study.study_instance_uid, safe='')}", status_code=303)


def _outlines(uow: UnitOfWork, row: AnalysisRow | None, picture: Picture) -> tuple[SliceOutline, ...]:
    if row is None:
        return ()
    return uow.outlines.for_instance(row.id, picture.record.sop_instance_uid, picture.frame)


def _scroll(
    study: StudyRow,
    row: AnalysisRow | None,
    stacks: Sequence[Stack],
    windows: Sequence[str],
    found: Sequence[ShownFinding],
    body_part: str | None,
    count: int,
) -> str:
    """What `stack.js` needs to go from picture to picture without asking, as JSON."""
    analysis = "" if row is None else str(row.id)
    uid = study.study_instance_uid
    return json.dumps(
        {
            "study": uid,
            "analysis": analysis,
            "series": [
                {
                    "first": s.pictures[0].number,
                    "count": len(s.pictures),
                    "start": stage.start_of(s, found).number,
                    "axis": s.axis,
                    "ct": s.modality == "CT",
                    "window": window,
                }
                for s, window in zip(stacks, windows, strict=True)
            ],
            "pictures": [
                {
                    "src": stage.picture_address(uid, p),
                    "uid": p.record.sop_instance_uid,
                    "frame": p.frame,
                    "text": stage.position_text(s, p, count),
                    "place": p.place_mm,
                }
                for s in stacks
                for p in s.pictures
            ],
            "findings": [
                {
                    "number": f.number,
                    "name": words.finding_name(f.finding.finding_type),
                    "at": f.image_number,
                    "span": f.span,
                    "severity": f.finding.severity.value,
                    "window": stage.window_for(f.finding.finding_type) if body_part == "CHEST" else None,
                }
                for f in found
                if f.image_number
            ],
        },
        separators=(",", ":"),
    )


@router.get("/studies/{study_id}/stage")
def stage_fragment(
    request: Request,
    study_id: str,
    who: Reader,
    instance: Annotated[str, Query(max_length=64)],
    frame: Annotated[int, Query(ge=1, le=MAX_FRAMES)] = 1,
    analysis: Annotated[str, Query(max_length=36)] = "",
) -> Response:
    """What lies over one picture: marks, labels, corners; of the result that the page shows, not of a newer one.

    The picture itself, which is audited, comes from `api.images`.
    """
    services = services_of(request)
    with services.db.unit(who.tenant) as uow:
        study = find_study(uow, study_id)
        stored = uow.studies.instances(study.id)
        row = get_analysis(uow, parse_analysis_id(analysis)) if analysis else None
        if row is not None and row.study.id != study.id:
            raise NotFound("This analysis is of another study.")
        stacks = stacks_of(_can_be_shown(stored))
        every = [(s, p) for s in stacks for p in s.pictures]
        here = (p for p in every if p[1].record.sop_instance_uid == instance and p[1].frame == frame)
        place = next(here, None)
        if place is None:
            raise NotFound("There is no such image in this study.")
        # Only frames need it: everything else is named by its instance.
        segments = uow.outlines.summary(row.id) if row is not None and place[1].record.number_of_frames > 1 else ()
        found = number_findings(row, stacks, segments)
        shown = stage.make_stage(*place, len(every), found, _outlines(uow, row, place[1]))
        looked(request, uow, AuditAction.STUDY_VIEW, study)
    return page(request, "stage.html", who, stage=shown)
