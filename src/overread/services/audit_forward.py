"""Forward the audit trail to a receiver outside: sealed rows, seal by seal, with a cursor in the database.

What is forwarded is what was sealed, so nothing that commits late is passed by. The cursor moves only after the
receiver has taken everything: while it is down nothing is lost and nobody waits; later some rows may come twice.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol
from uuid import UUID

import structlog

from overread.domain.audit import AuditEvent
from overread.domain.study import TenantId
from overread.services.audit_ports import AuditSink, SealedEvents
from overread.services.ports import Clock

log = structlog.get_logger(__name__)

#: Rows of one connection, about.
_ROWS_A_BATCH: Final = 5_000
#: Batches of one run, so that every tenant has its turn.
_BATCHES: Final = 20
#: A worker that was killed while it sent is waited for so long; meanwhile nobody else sends the same.
_LEASE: Final = timedelta(minutes=5)

#: A row as the message that goes out: (tenant, row, StudyInstanceUID or None).
Render = Callable[[TenantId, AuditEvent, str | None], bytes]


class SealedLogs(Protocol):
    """`store.audit_log.SealedLogs`."""

    def log(self, tenant: TenantId) -> AbstractContextManager[SealedEvents]: ...


@dataclass(frozen=True, kw_only=True)
class ForwardService:
    """Sends what is sealed and was not sent."""

    logs: SealedLogs
    sink: AuditSink
    render: Render
    clock: Clock
    #: Of the cursor: another receiver is another name.
    name: str = "syslog"

    def run(self, tenant: TenantId) -> int:
        """How many rows were taken. Raises `AuditReceiverUnavailable`; what was not taken is sent next time."""
        with self.logs.log(tenant) as sealed:
            now = self.clock()
            last = sealed.claim(self.name, now, now + _LEASE)
        if last is None:
            return 0
        sent = 0
        try:
            for _ in range(_BATCHES):
                batch, upto = self._batch(tenant, last)
                if not batch:
                    break
                self.sink.send(batch)
                sent, last = sent + len(batch), upto
                self._keep(tenant, last, lease=True)
        finally:
            self._keep(tenant, last, lease=False)
        if sent:
            log.info("audit.forwarded", tenant=tenant.slug, rows=sent)
        return sent

    def _keep(self, tenant: TenantId, last: int, *, lease: bool) -> None:
        with self.logs.log(tenant) as sealed:
            now = self.clock()
            sealed.advance(self.name, last, now, now + _LEASE if lease else None)

    def _batch(self, tenant: TenantId, last: int) -> tuple[list[bytes], int]:
        """Whole seals; no transaction is open while they are sent."""
        events: list[AuditEvent] = []
        with self.logs.log(tenant) as sealed:
            while len(events) < _ROWS_A_BATCH:
                number = sealed.next_seal(last)
                if number is None:
                    break
                events.extend(sealed.events(number))
                last = number
            uids = sealed.study_uids(sorted({e.study_id for e in events if e.study_id is not None}))
        return [self.render(tenant, event, _uid(uids, event.study_id)) for event in events], last


def _uid(uids: dict[UUID, str], study_id: UUID | None) -> str | None:
    return uids.get(study_id) if study_id is not None else None
