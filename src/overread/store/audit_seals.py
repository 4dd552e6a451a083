"""Rows and seals of the audit trail as `services.audit_seal` and `services.audit_verify` want them.

Every column is read as text that no setting of a session changes, so that a row has the same bytes for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg
from psycopg import sql

from overread.domain.audit import Actor, ActorKind, AuditEvent
from overread.domain.study import TenantId
from overread.services.audit_chain import Range, RawRow, Seal, SealKind, read_ranges, write_ranges
from overread.store import roles

if TYPE_CHECKING:
    from overread.store.database import Postgres

Connection = psycopg.Connection[tuple[Any, ...]]

#: Of a row besides `id` and `at`, in the order in which they are hashed. New columns go to the end of a new label.
COLUMNS: Final = (
    "tx::text",
    "action",
    "outcome",
    "code",
    "actor_kind",
    "actor",
    "user_id::text",
    "role",
    "session",
    "address",
    "channel",
    "patient",
    "study_id::text",
    "facts::text",
)
_RAW: Final = "e.id, (extract(epoch FROM e.at) * 1000000)::bigint, " + ", ".join(f"e.{c}" for c in COLUMNS)
#: A range a time by the index on the id: a plain join on two inequalities reads the whole table.
_IN_RANGES: Final = (
    "SELECT {raw} FROM unnest(%s::bigint[], %s::bigint[]) AS r (low, high) CROSS JOIN LATERAL"
    " (SELECT * FROM {events} x WHERE x.id >= r.low AND x.id < r.high ORDER BY x.id) e ORDER BY e.id"
)
_SEAL: Final = (
    "number, kind, sealed_at, first_at, last_at, row_count, ids::text, seen, next_tx::text, settled, sha256, digests,"
    " previous, key_id, signature, hash"
)
_FETCH: Final = 2000


def _seal(row: tuple[Any, ...]) -> tuple[Seal, bytes]:
    return (
        Seal(
            number=row[0],
            kind=SealKind(row[1]),
            sealed_at=row[2].astimezone(UTC),
            first_at=row[3].astimezone(UTC),
            last_at=row[4].astimezone(UTC),
            row_count=row[5],
            ids=read_ranges(row[6]),
            seen=row[7],
            next_tx=int(row[8]),
            settled=row[9],
            sha256=row[10],
            digests=row[11],
            previous=row[12],
            key_id=row[13],
            signature=row[14],
        ),
        row[15],
    )


def _bounds(ranges: Sequence[Range]) -> tuple[list[int], list[int]]:
    return [low for low, _ in ranges], [high for _, high in ranges]


class PostgresLedger:
    """Implements `services.audit_ports.Ledger` on one transaction. `schema`: of the tenant; the owner may be inside."""

    def __init__(self, connection: Connection, tenant: TenantId) -> None:
        self._connection = connection
        schema = roles.tenant_role(tenant)
        self._events = sql.Identifier(schema, "audit_events")
        self._seals = sql.Identifier(schema, "audit_seals")

    def last(self) -> Seal | None:
        """The newest one."""
        row = self._ask("SELECT {columns} FROM {seals} ORDER BY number DESC LIMIT 1", ()).fetchone()
        return _seal(row)[0] if row is not None else None

    def hash_of(self, number: int) -> bytes | None:
        """As it is stored."""
        row = self._ask("SELECT hash FROM {seals} WHERE number = %s", (number,)).fetchone()
        return row[0] if row is not None else None

    def ids_above(self, settled: int) -> Iterator[Sequence[Range]]:
        """Ids of the seals of rows that may have any above `settled`."""
        query = "SELECT ids::text FROM {seals} WHERE seen > %s AND kind = 'rows' ORDER BY number"
        for (text,) in self._ask(query, (settled,)).fetchall():
            yield read_ranges(text)

    def rows(self, ranges: Sequence[Range], limit: int) -> list[RawRow]:
        """In order of id. The last range may be open: it is read by itself, so that nothing must be sorted."""
        *gaps, (low, high) = ranges
        found = self._ask(_IN_RANGES + " LIMIT %s", (*_bounds(gaps), limit)).fetchall() if gaps else []
        query = "SELECT {raw} FROM {events} e WHERE e.id >= %s AND e.id < %s ORDER BY e.id LIMIT %s"
        found += self._ask(query, (low, high, limit - len(found))).fetchall()
        return [RawRow(id=row[0], at_us=row[1], columns=row[2:]) for row in found]

    def transactions(self) -> tuple[int, int]:
        """(the oldest that still runs, one past the newest that is over)."""
        row = self._connection.execute(
            "SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text FROM pg_current_snapshot() s"
        ).fetchone()
        return (int(row[0]), int(row[1])) if row is not None else (0, 0)

    def own_transaction(self) -> int:
        """Given now at the latest."""
        row = self._connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        return int(row[0]) if row is not None else 0

    def seen_before(self, tx: int) -> int:
        """Of the newest seals only: the older ones are below it."""
        query = (
            "SELECT coalesce(max(seen), 0) FROM (SELECT seen, next_tx FROM {seals} ORDER BY number DESC LIMIT 1000) s"
            " WHERE next_tx::text::bigint <= %s"
        )
        row = self._ask(query, (tx,)).fetchone()
        return int(row[0]) if row is not None else 0

    def add(self, seal: Seal, digest: bytes) -> bool:
        """Waits for another sealer that adds the same number just now; False if it did."""
        query = (
            "INSERT INTO {seals} (number, kind, sealed_at, first_at, last_at, row_count, ids, seen, next_tx, settled,"
            " sha256, digests, previous, hash, key_id, signature) VALUES (%s, %s, %s, %s, %s, %s,"
            " %s::text::int8multirange, %s, %s::text::xid8, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (number) DO NOTHING"
        )
        done = self._ask(
            query,
            (
                seal.number,
                seal.kind.value,
                seal.sealed_at,
                seal.first_at,
                seal.last_at,
                seal.row_count,
                write_ranges(seal.ids),
                seal.seen,
                str(seal.next_tx),
                seal.settled,
                seal.sha256,
                seal.digests,
                seal.previous,
                digest,
                seal.key_id,
                seal.signature,
            ),
        )
        return done.rowcount == 1

    def _ask(self, query: str, values: Sequence[object]) -> psycopg.Cursor[tuple[Any, ...]]:
        return self._connection.execute(
            sql.SQL(query).format(columns=sql.SQL(_SEAL), raw=sql.SQL(_RAW), seals=self._seals, events=self._events),
            values,
        )


class PostgresLedgers:
    """Implements `services.audit_ports.Ledgers`."""

    def __init__(self, database: Postgres) -> None:
        self._database = database

    @contextmanager
    def ledger(self, tenant: TenantId) -> Iterator[PostgresLedger]:
        """In one transaction of the tenant's own log-in."""
        with self._database.unit(tenant) as unit:
            yield PostgresLedger(unit.connection, tenant)


