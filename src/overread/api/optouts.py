"""/api/opt-outs: patients who object to AI, and /api/patients/access-report: what became of a patient's studies.

A patient is named in a body only, never in an address: addresses end up in logs.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict, Field

from overread.api.analyses import MessageResponse
from overread.http.auth import AccessReporter, OptOutManager, OptOutReader
from overread.http.lookups import parse_opt_out_id
from overread.http.text import CleanText
from overread.http.wire import Instant, WireModel
from overread.http.wiring import services_of
from overread.services.optout import REASON_AT_MOST
from overread.services.patient_report import PatientReport
from overread.services.values import OptOut as OptOutRow

router = APIRouter(prefix="/api", tags=["patients"])


class PatientName(WireModel):
    """A patient as DICOM names one."""

    model_config = ConfigDict(extra="forbid")

    patient_id: CleanText = Field(min_length=1, max_length=64, description="PatientID (0010,0020).")
    issuer: CleanText = Field(
        default="", max_length=64, description="IssuerOfPatientID (0010,0021); left out: the number under any issuer."
    )


class OptOutRequest(PatientName):
    """Put a patient on the list."""

    reason: CleanText = Field(max_length=REASON_AT_MOST)


class Removal(WireModel):
    """Take a patient off the list."""

    model_config = ConfigDict(extra="forbid")

    reason: CleanText = Field(max_length=REASON_AT_MOST)


class OptOut(WireModel):
    """An objection. Who it is cannot be read from it."""

    id: UUID
    #: The same for the same patient, and no more than that.
    pseudonym: str
    any_issuer: bool
    reason: str
    added_by: str
    added_at: Instant
    removed_by: str | None
    removed_at: Instant | None
    removal_reason: str | None


class OptOutAdded(WireModel):
    opt_out: OptOut
    #: Studies of the patient that are here; results there are stay.
    studies: int
    #: Analyses that were waiting or running and are cancelled.
    cancelled: int


class OptOutList(WireModel):
    opt_outs: list[OptOut]


class OptOutAnswer(WireModel):
    #: null: the patient is not on the list.
    opt_out: OptOut | None


class ReportStudy(WireModel):
    study_id: str
    study_description: str
    received_first: Instant
    #: Why the AI did not read it on purpose; null if it did.
    not_analysed: str | None


class ReportLine(WireModel):
    """What somebody did to a study, once or several times on a day."""

    kind: str
    what: str
    action: str
    who: str
    role: str
    study_id: str | None
    first: Instant
    last: Instant
    times: int
    outcome: str


class AccessReport(WireModel):
    patient_id: str
    issuer: str
    made_at: Instant
    made_by: str
    opt_out: OptOut | None
    studies: list[ReportStudy]
    lines: list[ReportLine]


@router.get("/opt-outs", response_model=OptOutList, summary="Patients who object to AI")
def list_opt_outs(
    request: Request,
    who: OptOutReader,
    removed: Annotated[bool, Query(description="Those that were taken back too.")] = False,
) -> OptOutList:
    """Newest first, at most 1,000, by pseudonym."""
    rows = services_of(request).opt_outs.all(who.tenant, by=who.name, with_removed=removed)
    return OptOutList(opt_outs=[_opt_out(row) for row in rows])


@router.post("/opt-outs", response_model=OptOutAdded, status_code=201, summary="A patient objects to AI")
def add(request: Request, body: OptOutRequest, who: OptOutManager) -> OptOutAdded:
    """From now on nothing of this patient is analysed; what waits or runs is cancelled, results there are stay."""
    done = services_of(request).opt_outs.add(
        who.tenant, patient_id=body.patient_id, issuer=body.issuer, reason=body.reason, by=who.name
    )
    return OptOutAdded(opt_out=_opt_out(done.opt_out), studies=done.studies, cancelled=done.cancelled)


@router.post("/opt-outs/find", response_model=OptOutAnswer, summary="Whether a patient objects")
def find(request: Request, body: PatientName, who: OptOutManager) -> OptOutAnswer:
    """The objection that holds for the patient now."""
    row = services_of(request).opt_outs.find(who.tenant, patient_id=body.patient_id, issuer=body.issuer)
    return OptOutAnswer(opt_out=None if row is None else _opt_out(row))


@router.post("/opt-outs/{optOutId}/removal", response_model=MessageResponse, summary="Take an objection back")
def remove(request: Request, optOutId: str, body: Removal, who: OptOutManager) -> MessageResponse:  # noqa: N803
    """What comes from now on is analysed again; what came meanwhile can be asked for."""
    services_of(request).opt_outs.remove(who.tenant, parse_opt_out_id(optOutId), reason=body.reason, by=who.name)
    return MessageResponse(message="The objection was taken back.")


@router.post("/patients/access-report", response_model=AccessReport, summary="What became of a patient's studies")
def access_report(request: Request, body: PatientName, who: AccessReporter) -> AccessReport:
    """Who looked at them, analysed them, took them out. Administrators only; itself on record."""
    report = services_of(request).patient_reports.report(
        who.tenant, patient_id=body.patient_id, issuer=body.issuer, by=who.name
    )
    return report_on_wire(report)


def report_on_wire(report: PatientReport) -> AccessReport:
    """As JSON has it."""
    return AccessReport(
        patient_id=report.patient_id,
        issuer=report.issuer,
        made_at=report.made_at,
        made_by=report.made_by,
        opt_out=None if report.opt_out is None else _opt_out(report.opt_out),
        studies=[
            ReportStudy(
                study_id=study.study_instance_uid,
                study_description=study.study_description,
                received_first=study.received_first,
                not_analysed=study.not_analysed.sentence if study.not_analysed else None,
            )
            for study in report.studies
        ],
        lines=[
            ReportLine(
                kind=line.kind.value,
                what=line.what,
                action=line.action,
                who=line.who,
                role=line.role,
                study_id=line.study,
                first=line.first,
                last=line.last,
                times=line.times,
                outcome=line.outcome,
            )
            for line in report.lines
        ],
    )


def _opt_out(row: OptOutRow) -> OptOut:
    return OptOut(
        id=row.id,
        pseudonym=row.pseudonym,
        any_issuer=row.any_issuer,
        reason=row.reason,
        added_by=row.added_by,
        added_at=row.added_at,
        removed_by=row.removed_by,
        removed_at=row.removed_at,
        removal_reason=row.removal_reason,
    )
