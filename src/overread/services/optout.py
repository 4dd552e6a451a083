"""Patients who do not want to be read by AI: put on the list, taken off it, asked about.

Whoever is on the list is not analysed from then on: nothing new is begun, what waits or runs is cancelled. Results that
were there before stay, and say that they are from before.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from overread.domain.analysis import AnalysisStatus
from overread.domain.audit import AuditAction, PatientRef
from overread.domain.errors import Conflict, InvalidRequest, NotFound
from overread.domain.features import NotAnalysed
from overread.domain.ids import uuid7
from overread.domain.study import TenantId
from overread.services.gate import objected, turn_away
from overread.services.ports import Clock, Database, UnitOfWork
from overread.services.values import OptOut, StudyRow

REASON_AT_MOST = 500
LISTED_AT_MOST = 1000
#: What modalities fill in for "we do not know": they name everybody.
_PLACEHOLDERS = frozenset(
    {"UNKNOWN", "UNKNOWN^UNKNOWN", "ANONYMOUS", "ANONYMIZED", "ANON", "NONE", "NA", "N/A", "TEST"}
)


@dataclass(frozen=True, kw_only=True)
class OptedOut:
    """What an objection did."""

    opt_out: OptOut
    #: Studies of the patient that are here.
    studies: int
    #: Analyses that were waiting or running and are cancelled.
    cancelled: int


@dataclass(frozen=True, kw_only=True)
class OptOutService:
    """The list of one tenant. Who may use it, the doors decide: admins and technicians, and the operator's command."""

    database: Database
    clock: Clock

    def add(self, tenant: TenantId, *, patient_id: str, issuer: str, reason: str, by: str) -> OptedOut:
        """Put a patient on the list.

        `issuer` "" means the number under any issuer. Raises `InvalidRequest` (no number, one that names nobody, no
        reason) or `Conflict` (is on it already).
        """
        number, issuer = known_number(patient_id), issuer.strip()
        said = _reason(reason)
        now = self.clock()
        made = uuid7()
        with self.database.unit(tenant) as unit:
            if not unit.opt_outs.add(made, number, issuer, said, by, now):
                raise Conflict("This patient is on the list already.")
            kept = next(o for o in unit.opt_outs.all(with_removed=False, limit=LISTED_AT_MOST) if o.id == made)
            studies = _studies(unit, number, issuer)
            cancelled = sum(_cancel(unit, study, objected(kept, now), by) for study in studies)
            unit.audit.record(
                AuditAction.PATIENT_OPTED_OUT,
                actor=by,
                patient=PatientRef(issuer=issuer, patient_id=number),
                opt_out=str(made),
                any_issuer=not issuer,
                cancelled=cancelled,
            )
        return OptedOut(opt_out=kept, studies=len(studies), cancelled=cancelled)

    def remove(self, tenant: TenantId, opt_out: UUID, *, reason: str, by: str) -> None:
        """Take a patient off the list: what comes from now on is read again. Raises `NotFound`, `InvalidRequest`."""
        said = _reason(reason)
        with self.database.unit(tenant) as unit:
            if not unit.opt_outs.remove(opt_out, said, by, self.clock()):
                raise NotFound("There is no such objection on the list.")
            unit.audit.record(AuditAction.PATIENT_OPTED_IN, actor=by, opt_out=str(opt_out))

    def find(self, tenant: TenantId, *, patient_id: str, issuer: str = "") -> OptOut | None:
        """The objection that holds for a patient now. Raises `InvalidRequest` without a number."""
        number = known_number(patient_id)
        with self.database.unit(tenant) as unit:
            return unit.opt_outs.find(number, issuer.strip())

    def all(self, tenant: TenantId, *, by: str, with_removed: bool = False) -> tuple[OptOut, ...]:
        """Newest first, at most 1,000."""
        with self.database.unit(tenant) as unit:
            unit.audit.record(AuditAction.OPT_OUTS_VIEW, actor=by)
            return unit.opt_outs.all(with_removed=with_removed, limit=LISTED_AT_MOST)


def known_number(patient_id: str) -> str:
    """PatientID (0010,0020) as it is compared. Raises `InvalidRequest` for one that names nobody."""
    number = patient_id.strip()
    if not number or len(number) > 64 or not number.isprintable():
        raise InvalidRequest("The patient id must have 1 to 64 letters.", parameter="patientId")
    if number.upper() in _PLACEHOLDERS or not number.strip("0"):
        raise InvalidRequest("This patient id is a placeholder: it names everybody without one.", parameter="patientId")
    return number


def _reason(reason: str) -> str:
    said = " ".join(reason.split())
    if not said or len(said) > REASON_AT_MOST:
        raise InvalidRequest(f"The reason must have 1 to {REASON_AT_MOST} letters.", parameter="reason")
    return said


def _studies(unit: UnitOfWork, number: str, issuer: str) -> tuple[StudyRow, ...]:
    """Those that the objection holds for: an image without an issuer is anybody's with this number."""
    names = {"", issuer.casefold()}
    every = unit.studies.of_patient(number, "")
    return tuple(s for s in every if not issuer or s.issuer_of_patient_id.strip().casefold() in names)


def _cancel(unit: UnitOfWork, study: StudyRow, why: NotAnalysed, by: str) -> bool:
    """Cancel what waits or runs. True if there was something."""
    row = unit.analyses.latest_for_study(study.id)
    if row is None or row.superseded or row.status not in (AnalysisStatus.PENDING, AnalysisStatus.PROCESSING):
        return False
    turn_away(unit, study, why, actor=by, analysis=row.id)
    return True
