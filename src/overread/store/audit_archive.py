"""What the owner does with audit trails: those of deleted tenants to the archive, and years that are over away."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import sqlalchemy
from psycopg import sql

from overread.domain.audit import AuditEvent
from overread.domain.errors import Conflict
from overread.domain.study import TenantId
from overread.services.audit_chain import DIGEST_BYTES, Range, Seal, SealKey, SealKind, ranges_of
from overread.store import roles
from overread.store.audit_partitions import partition
from overread.store.audit_partitions import years as _years
from overread.store.audit_seals import EVENT, PostgresLedger, PostgresTrail, event_of

Connection = psycopg.Connection[tuple[Any, ...]]

_ROW = (
    "tx, id, at, action, outcome, code, actor_kind, actor, user_id, role, session, address, channel, patient, study_id,"
    " facts"
)
_SEAL = (
    "number, kind, sealed_at, first_at, last_at, row_count, ids, seen, next_tx, settled, sha256, digests, previous,"
    " hash, key_id, signature"
)


@contextmanager
def owner_connection(engine: sqlalchemy.Engine) -> Iterator[Connection]:
    """A plain connection with the owner's log-in; commits at the end."""
    raw = engine.raw_connection()
    try:
        connection = raw.driver_connection
        assert isinstance(connection, psycopg.Connection)  # noqa: S101  the engine makes no other
        yield connection
        connection.commit()
    finally:
        raw.close()


class OwnerLedgers:
    """Implements `services.audit_ports.Ledgers` with the owner's log-in: for tenants that are not served."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        self._engine = engine

    @contextmanager
    def ledger(self, tenant: TenantId) -> Iterator[PostgresLedger]:
        """In one transaction."""
        with owner_connection(self._engine) as connection:
            yield PostgresLedger(connection, tenant)


def has_trail(connection: Connection, tenant: TenantId) -> bool:
    """Whether the tenant's schema is (still) there."""
    row = connection.execute("SELECT to_regclass(%s)", (f"{roles.tenant_role(tenant)}.audit_seals",)).fetchone()
    return row is not None and row[0] is not None


def archived(connection: Connection) -> tuple[TenantId, ...]:
    """Deleted tenants whose trail is in the archive."""
    rows = connection.execute("SELECT DISTINCT tenant FROM overread.audit_archive_seals ORDER BY tenant").fetchall()
    return tuple(TenantId(slug=row[0]) for row in rows)


def archive(connection: Connection, tenant: TenantId) -> int:
    """Copy rows and seals; those that are there stay. Returns how many rows the archive has of the tenant."""
    schema = roles.tenant_role(tenant)
    for table, target, columns in (
        ("audit_events", "audit_archive", _ROW),
        ("audit_seals", "audit_archive_seals", _SEAL),
    ):
        connection.execute(
            sql.SQL("INSERT INTO {} (tenant, {}) SELECT {}, {} FROM {} ON CONFLICT DO NOTHING").format(
                sql.Identifier(roles.SHARED_SCHEMA, target),
                sql.SQL(columns),
                sql.Literal(tenant.slug),
                sql.SQL(columns),
                sql.Identifier(schema, table),
            )
        )
    row = connection.execute("SELECT count(*) FROM overread.audit_archive WHERE tenant = %s", (tenant.slug,)).fetchone()
    return int(row[0]) if row is not None else 0


@dataclass(frozen=True, kw_only=True)
class Expired:
    """A year that was dropped, or would be."""

    year: int
    rows: int
    #: None in a dry run, and for an empty year.
    seal: Seal | None


def expirable(engine: sqlalchemy.Engine, tenant: TenantId, *, now: datetime, keep_years: int) -> tuple[int, ...]:
    """Years all of whose rows are older than `keep_years`."""
    with engine.connect() as connection:
        there = _years(connection, roles.tenant_role(tenant))
    return tuple(year for year in there if year + 1 + keep_years <= now.astimezone(UTC).year)


