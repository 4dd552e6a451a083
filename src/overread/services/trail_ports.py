"""The audit trail as the use cases write and read it; `audit_ports` is what sealing and forwarding need."""

from __future__ import annotations

from typing import Any, Protocol
from uuid import UUID

from overread.domain.audit import Actor, AuditAction, AuditEvent, AuditFilter, AuditOutcome, PatientRef


class AuditTrail(Protocol):
    """Who did what to which study: rows that are only ever added to."""

    def record(
        self,
        action: AuditAction,
        *,
        actor: Actor | str,
        study_id: UUID | None = None,
        patient: PatientRef | None = None,
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
        code: str = "",
        address: str = "",
        channel: str = "",
        **facts: Any,
    ) -> None:
        """Never waits for another writer. `facts` are plain JSON and name no patient; who it is goes into `patient`
        (a study's own one if it is left out) and is kept as a keyed hash. A name as `actor` is completed by who acts
        just now (`services.acting`). `code` is the error's of what was denied or failed.
        """
        ...


class AuditLog(Protocol):
    """The trail to read in."""

    def search(self, flt: AuditFilter) -> tuple[AuditEvent, ...]:
        """Newest first, at most `flt.limit`."""
        ...
