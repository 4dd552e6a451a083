"""Search in the audit trail, for admins of the tenant. Who searches is on record too."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from overread.domain.audit import Actor, AuditAction, AuditEvent, AuditFilter, PatientRef
from overread.domain.errors import InvalidRequest
from overread.domain.study import TenantId
from overread.services.ports import Database, UnitOfWork

#: Rows of a page at most, and of an export's.
MOST: Final = 200
_EXPORT_PAGE: Final = 2000
#: Rows of one export: more go out as DICOM audit messages, by the operator.
EXPORTED_AT_MOST: Final = 100_000


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of the trail."""

    events: tuple[AuditEvent, ...]
    #: Where the next one begins; None at the end.
    next: str | None
    #: What was asked for, with pseudonyms in place of a patient id.
    flt: AuditFilter


@dataclass(frozen=True, kw_only=True)
class AuditSearchService:
    """What admins see of their hospital's trail."""

    database: Database

    def page(self, tenant: TenantId, flt: AuditFilter, by: Actor | str, patient: PatientRef | None = None) -> Page:
        """Newest first. `patient` is asked for by its number; an empty issuer means any."""
        with self.database.unit(tenant) as unit:
            wanted = replace(flt, limit=min(flt.limit, MOST))
            if patient is not None:
                wanted = replace(wanted, patients=pseudonyms(unit, patient))
            found = unit.audit_log.search(replace(wanted, limit=wanted.limit + 1))
            unit.audit.record(AuditAction.AUDIT_VIEW, actor=by, patient=patient, **_asked(wanted))
        more = len(found) > wanted.limit
        events = found[: wanted.limit]
        return Page(events=events, next=write_cursor(events[-1]) if more else None, flt=wanted)

    def pseudonyms_of(self, tenant: TenantId, patient: PatientRef, by: Actor | str) -> tuple[str, ...]:
        """What the trail calls a patient. That somebody asked is on record."""
        with self.database.unit(tenant) as unit:
            unit.audit.record(AuditAction.AUDIT_VIEW, actor=by, patient=patient)
            return pseudonyms(unit, patient)

    def export(self, tenant: TenantId, flt: AuditFilter, by: Actor | str) -> Iterator[AuditEvent]:
        """All rows of a search, page by page, up to `EXPORTED_AT_MOST`; on record before the first one leaves."""
        with self.database.unit(tenant) as unit:
            unit.audit.record(AuditAction.AUDIT_EXPORTED, actor=by, **_asked(flt))
        return self._rows(tenant, replace(flt, limit=_EXPORT_PAGE))

    def _rows(self, tenant: TenantId, flt: AuditFilter) -> Iterator[AuditEvent]:
        count = 0
        while count < EXPORTED_AT_MOST:
            with self.database.unit(tenant) as unit:
                found = unit.audit_log.search(flt)
            yield from found
            count += len(found)
            if len(found) < flt.limit:
                return
            flt = replace(flt, before=(found[-1].at, found[-1].id))


def pseudonyms(unit: UnitOfWork, patient: PatientRef) -> tuple[str, ...]:
    """What the trail calls a patient: one for each issuer that the number is known under, if none is given."""
    issuers = {patient.issuer}
    if not patient.issuer:
        issuers |= {study.issuer_of_patient_id for study in unit.studies.of_patient(patient.patient_id, "")}
    return tuple(sorted({unit.patient_index.blind(issuer, patient.patient_id).hex() for issuer in issuers}))


def _asked(flt: AuditFilter) -> Mapping[str, Any]:
    values = {
        "asked_actor": flt.actor,
        "asked_action": flt.action.value if flt.action else None,
        "asked_outcome": flt.outcome.value if flt.outcome else None,
        "asked_study": str(flt.study_id) if flt.study_id else None,
        "asked_patients": list(flt.patients) if flt.patients is not None else None,
        "from": flt.date_from.isoformat() if flt.date_from else None,
        "to": flt.date_to.isoformat() if flt.date_to else None,
    }
    return {key: value for key, value in values.items() if value is not None}


def write_cursor(event: AuditEvent) -> str:
    """Where a list goes on after this row."""
    return base64.urlsafe_b64encode(f"{event.at.isoformat()} {event.id}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> tuple[datetime, int]:
    """Raises `InvalidRequest`."""
    try:
        at, number = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").split(" ")
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None or not 0 < int(number) < 2**63:
            raise ValueError(text)
    except (ValueError, binascii.Error) as error:
        raise InvalidRequest("The parameter cursor is not one of ours.", parameter="cursor") from error
    return moment.astimezone(UTC), int(number)
