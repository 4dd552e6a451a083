"""Reading in the audit trail: search for admins, and sealed rows for whoever they are forwarded to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg

from overread.domain.audit import AuditEvent, AuditFilter
from overread.domain.study import TenantId
from overread.services.audit_chain import read_ranges
from overread.store.audit_seals import EVENT, event_of

if TYPE_CHECKING:
    from overread.store.database import Postgres

Connection = psycopg.Connection[tuple[Any, ...]]


class AuditLog:
    """Implements `services.trail_ports.AuditLog`. Every filter has an index that ends in time and id."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def search(self, flt: AuditFilter) -> tuple[AuditEvent, ...]:
        """Newest first."""
        clauses = {
            "actor = %(actor)s": flt.actor is not None,
            "action = %(action)s": flt.action is not None,
            "outcome = %(outcome)s": flt.outcome is not None,
            # The index of trouble holds nothing else.
            "outcome <> 'success'": flt.outcome is not None and flt.outcome.value != "success",
            "study_id = %(study)s": flt.study_id is not None,
            "patient = ANY(%(patients)s)": flt.patients is not None,
            "at >= %(from)s": flt.date_from is not None,
            "at <= %(to)s": flt.date_to is not None,
            "(at, id) < (%(at)s, %(id)s)": flt.before is not None,
        }
        where = " AND ".join(clause for clause, wanted in clauses.items() if wanted) or "true"
        at, number = flt.before or (None, None)
        rows = self._connection.execute(
            f"SELECT {EVENT} FROM audit_events WHERE {where} ORDER BY at DESC, id DESC LIMIT %(limit)s".encode(),  # noqa: S608
            {
                "actor": flt.actor,
                "action": flt.action.value if flt.action else None,
                "outcome": flt.outcome.value if flt.outcome else None,
                "study": flt.study_id,
                "patients": list(flt.patients or ()),
                "from": flt.date_from,
                "to": flt.date_to,
                "at": at,
                "id": number,
                "limit": flt.limit,
            },
        ).fetchall()
        return tuple(event_of(row) for row in rows)


class SealedLog:
    """Implements `services.audit_ports.SealedEvents` on one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def claim(self, name: str, now: datetime, until: datetime) -> int | None:
        """0 if nothing was forwarded under this name yet."""
        row = self._connection.execute(
            "INSERT INTO audit_cursors (name, seal, updated_at, leased_until) VALUES (%s, 0, %s, %s)"
            " ON CONFLICT (name) DO UPDATE SET leased_until = excluded.leased_until"
            " WHERE audit_cursors.leased_until IS NULL OR audit_cursors.leased_until < %s RETURNING seal",
            (name, now, until, now),
        ).fetchone()
        return int(row[0]) if row is not None else None

    def advance(self, name: str, seal: int, now: datetime, until: datetime | None) -> None:
        """Never backwards."""
        self._connection.execute(
            "UPDATE audit_cursors SET seal = greatest(seal, %s), updated_at = %s, leased_until = %s WHERE name = %s",
            (seal, now, until, name),
        )

    def next_seal(self, after: int) -> int | None:
        """In order of number."""
        row = self._connection.execute(
            "SELECT number FROM audit_seals WHERE number > %s AND kind = 'rows' ORDER BY number LIMIT 1", (after,)
        ).fetchone()
        return int(row[0]) if row is not None else None

    def events(self, seal: int) -> Iterator[AuditEvent]:
        """A seal has at most `ROWS_A_SEAL` rows."""
        row = self._connection.execute("SELECT ids::text FROM audit_seals WHERE number = %s", (seal,)).fetchone()
        ranges = read_ranges(row[0]) if row is not None else ()
        columns = ", ".join(f"e.{name.strip()}" for name in EVENT.split(","))
        rows = self._connection.execute(
            f"SELECT {columns} FROM unnest(%s::bigint[], %s::bigint[]) AS r (low, high) CROSS JOIN LATERAL"  # noqa: S608
            " (SELECT * FROM audit_events x WHERE x.id >= r.low AND x.id < r.high ORDER BY x.id) e"
            " ORDER BY e.id".encode(),
            ([low for low, _ in ranges], [high for _, high in ranges]),
        )
        for found in rows:
            yield event_of(found)

    def study_uids(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        """Of those that are still there."""
        rows = self._connection.execute(
            "SELECT id, study_instance_uid FROM studies WHERE id = ANY(%s)", (list(ids),)
        ).fetchall()
        return {row[0]: row[1] for row in rows}


class SealedLogs:
    """Opens them."""

    def __init__(self, database: Postgres) -> None:
        self._database = database

    @contextmanager
    def log(self, tenant: TenantId) -> Iterator[SealedLog]:
        """In one transaction of the tenant's own log-in."""
        with self._database.unit(tenant) as unit:
            yield SealedLog(unit.connection)
