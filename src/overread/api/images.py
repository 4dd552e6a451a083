"""The picture of an instance as PNG, with or without what the AI found drawn on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from overread.domain import catalogue
from overread.domain.analysis import Finding
from overread.domain.audit import AuditAction
from overread.domain.errors import FrameNotFound, InvalidRequest, NoPixelData
from overread.domain.study import StoredInstance
from overread.http.audit import looked
from overread.http.auth import Reader
from overread.http.lookups import find_instance, find_study
from overread.http.pictures import PictureCache
from overread.http.replies import PRIVATE, etag_of, is_known, not_modified
from overread.http.wiring import Services, services_of
from overread.render import LabelledBox, render_png
from overread.services.access import Identity
from overread.services.custody import read_instance
from overread.services.ports import UnitOfWork
from overread.services.values import AnalysisRow, DisplayWindow

router = APIRouter(prefix="/api/studies", tags=["studies"])

#: Change it when pictures are drawn in another way, so that browsers ask again.
_DRAWING = "2"

#: Windows that a radiologist of the chest uses, HU. (Brant and Helms, Fundamentals of Diagnostic Radiology.)
WINDOWS: Final[Mapping[str, DisplayWindow]] = {
    "lung": DisplayWindow(center=-600, width=1500),
    "mediastinum": DisplayWindow(center=40, width=400),
    "bone": DisplayWindow(center=400, width=1800),
}
_CENTER_WIDTH = re.compile(r"(-?\d{1,6}(?:\.\d{1,3})?)[/,](\d{1,6}(?:\.\d{1,3})?)")


class Boxes(StrEnum):
    """Whether findings are drawn."""

    NONE = "none"
    ALL = "all"


@router.get(
    "/{studyId}/instances/{sopInstanceUid}/image.png",
    summary="An instance as PNG",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "8-bit grey, or colour with boxes"}},
)
def picture(
    request: Request,
    studyId: str,  # noqa: N803
    sopInstanceUid: str,  # noqa: N803
    who: Reader,
    boxes: Annotated[Boxes, Query()] = Boxes.NONE,
    scale: Annotated[bool, Query(description="A bar in cm, where the spacing is known.")] = False,
    frame: Annotated[int, Query(ge=1, le=1_000_000, description="Of a multi-frame image, from 1.")] = 1,
    window: Annotated[
        str | None,
        Query(max_length=32, description="lung, mediastinum or bone, or centre/width in HU; else the file's."),
    ] = None,
) -> Response:
    """As a person would see it on a display: modality LUT, window, MONOCHROME1 applied; square pixels."""
    chosen = parse_window(window)
    services = services_of(request)
    with services.db.unit(who.tenant) as uow:
        study = find_study(uow, studyId)
        stored = find_instance(uow, study, sopInstanceUid)
        _check(stored, frame, window)
        row = uow.analyses.latest_for_study(study.id) if boxes is Boxes.ALL else None
        looked(request, uow, AuditAction.IMAGE_VIEW, study)
        found = _found_on(uow, row, stored, frame)
    shown = "" if chosen is None else f"{chosen.center:g}/{chosen.width:g}"
    drawn = ",".join([*(str(f.id) for f in found), "scale" if scale else "", str(frame), shown])
    etag = etag_of(_DRAWING, who.tenant.slug, stored.record.file_sha256, drawn)
    if is_known(request, etag):
        return not_modified(etag)
    pictures: PictureCache = request.app.state.pictures
    png = pictures.get(
        (who.tenant.slug, stored.record.file_sha256, drawn),
        lambda: _make(services, who, stored, found, scale, frame, chosen),
    )
    return Response(png, media_type="image/png", headers={"ETag": etag, "Cache-Control": PRIVATE})


def parse_window(text: str | None) -> DisplayWindow | None:
    """A preset's name, or "centre/width" in HU. Raises `InvalidRequest`."""
    if text is None or text in WINDOWS:
        return None if text is None else WINDOWS[text]
    numbers = _CENTER_WIDTH.fullmatch(text)
    if numbers is None or float(numbers[2]) < 1:
        raise InvalidRequest(
            "The parameter window must be a preset or centre/width in HU with a width of at least 1, like -600/1500.",
            parameter="window",
            allowed=tuple(WINDOWS),
        )
    return DisplayWindow(center=float(numbers[1]), width=float(numbers[2]))


def _found_on(uow: UnitOfWork, row: AnalysisRow | None, stored: StoredInstance, frame: int) -> tuple[Finding, ...]:
    """What was found in the image; of an enhanced one, what is outlined on this frame or belongs to no slice."""
    if row is None or row.outcome is None:
        return ()
    uid = stored.record.sop_instance_uid
    found = tuple(f for f in row.outcome.findings if f.sop_instance_uid == uid)
    if not found or stored.record.number_of_frames == 1:
        return found
    here = {o.finding_id for o in uow.outlines.for_instance(row.id, uid, frame)}
    return tuple(f for f in found if f.slice_number is None or f.id in here)


def _check(stored: StoredInstance, frame: int, window: str | None) -> None:
    if window is not None and stored.record.modality != "CT":
        raise InvalidRequest(
            "The parameter window is for CT: other images have no Hounsfield units.", parameter="window"
        )
    if stored.record.rows and frame > stored.record.number_of_frames:
        raise FrameNotFound(
            f"This instance has {stored.record.number_of_frames} frame(s); there is no frame {frame}.",
            parameter="frame",
        )


def _make(
    services: Services,
    who: Identity,
    stored: StoredInstance,
    found: tuple[Finding, ...],
    scale: bool,
    frame: int,
    window: DisplayWindow | None,
) -> bytes:
    if not stored.record.rows:
        raise NoPixelData("This instance has no image in it.")
    data = read_instance(services.objects, who.tenant, stored)
    instance = services.parser.image(data, name=stored.record.sop_instance_uid, frame=frame, window=window)
    return render_png(instance.image, boxes=_labelled(found), scale=scale)


def _labelled(found: tuple[Finding, ...]) -> list[LabelledBox]:
    return [
        LabelledBox(
            box=f.bounding_box,
            label=f"{_name(f.finding_type)} {f.confidence * 100:.0f}%",
            severity=f.severity,
            exploratory=f.exploratory,
        )
        for f in found
        if f.bounding_box is not None
    ]


def _name(key: str) -> str:
    return catalogue.entry(key).name if catalogue.is_known(key) else key
