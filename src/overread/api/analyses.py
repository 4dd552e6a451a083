"""/api/image-analysis, as the specification has it, and Retry and the DICOM SR besides."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from overread.domain.analysis import AnalysisStatus
from overread.domain.audit import AuditAction
from overread.domain.errors import Conflict, InvalidRequest, NotFound, UnsupportedModality
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.http.audit import looked
from overread.http.auth import Reader, Requester
from overread.http.lookups import get_analysis as lookup_analysis
from overread.http.lookups import parse_analysis_id
from overread.http.paging import DEFAULT_LIMIT, MAX_LIMIT, MAX_PAGE, PaginationInfo, pagination
from overread.http.replies import choose, dicom_file, dicom_response, json_reply, parse_fields
from overread.http.results import result_from_row
from overread.http.text import CleanText
from overread.http.wire import AnalysisResult, WireModel, dump
from overread.http.wiring import services_of
from overread.services.access import Identity
from overread.services.values import AnalysisFilter

router = APIRouter(prefix="/api/image-analysis", tags=["image analysis"])

FIELDS: Final = tuple(field.alias or name for name, field in AnalysisResult.model_fields.items())
_MODALITIES: Final = tuple(m.value for m in Modality)


class CreateRequest(WireModel):
    """Ask for an analysis of a study that we hold."""

    model_config = ConfigDict(extra="forbid")

    study_id: CleanText = Field(min_length=1, max_length=64, description="StudyInstanceUID (0020,000D), or our own id.")
    modality: str = Field(max_length=40, json_schema_extra={"enum": [*_MODALITIES]})
    priority: Level | None = Field(default=None, description="QueuePriority; left out: from the order.")
    patient_id: CleanText | int | None = Field(
        default=None, description="PatientID (0010,0020), text. If given, it must be the study's."
    )


class CreatedResponse(WireModel):
    analysis_id: UUID
    status: AnalysisStatus
    #: Seconds from now, from measured times and what waits before it.
    estimated_completion_time: float


class MessageResponse(BaseModel):
    message: str


class RetriedResponse(WireModel):
    analysis_id: UUID
    status: AnalysisStatus
    message: str


class ListResponse(BaseModel):
    analyses: list[AnalysisResult]
    pagination: PaginationInfo


class ListQuery(BaseModel):
    """Filters of the list; an unknown one is an error, not silence."""

    model_config = ConfigDict(extra="forbid")

    patientId: CleanText | None = Field(default=None, max_length=64)  # noqa: N815
    modality: Modality | None = None
    status: AnalysisStatus | None = None
    priority: Level | None = None
    dateFrom: str | None = Field(default=None, max_length=40, description="Date or instant, ISO 8601.")  # noqa: N815
    dateTo: str | None = Field(default=None, max_length=40, description="Inclusive when a date.")  # noqa: N815
    page: int = Field(default=1, ge=1, le=MAX_PAGE)
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    fields: str | None = Field(default=None, max_length=1000, description="Only these, e.g. analysisId,findings.name")


def parse_instant(name: str, text: str | None, *, end: bool) -> datetime | None:
    """A date or instant (ISO 8601; UTC unless it says otherwise). A date as `end` means the whole day."""
    if text is None:
        return None
    try:
        if len(text) <= 10:
            return datetime.combine(date.fromisoformat(text), time.max if end else time.min, UTC)
        # A plus sign that was not encoded arrives as a space.
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"The parameter {name} must be a date or instant like 2026-01-31 or 2026-01-31T08:00:00Z.", parameter=name
        ) from error


@router.post("", response_model=CreatedResponse, status_code=202, summary="Ask for an analysis")
def create(request: Request, response: Response, body: CreateRequest, who: Requester) -> CreatedResponse:
    """Queues an analysis. 404 STUDY_NOT_FOUND says where we looked; 409 if one is under way."""
    services = services_of(request)
    if body.modality not in _MODALITIES:
        raise UnsupportedModality(
            "The parameter modality is not one that this product has a word for.",
            parameter="modality",
            allowed=_MODALITIES,
        )
    if body.patient_id is not None:
        with services.db.unit(who.tenant) as uow:
            study = uow.studies.find(body.study_id)
        if study is not None and study.patient_id != str(body.patient_id):
            raise Conflict("The study belongs to another patient than patientId says.", parameter="patientId")
    made = services.requests.create(
        who.tenant,
        study=body.study_id,
        modality=Modality(body.modality),
        priority=body.priority,
        requested_by=who.name,
    )
    response.headers["Location"] = f"/api/image-analysis/{made.analysis_id}"
    return CreatedResponse(
        analysis_id=made.analysis_id,
        status=made.status,
        estimated_completion_time=made.estimated_seconds,
    )


@router.get("", response_model=ListResponse, summary="List analyses")
def list_analyses(request: Request, query: Annotated[ListQuery, Query()], who: Reader) -> Response:
    """Critical first, then urgent, then older first. Dates are those of the request for analysis.

    To filter by patient rather use the search: an address is kept in logs on the way.
    """
    return _list(request, query, who)


@router.post("/search", response_model=ListResponse, summary="Search analyses")
def search_analyses(request: Request, query: ListQuery, who: Reader) -> Response:
    """As the list, with its filters in the body: a patient's id is then in no address."""
    return _list(request, query, who)


