"""What became of one patient's studies: who looked at them, analysed them, took them out. For the patient who asks.

The trail knows patients by a pseudonym only (`PatientIndex`); whoever asks brings the patient's identifier. What
somebody did several times to a study on one day is one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from overread.domain.audit import AuditAction, PatientRef
from overread.domain.study import TenantId
from overread.services.optout import known_number
from overread.services.ports import Clock, Database
from overread.services.values import OptOut, PatientEvents, StudyRow


class Kind(StrEnum):
    """What was done, in the words of the report."""

    LOOKED = "looked at"
    ANALYSED = "analysed by AI"
    EXPORTED = "taken out"
    RECEIVED = "received"
    OTHER = "other"


_A = AuditAction
_KINDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys((_A.STUDY_VIEW, _A.IMAGE_VIEW, _A.ANALYSIS_VIEW, _A.OUTLINES_VIEW), Kind.LOOKED),
    **dict.fromkeys(
        (_A.ANALYSIS_REQUESTED, _A.ANALYSIS_COMPLETED, _A.ANALYSIS_FAILED, _A.ANALYSIS_CANCELLED, _A.ANALYSIS_RETRIED),
        Kind.ANALYSED,
    ),
    **dict.fromkeys((_A.SR_DOWNLOAD, _A.SEG_DOWNLOAD, _A.EXPORT_MADE, _A.PATIENT_REPORT), Kind.EXPORTED),
    **dict.fromkeys((_A.UPLOAD, _A.STUDY_RECEIVED, _A.INSTANCE_QUARANTINED), Kind.RECEIVED),
}

#: For a person; what is not listed is said by the action's own name.
_WORDS: Final[Mapping[str, str]] = {
    _A.STUDY_VIEW: "opened the study",
    _A.IMAGE_VIEW: "looked at images",
    _A.ANALYSIS_VIEW: "read the AI's result",
    _A.OUTLINES_VIEW: "looked at outlines",
    _A.ANALYSIS_REQUESTED: "asked for the AI's reading",
    _A.ANALYSIS_COMPLETED: "AI read the study",
    _A.ANALYSIS_FAILED: "AI could not read the study",
    _A.ANALYSIS_CANCELLED: "cancelled the AI's reading",
    _A.ANALYSIS_RETRIED: "asked for the AI's reading again",
    _A.SR_DOWNLOAD: "downloaded the structured report",
    _A.SEG_DOWNLOAD: "downloaded the outlines",
    _A.EXPORT_MADE: "exported the study",
    _A.PATIENT_REPORT: "made such a report",
    _A.UPLOAD: "uploaded images",
    _A.STUDY_RECEIVED: "sent images",
    _A.INSTANCE_QUARANTINED: "sent an image that was put aside",
    _A.FEATURE_DENIED: "AI's reading not allowed",
    _A.PATIENT_OPTED_OUT: "recorded the patient's objection to AI",
    _A.PATIENT_OPTED_IN: "took the objection back",
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """Something that was done, once or several times on a day."""

    kind: Kind
    #: For a person: "looked at images".
    what: str
    action: str
    who: str
    role: str
    #: StudyInstanceUID (0020,000D); None where no study is meant, or it is gone.
    study: str | None
    first: datetime
    last: datetime
    times: int
    #: "success", "denied" or "failed".
    outcome: str


@dataclass(frozen=True, kw_only=True)
class PatientReport:
    """The answer to a patient."""

    patient_id: str
    issuer: str
    made_at: datetime
    made_by: str
    #: Newest first.
    studies: tuple[StudyRow, ...]
    #: Oldest first.
    lines: tuple[Line, ...]
    opt_out: OptOut | None


@dataclass(frozen=True, kw_only=True)
class PatientReportService:
    """Makes the report. Who may ask for one, the doors decide: admins, and the operator's command."""

    database: Database
    clock: Clock

    def report(self, tenant: TenantId, *, patient_id: str, issuer: str, by: str) -> PatientReport:
        """Of a patient; `issuer` "" means the number under any. Raises `InvalidRequest` without a number."""
        number, issuer = known_number(patient_id), issuer.strip()
        with self.database.unit(tenant) as unit:
            studies = unit.studies.of_patient(number, issuer)
            issuers = {issuer, *(s.issuer_of_patient_id for s in studies)}
            events = unit.patient_trail.of_patient(
                [PatientRef(issuer=i, patient_id=number) for i in sorted(issuers)], [s.id for s in studies]
            )
            opt_out = unit.opt_outs.find(number, issuer)
            unit.audit.record(
                AuditAction.PATIENT_REPORT, actor=by, patient=PatientRef(issuer=issuer, patient_id=number)
            )
        uids = {study.id: study.study_instance_uid for study in studies}
        return PatientReport(
            patient_id=number,
            issuer=issuer,
            made_at=self.clock(),
            made_by=by,
            studies=studies,
            lines=tuple(_line(event, uids) for event in events),
            opt_out=opt_out,
        )


def _line(event: PatientEvents, uids: Mapping[UUID, str]) -> Line:
    return Line(
        kind=_KINDS.get(event.action, Kind.OTHER),
        what=_WORDS.get(event.action, event.action.replace(".", " ").replace("_", " ")),
        action=event.action,
        who=event.actor,
        role=event.role,
        study=uids.get(event.study_id) if event.study_id is not None else None,
        first=event.first,
        last=event.last,
        times=event.times,
        outcome=event.outcome,
    )
