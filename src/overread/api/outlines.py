"""Segments of an analysis: the DICOM SEG, and outlines for pages that draw them over the slices."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from overread.domain.analysis import AnalysisStatus
from overread.domain.audit import AuditAction
from overread.domain.errors import InvalidRequest, NoSegmentation, NotFound, SegmentationRemoved
from overread.http.audit import looked
from overread.http.auth import Reader
from overread.http.lookups import get_analysis, parse_analysis_id
from overread.http.replies import dicom_file, dicom_response, json_reply
from overread.http.results import outlines_on_slice, segments_of
from overread.http.text import CleanText
from overread.http.wire import OutlineSummary, SliceOutlines, dump
from overread.http.wiring import services_of
from overread.services.values import AnalysisRow

router = APIRouter(prefix="/api/image-analysis", tags=["image analysis"])


@router.get(
    "/{analysisId}/seg",
    summary="The DICOM segmentation",
    response_class=Response,
    responses=dicom_response("Segmentation Storage"),
)
def segmentation(request: Request, analysisId: str, who: Reader) -> Response:  # noqa: N803
    """404 with the reason where there is none."""
    services = services_of(request)
    analysis_id = parse_analysis_id(analysisId)
    with services.db.unit(who.tenant) as uow:
        row = get_analysis(uow, analysis_id)
        if row.seg_object_key is not None:
            uow.audit.record(AuditAction.SEG_DOWNLOAD, actor=who.name, study_id=row.study.id, analysis=str(row.id))
    if row.seg_removed_at is not None:
        raise SegmentationRemoved(
            f"The segmentation of this analysis was removed on {row.seg_removed_at:%Y-%m-%d}: no present result cites"
            " it.",
            remedy="The newest analysis of the study has one of its own.",
            analysis_id=str(row.id),
        )
    if row.seg_object_key is None:
        raise NotFound(f"There is no segmentation. {_why_none(row)}", analysis_id=str(row.id), status=row.status.value)
    return dicom_file(services.objects.get(who.tenant, row.seg_object_key), f"overread-seg-{row.id}.dcm")


def _why_none(row: AnalysisRow) -> str:
    if row.status is not AnalysisStatus.COMPLETED or row.outcome is None:
        return f"It is written when the analysis is completed; this one is {row.status.value}."
    refused = next((p.message for p in row.outcome.problems if p.code == NoSegmentation.code), None)
    return refused or "This analysis outlined nothing."


@router.get(
    "/{analysisId}/outlines",
    summary="What is outlined, and where on one slice",
    response_model=OutlineSummary | SliceOutlines,
)
def outlines(
    request: Request,
    analysisId: str,  # noqa: N803
    who: Reader,
    sopInstanceUid: Annotated[  # noqa: N803
        CleanText | None, Query(max_length=64, description="An image: its polygons are returned, not the list.")
    ] = None,
    frame: Annotated[int | None, Query(ge=1, description="Frame of a multi-frame image, from 1.")] = None,
) -> Response:
    """Without `sopInstanceUid` the segments and the slices to look at; with it the polygons on that slice."""
    if frame is not None and sopInstanceUid is None:
        raise InvalidRequest("The parameter frame needs sopInstanceUid beside it.", parameter="frame")
    analysis_id = parse_analysis_id(analysisId)
    with services_of(request).db.unit(who.tenant) as uow:
        row = get_analysis(uow, analysis_id)
        looked(request, uow, AuditAction.OUTLINES_VIEW, row.study, analysis=str(row.id))
        if sopInstanceUid is None:
            return json_reply(request, dump(segments_of(row.id, uow.outlines.summary(row.id))))
        found = uow.outlines.for_instance(row.id, sopInstanceUid, frame or 1)
    return json_reply(request, dump(outlines_on_slice(row.id, sopInstanceUid, frame or 1, found)))
