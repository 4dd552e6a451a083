"""What happens again and again is one row a minute, not one each time: the slices of a CT, a worklist that reloads.

The first time a row is written at once, in the caller's transaction: that somebody looked is never lost. What follows
is counted in memory and written once a minute; a process that is killed loses a minute of counts, and nothing else.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog

from overread.domain.audit import Actor, AuditAction, AuditOutcome, PatientRef
from overread.domain.errors import OverreadError
from overread.domain.study import TenantId
from overread.services import acting
from overread.services.ports import Clock, Database
from overread.services.trail_ports import AuditTrail

log = structlog.get_logger(__name__)

WINDOW_S: Final = 60.0
#: How often it is looked whose minute is over.
_EVERY_S: Final = 5.0
#: More keys than this are not remembered: each then has its row.
_KEYS: Final = 20_000


@dataclass(frozen=True, kw_only=True)
class _Key:
    tenant: TenantId
    action: AuditAction
    actor: str
    session: str
    address: str
    study_id: UUID | None
    outcome: AuditOutcome
    code: str


@dataclass(kw_only=True)
class _Count:
    actor: Actor
    patient: PatientRef | None
    #: Of the window, monotonic.
    since: float
    count: int = 0
    first: datetime | None = None
    last: datetime | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Tally:
    """Counts of one process."""

    def __init__(
        self, database: Database, *, clock: Clock, monotonic: Callable[[], float], window_s: float = WINDOW_S
    ) -> None:
        self._database = database
        self._clock = clock
        self._monotonic = monotonic
        self._window_s = window_s
        self._counts: dict[_Key, _Count] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def record(
        self,
        trail: AuditTrail,
        tenant: TenantId,
        action: AuditAction,
        *,
        actor: Actor | str,
        study_id: UUID | None = None,
        patient: PatientRef | None = None,
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
        code: str = "",
        **facts: Any,
    ) -> None:
        """A row in `trail` now if it is the first of its kind (who, what, study, outcome) for a while, else a count.

        A transaction that is rolled back afterwards takes the row with it, and the next of its kind is only counted:
        use it where nothing can fail any more.
        """
        who = acting.resolve(actor)
        key = _Key(
            tenant=tenant,
            action=action,
            actor=who.name,
            session=who.session,
            address=who.address,
            study_id=study_id,
            outcome=outcome,
            code=code,
        )
        if self._is_known(key, who, patient, facts):
            return
        trail.record(action, actor=who, study_id=study_id, patient=patient, outcome=outcome, code=code, **facts)

    def _is_known(self, key: _Key, who: Actor, patient: PatientRef | None, facts: dict[str, Any]) -> bool:
        now = self._clock()
        with self._lock:
            kept = self._counts.get(key)
            if kept is not None:
                kept.count += 1
                kept.first = kept.first or now
                kept.last = now
                return True
            if len(self._counts) < _KEYS:
                self._counts[key] = _Count(actor=who, patient=patient, since=self._monotonic(), facts=facts)
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(
                    target=_flush_forever, args=(weakref.ref(self), self._closed), name="audit tally", daemon=True
                )
                self._thread.start()
        return False

    def flush(self, *, everything: bool = False) -> int:
        """Write the counts whose minute is over, or all; returns how many rows. What cannot be written is kept."""
        now = self._monotonic()
        with self._lock:
            due = {k: c for k, c in self._counts.items() if everything or now - c.since >= self._window_s}
            for key, kept in due.items():
                if kept.count and not everything:
                    # It goes on: what comes is counted, and nothing is written at once again.
                    self._counts[key] = _Count(actor=kept.actor, patient=kept.patient, since=now, facts=kept.facts)
                else:
                    del self._counts[key]
        written = 0
        for key, kept in due.items():
            if kept.count and self._write(key, kept):
                written += 1
        return written

    def _write(self, key: _Key, kept: _Count) -> bool:
        try:
            with self._database.unit(key.tenant) as unit:
                unit.audit.record(
                    key.action,
                    actor=kept.actor,
                    study_id=key.study_id,
                    patient=kept.patient,
                    outcome=key.outcome,
                    code=key.code,
                    **{
                        **kept.facts,
                        "count": kept.count,
                        "first": kept.first.isoformat() if kept.first else None,
                        "last": kept.last.isoformat() if kept.last else None,
                    },
                )
        except OverreadError as error:
            log.warning("audit counts postponed", tenant=key.tenant.slug, code=error.code)
            with self._lock:
                newer = self._counts.get(key)
                if newer is None:
                    self._counts[key] = kept
                else:
                    newer.count += kept.count
                    newer.first = kept.first or newer.first
                    newer.last = newer.last or kept.last
            return False
        return True

    def close(self) -> None:
        """Write everything and stop."""
        self._closed.set()
        self.flush(everything=True)


def _flush_forever(tally: weakref.ref[Tally], closed: threading.Event) -> None:
    while not closed.wait(_EVERY_S):
        here = tally()
        if here is None:
            return
        here.flush()
        del here
