"""The picture of an instance as PNG, with or without what the AI found drawn on it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from overread.domain import catalogue
from overread.domain.analysis import Finding
from overread.domain.errors import NoPixelData
from overread.domain.study import StoredInstance
from overread.http.auth import Reader
from overread.http.lookups import find_instance, find_study
from overread.http.pictures import PictureCache
from overread.http.replies import PRIVATE, etag_of, is_known, not_modified
from overread.http.wiring import Services, services_of
from overread.render import LabelledBox, render_png
from overread.services.access import Identity

router = APIRouter(prefix="/api/studies", tags=["studies"])

#: Change it when pictures are drawn in another way, so that browsers ask again.
_DRAWING = "1"


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
) -> Response:
    """As a person would see it on a display: modality LUT, window, MONOCHROME1 applied; first frame; square pixels."""
    services = services_of(request)
    with services.db.unit(who.tenant) as uow:
        study = find_study(uow, studyId)
        stored = find_instance(uow, study, sopInstanceUid)
        row = uow.analyses.latest_for_study(study.id) if boxes is Boxes.ALL else None
        uow.audit.record("image.view", actor=who.name, study_id=study.id, sop_instance_uid=sopInstanceUid)
    found = (
        tuple(f for f in row.outcome.findings if f.sop_instance_uid == sopInstanceUid) if row and row.outcome else ()
    )
    drawn = ",".join([*(str(f.id) for f in found), "scale" if scale else ""])
    etag = etag_of(_DRAWING, who.tenant.slug, stored.record.file_sha256, drawn)
    if is_known(request, etag):
        return not_modified(etag)
    pictures: PictureCache = request.app.state.pictures
    png = pictures.get(
        (who.tenant.slug, stored.record.file_sha256, drawn), lambda: _make(services, who, stored, found, scale)
    )
    return Response(png, media_type="image/png", headers={"ETag": etag, "Cache-Control": PRIVATE})


def _make(services: Services, who: Identity, stored: StoredInstance, found: tuple[Finding, ...], scale: bool) -> bytes:
    if not stored.record.rows:
        raise NoPixelData("This instance has no image in it.")
    data = services.objects.get(who.tenant, stored.object_key)
    instance = services.parser.image(data, name=stored.record.sop_instance_uid)
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