class PostgresTrail:
    """Implements `services.audit_ports.TrailSource`: a live trail, or that of a deleted tenant.

    Reads with the owner's log-in in one REPEATABLE READ transaction, which the caller has begun: sealing goes on.
    """

    def __init__(self, connection: Connection, tenant: TenantId, *, archived: bool = False) -> None:
        self._connection = connection
        self.tenant = tenant
        name = roles.tenant_role(tenant)
        if archived:
            only = sql.SQL("(SELECT * FROM {} WHERE tenant = {})")
            self._events: sql.Composable = only.format(
                sql.Identifier(roles.SHARED_SCHEMA, "audit_archive"), sql.Literal(tenant.slug)
            )
            self._seals: sql.Composable = only.format(
                sql.Identifier(roles.SHARED_SCHEMA, "audit_archive_seals"), sql.Literal(tenant.slug)
            )
        else:
            self._events = sql.Identifier(name, "audit_events")
            self._seals = sql.Identifier(name, "audit_seals")

    def seals(self) -> Iterator[tuple[Seal, bytes]]:
        """In order, by a server-side cursor."""
        query = self._made("SELECT {columns} FROM {seals} s ORDER BY number")
        with self._connection.cursor("audit_seals_read") as cursor:
            cursor.itersize = 200
            cursor.execute(query)
            for row in cursor:
                yield _seal(row)

    def expiries(self) -> tuple[Seal, ...]:
        """Few."""
        query = self._made("SELECT {columns} FROM {seals} s WHERE kind = 'expiry' ORDER BY number")
        return tuple(_seal(row)[0] for row in self._connection.execute(query).fetchall())

    def count(self) -> int:
        """What the seals say: quick."""
        row = self._connection.execute(
            self._made("SELECT coalesce(sum(row_count), 0) FROM {seals} s WHERE kind = 'rows'")
        ).fetchone()
        return int(row[0]) if row is not None else 0

    def rows(self, ranges: Sequence[Range]) -> Iterator[RawRow]:
        """By a server-side cursor, in order of id."""
        query = self._made(_IN_RANGES)
        with self._connection.cursor("audit_rows_read") as cursor:
            cursor.itersize = _FETCH
            cursor.execute(query, _bounds(ranges))
            for row in cursor:
                yield RawRow(id=row[0], at_us=row[1], columns=row[2:])

    def _made(self, query: str) -> sql.Composed:
        return sql.SQL(query).format(columns=sql.SQL(_SEAL), raw=sql.SQL(_RAW), seals=self._seals, events=self._events)


#: Columns of an `AuditEvent`, in the order of `event_of`.
EVENT: Final = (
    "id, at, action, outcome, code, actor_kind, actor, user_id, role, session, address, channel, patient, study_id,"
    " facts"
)


def event_of(row: Sequence[Any]) -> AuditEvent:
    """A row of `EVENT`."""
    at: datetime = row[1]
    user_id: UUID | None = row[7]
    return AuditEvent(
        id=row[0],
        at=at.astimezone(UTC),
        action=row[2],
        outcome=row[3],
        code=row[4],
        actor=Actor(
            kind=ActorKind(row[5]),
            name=row[6],
            user_id=user_id,
            role=row[8],
            session=row[9],
            address=row[10],
            channel=row[11],
        ),
        patient=row[12],
        study_id=row[13],
        facts=row[14],
    )