def _list(request: Request, query: ListQuery, who: Identity) -> Response:
    services = services_of(request)
    chosen = parse_fields(query.fields, FIELDS)
    flt = AnalysisFilter(
        patient_id=query.patientId,
        modality=query.modality,
        status=query.status,
        priority=query.priority,
        date_from=parse_instant("dateFrom", query.dateFrom, end=False),
        date_to=parse_instant("dateTo", query.dateTo, end=True),
        page=query.page,
        limit=query.limit,
    )
    if flt.date_from and flt.date_to and flt.date_from > flt.date_to:
        raise InvalidRequest("The parameter dateTo lies before dateFrom.", parameter="dateTo")
    with services.db.unit(who.tenant) as uow:
        rows, total = uow.analyses.search(flt)
    payload: dict[str, Any] = {
        "analyses": [choose(dump(result_from_row(row)), chosen) for row in rows],
        "pagination": pagination(query.page, query.limit, total).model_dump(),
    }
    return json_reply(request, payload)


@router.get("/{analysisId}", response_model=AnalysisResult, summary="One analysis")
def get_analysis(
    request: Request,
    analysisId: str,  # noqa: N803 - the specification's word
    who: Reader,
    fields: Annotated[str | None, Query(max_length=1000)] = None,
) -> Response:
    """The result; its findings are there once the status is completed."""
    chosen = parse_fields(fields, FIELDS)
    analysis_id = parse_analysis_id(analysisId)
    with services_of(request).db.unit(who.tenant) as uow:
        row = lookup_analysis(uow, analysis_id)
        looked(request, uow, AuditAction.ANALYSIS_VIEW, row.study, analysis=str(row.id))
    return json_reply(request, choose(dump(result_from_row(row)), chosen))


@router.delete("/{analysisId}", response_model=MessageResponse, summary="Cancel an analysis")
def cancel(request: Request, analysisId: str, who: Requester) -> MessageResponse:  # noqa: N803
    """409 once it is completed or failed: what was found stays."""
    services_of(request).requests.cancel(who.tenant, parse_analysis_id(analysisId), who.name)
    return MessageResponse(message="The analysis is cancelled.")


@router.post("/{analysisId}/retry", response_model=RetriedResponse, summary="Try a failed analysis again")
def retry(request: Request, analysisId: str, who: Requester) -> RetriedResponse:  # noqa: N803
    """409 unless it failed or was cancelled."""
    analysis_id = parse_analysis_id(analysisId)
    status = services_of(request).requests.retry(who.tenant, analysis_id, who.name)
    return RetriedResponse(analysis_id=analysis_id, status=status, message="The analysis will be tried again.")


@router.get(
    "/{analysisId}/sr",
    summary="The DICOM structured report",
    response_class=Response,
    responses=dicom_response("TID 1500"),
)
def structured_report(request: Request, analysisId: str, who: Reader) -> Response:  # noqa: N803
    """404 with the reason while it is not written."""
    services = services_of(request)
    analysis_id = parse_analysis_id(analysisId)
    with services.db.unit(who.tenant) as uow:
        row = lookup_analysis(uow, analysis_id)
        if row.sr_object_key is not None:
            uow.audit.record(AuditAction.SR_DOWNLOAD, actor=who.name, study_id=row.study.id, analysis=str(row.id))
    if row.sr_object_key is None:
        why = (
            "It is being written; try again in a moment."
            if row.status is AnalysisStatus.COMPLETED
            else f"It is written when the analysis is completed; this one is {row.status.value}."
        )
        raise NotFound(f"There is no structured report yet. {why}", analysis_id=str(row.id), status=row.status.value)
    return dicom_file(services.objects.get(who.tenant, row.sr_object_key), f"overread-{row.id}.dcm")