def rows_of_year(connection: Connection, tenant: TenantId, year: int) -> int:
    """How many there are."""
    table = sql.Identifier(roles.tenant_role(tenant), partition(year))
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
    return int(row[0]) if row is not None else 0


def expire(connection: Connection, tenant: TenantId, year: int, *, key: SealKey, now: datetime) -> Expired:
    """Drop a year's partition and remember in the chain what was in it; in the connection's transaction.

    Check the trail before. Raises `Conflict` if somebody sealed at the same moment, or rows have no seal.
    """
    schema = roles.tenant_role(tenant)
    table = sql.Identifier(schema, partition(year))
    ledger = PostgresLedger(connection, tenant)
    connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table))
    first, last_at, count = connection.execute(
        sql.SQL("SELECT min(at), max(at), count(*) FROM {}").format(table)
    ).fetchone() or (None, None, 0)
    seal: Seal | None = None
    if count:
        with connection.cursor("audit_expire") as cursor:
            cursor.execute(sql.SQL("SELECT id FROM {} ORDER BY id").format(table))
            ids = ranges_of(row[0] for row in cursor)
        before = ledger.last()
        if before is None:
            raise Conflict(f"Rows of {year} have no seal yet.", remedy="Start a worker, and try again in two minutes.")
        seal = Seal(
            number=before.number + 1,
            kind=SealKind.EXPIRY,
            sealed_at=now,
            first_at=first.astimezone(UTC),
            last_at=last_at.astimezone(UTC),
            row_count=count,
            ids=ids,
            seen=before.seen,
            next_tx=ledger.own_transaction(),
            settled=before.settled,
            sha256=_remembered(connection, tenant, ids),
            digests=b"",
            previous=before.hash_for(tenant.slug),
            key_id=key.key_id,
        )
        seal = replace(seal, signature=key.sign(seal.hash_for(tenant.slug)))
        if not ledger.add(seal, seal.hash_for(tenant.slug)):
            raise Conflict("Somebody sealed at the same moment.", remedy="Try again.")
    connection.execute(sql.SQL("DROP TABLE {}").format(table))
    return Expired(year=year, rows=count, seal=seal)


def _remembered(connection: Connection, tenant: TenantId, ids: tuple[Range, ...]) -> bytes:
    """SHA-256 over what the seals say of these rows, in order of seal and id; `services.audit_verify` does the same."""
    total = hashlib.sha256()
    starts = [low for low, _ in ids]
    for seal, _ in PostgresTrail(connection, tenant).seals():
        if seal.kind is not SealKind.ROWS:
            continue
        numbers = (n for low, high in seal.ids for n in range(low, high))
        for place, number in enumerate(numbers):
            if _inside(number, ids, starts):
                total.update(seal.digests[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES])
    return total.digest()


def _inside(number: int, ids: tuple[Range, ...], starts: list[int]) -> bool:
    at = bisect.bisect_right(starts, number) - 1
    return at >= 0 and number < ids[at][1]


def events(
    connection: Connection, tenant: TenantId, *, since: datetime | None, until: datetime | None
) -> Iterator[tuple[AuditEvent, str | None]]:
    """Rows in order of time, by a server-side cursor, with StudyInstanceUID where the study is still there."""
    schema = roles.tenant_role(tenant)
    columns = sql.SQL(", ").join(sql.SQL(f"e.{name.strip()}") for name in EVENT.split(","))
    query = sql.SQL(
        "SELECT {}, s.study_instance_uid FROM {} e LEFT JOIN {} s ON s.id = e.study_id"
        " WHERE (%(since)s::timestamptz IS NULL OR e.at >= %(since)s) AND (%(until)s::timestamptz IS NULL OR"
        " e.at < %(until)s) ORDER BY e.at, e.id"
    ).format(columns, sql.Identifier(schema, "audit_events"), sql.Identifier(schema, "studies"))
    with connection.cursor("audit_export") as cursor:
        cursor.itersize = 2000
        cursor.execute(query, {"since": since, "until": until})
        for row in cursor:
            yield event_of(row[:-1]), row[-1]
