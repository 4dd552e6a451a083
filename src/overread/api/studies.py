"""/api/studies: what we hold. (Sending something in: `uploads`; its pictures: `images`.)"""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from overread.domain.analysis import AnalysisStatus
from overread.domain.audit import AuditAction
from overread.domain.features import Feature, WhyNot
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.http.audit import looked
from overread.http.auth import Reader
from overread.http.lookups import find_study, image_address
from overread.http.paging import DEFAULT_LIMIT, MAX_LIMIT, MAX_PAGE, PaginationInfo, pagination
from overread.http.replies import choose, json_reply, parse_fields
from overread.http.text import CleanText
from overread.http.wire import WireModel, dump
from overread.http.wiring import services_of
from overread.services.access import Identity
from overread.services.values import AnalysisFilter, AnalysisRow, StudyRow

router = APIRouter(prefix="/api/studies", tags=["studies"])


class LatestAnalysis(WireModel):
    """The newest analysis of a study."""

    analysis_id: UUID
    status: AnalysisStatus
    priority: Level
    reason: str


class NotAnalysed(WireModel):
    """Why the AI did not read a study, on purpose."""

    why: WhyNot
    #: One sentence for a person.
    sentence: str
    since: AwareDatetime
    #: The feature that is off, and for which modality; null where the patient objected.
    feature: Feature | None
    modality: Modality | None


class Study(WireModel):
    """A study as the index has it; texts as the file had them."""

    #: StudyInstanceUID (0020,000D).
    study_id: str
    id: UUID
    patient_id: str
    issuer_of_patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    accession_number: str
    study_description: str
    study_date_time: AwareDatetime | None
    modality: Modality | None
    dicom_modalities: list[str]
    body_part: str | None
    revision: int
    instance_count: int
    image_count: int
    received_first: AwareDatetime
    received_last: AwareDatetime
    #: More than one patient in one study.
    patient_conflict: bool
    analysis: LatestAnalysis | None = None
    #: Set where the AI did not read the present images on purpose.
    not_analysed: NotAnalysed | None = None


class Instance(WireModel):
    """One object of a study."""

    #: SOPInstanceUID (0008,0018).
    sop_instance_uid: str
    series_instance_uid: str
    modality: str | None
    series_description: str
    series_number: int | None
    instance_number: int | None
    view_position: str | None
    rows: int | None
    columns: int | None
    number_of_frames: int
    size_bytes: int
    #: Why it is kept but not analysed; null for an image.
    filed_only_reason: str | None
    #: Address of its picture; null where there is none.
    image: str | None


class StudyWithInstances(Study):
    instances: list[Instance]


class StudyList(BaseModel):
    studies: list[Study]
    pagination: PaginationInfo


FIELDS: Final = tuple(field.alias or name for name, field in Study.model_fields.items())


class StudyQuery(BaseModel):
    """Filters; an unknown one is an error, not silence."""

    model_config = ConfigDict(extra="forbid")

    modality: Modality | None = None
    page: int = Field(default=1, ge=1, le=MAX_PAGE)
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    fields: str | None = Field(default=None, max_length=1000)


class StudySearch(StudyQuery):
    """What identifies a patient comes in the body: addresses are kept in logs on the way."""

    patientId: CleanText | None = Field(default=None, max_length=64)  # noqa: N815
    q: CleanText | None = Field(
        default=None, max_length=200, description="Words of name, id, accession number, description; or a UID's start."
    )


def _study(row: StudyRow, analysis: AnalysisRow | None) -> dict[str, object]:
    return {
        "study_id": row.study_instance_uid,
        "id": row.id,
        "patient_id": row.patient_id,
        "issuer_of_patient_id": row.issuer_of_patient_id,
        "patient_name": row.patient_name,
        "patient_birth_date": row.patient_birth_date,
        "patient_sex": row.patient_sex,
        "accession_number": row.accession_number,
        "study_description": row.study_description,
        "study_date_time": row.study_datetime,
        "modality": row.modality,
        "dicom_modalities": list(row.dicom_modalities),
        "body_part": row.body_part,
        "revision": row.revision,
        "instance_count": row.instance_count,
        "image_count": row.image_count,
        "received_first": row.received_first,
        "received_last": row.received_last,
        "patient_conflict": row.patient_conflict,
        "analysis": LatestAnalysis(
            analysis_id=analysis.id, status=analysis.status, priority=analysis.priority, reason=analysis.reason
        )
        if analysis
        else None,
        "not_analysed": NotAnalysed(
            why=row.not_analysed.why,
            sentence=row.not_analysed.sentence,
            since=row.not_analysed.since,
            feature=row.not_analysed.feature,
            modality=row.not_analysed.modality,
        )
        if row.not_analysed
        else None,
    }


@router.get("", response_model=StudyList, summary="List studies")
def list_studies(request: Request, query: Annotated[StudyQuery, Query()], who: Reader) -> Response:
    """Studies that are complete, in the worklist's order; `total` is exact up to 10,000.

    One that the AI did not read on purpose stands where its order puts it, and says why in `notAnalysed`.
    """
    return _list(request, StudySearch(**query.model_dump()), who)


@router.post("/search", response_model=StudyList, summary="Search studies")
def search_studies(request: Request, query: StudySearch, who: Reader) -> Response:
    """As the list, by patient: a word that is typed finds words that begin with it, from three letters on."""
    return _list(request, query, who)


def _list(request: Request, query: StudySearch, who: Identity) -> Response:
    services = services_of(request)
    chosen = parse_fields(query.fields, FIELDS)
    flt = AnalysisFilter(
        patient_id=query.patientId,
        modality=query.modality,
        text=query.q,
        with_superseded=False,
        page=query.page,
        limit=query.limit,
    )
    with services.db.unit(who.tenant) as uow:
        rows, total = uow.worklist.search(flt)
    studies = [choose(dump(Study.model_validate(_study(row.study, row.analysis))), chosen) for row in rows]
    payload = {"studies": studies, "pagination": pagination(query.page, query.limit, total).model_dump()}
    return json_reply(request, payload)


@router.get("/{studyId}", response_model=StudyWithInstances, summary="One study and its instances")
def get_study(request: Request, studyId: str, who: Reader) -> Response:  # noqa: N803
    """By StudyInstanceUID (0020,000D) or our own id."""
    with services_of(request).db.unit(who.tenant) as uow:
        study = find_study(uow, studyId)
        stored = uow.studies.instances(study.id)
        latest = uow.analyses.latest_for_study(study.id)
        looked(request, uow, AuditAction.STUDY_VIEW, study)
    instances = [
        Instance(
            sop_instance_uid=s.record.sop_instance_uid,
            series_instance_uid=s.record.series_instance_uid,
            modality=s.record.modality,
            series_description=s.record.series_description,
            series_number=s.record.series_number,
            instance_number=s.record.instance_number,
            view_position=s.record.view_position,
            rows=s.record.rows,
            columns=s.record.columns,
            number_of_frames=s.record.number_of_frames,
            size_bytes=s.record.size_bytes,
            filed_only_reason=s.record.filed_only_reason,
            image=image_address(study.study_instance_uid, s.record.sop_instance_uid)
            if s.record.rows and s.record.columns
            else None,
        )
        for s in stored
    ]
    model = StudyWithInstances.model_validate({**_study(study, latest), "instances": instances})
    return json_reply(request, dump(model))
