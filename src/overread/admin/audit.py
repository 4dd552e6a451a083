"""`overread audit`: check, export, search and expire audit trails; and where a deleted hospital's trail goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import sqlalchemy
import structlog

from overread import bootstrap
from overread.admin.connection import find_tenant, operator, owner
from overread.admin.record import put_on_record
from overread.config import Settings
from overread.domain.audit import AuditAction, AuditEvent, AuditFilter, PatientRef
from overread.domain.errors import Conflict, NotFound
from overread.domain.study import TenantId
from overread.exchange.syslog import FileSink
from overread.services.audit_chain import Anchor, SealKey
from overread.services.audit_ports import AuditSink
from overread.services.audit_seal import SealService
from overread.services.audit_search import AuditSearchService
from overread.services.audit_verify import TrailReport, verify
from overread.store import audit_archive, migrate
from overread.store.audit_anchors import FileAnchors
from overread.store.audit_seals import PostgresTrail

log = structlog.get_logger(__name__)

#: Told how many rows were read of how many: (tenant, rows read, rows in all).
Progress = Callable[[TenantId, int, int], None]


def _nothing(_tenant: TenantId, _rows: int, _of: int) -> None: ...


def anchors(settings: Settings) -> FileAnchors:
    """Where the last seals are remembered."""
    return FileAnchors(settings.state_dir / "audit")


def check(settings: Settings, tenant: str | None, progress: Progress = _nothing) -> list[tuple[TrailReport, bool]]:
    """Reports of all trails or of one, and whether it is a deleted tenant's. Raises `NotFound`."""
    with owner(settings) as engine:
        found = [(t, archived) for t, archived in _trails(engine) if tenant is None or t.slug == tenant]
        if tenant is not None and not found:
            raise NotFound(f"There is no audit trail of a tenant {tenant!r}.", remedy="See `overread tenant list`.")
        return [(_check_one(settings, engine, t, archived, progress), archived) for t, archived in found]


def _trails(engine: sqlalchemy.Engine) -> Iterator[tuple[TenantId, bool]]:
    with audit_archive.owner_connection(engine) as connection:
        gone = audit_archive.archived(connection)
        live = [t for t in migrate.list_tenants(engine) if audit_archive.has_trail(connection, t)]
    yield from ((t, False) for t in live)
    yield from ((t, True) for t in gone if t not in live)


def _check_one(
    settings: Settings, engine: sqlalchemy.Engine, tenant: TenantId, archived: bool, progress: Progress
) -> TrailReport:
    key, kept = SealKey(settings.secret()), anchors(settings)
    # Before the database is read: what is sealed meanwhile is not missed.
    anchor, lost = kept.last(tenant), kept.lost(tenant)
    with audit_archive.owner_connection(engine) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        source = PostgresTrail(connection, tenant, archived=archived)
        total = source.count()
        return verify(
            source,
            keys={key.key_id: key.public},
            anchor=anchor,
            lost=lost,
            progress=lambda rows: progress(tenant, rows, total),
        )


def archive_tenant_audit(settings: Settings, engine: sqlalchemy.Engine, tenant: TenantId) -> int:
    """Seal what is not sealed yet, and copy rows and seals to the archive; how many rows that has. May be run again.

    Call it while the tenant's schema is still there and nobody writes to it any more. Patients stay pseudonyms, and the
    key that made them goes with the tenant.
    """
    with audit_archive.owner_connection(engine) as connection:
        there = audit_archive.has_trail(connection, tenant)
    if not there:
        return 0
    SealService(
        ledgers=audit_archive.OwnerLedgers(engine),
        anchors=anchors(settings),
        key=SealKey(settings.secret()),
        clock=bootstrap.now,
    ).run(tenant)
    with audit_archive.owner_connection(engine) as connection:
        return audit_archive.archive(connection, tenant)


def expire(settings: Settings, tenant: str | None, *, dry_run: bool) -> list[tuple[TenantId, audit_archive.Expired]]:
    """Drop years that are over. Raises `Conflict` for a trail that does not check out: it stays as it is."""
    done: list[tuple[TenantId, audit_archive.Expired]] = []
    with owner(settings) as engine:
        tenants = migrate.list_tenants(engine) if tenant is None else (find_tenant(engine, tenant),)
        for one in tenants:
            years = audit_archive.expirable(engine, one, now=bootstrap.now(), keep_years=settings.audit_years)
            if years and not dry_run:
                _must_be_good(_check_one(settings, engine, one, False, _nothing))
            done.extend((one, _expire_year(settings, engine, one, year, dry_run)) for year in years)
    return done


def _must_be_good(report: TrailReport) -> None:
    if not report.good:
        raise Conflict(
            f"The trail of {report.tenant} does not check out, so nothing of it is dropped.",
            remedy=f"See `overread audit verify --tenant {report.tenant}`.",
        )


def _expire_year(
    settings: Settings, engine: sqlalchemy.Engine, tenant: TenantId, year: int, dry_run: bool
) -> audit_archive.Expired:
    with audit_archive.owner_connection(engine) as connection:
        if dry_run:
            rows = audit_archive.rows_of_year(connection, tenant, year)
            return audit_archive.Expired(year=year, rows=rows, seal=None)
        gone = audit_archive.expire(connection, tenant, year, key=SealKey(settings.secret()), now=bootstrap.now())
    if gone.seal is not None:
        digest = gone.seal.hash_for(tenant.slug).hex()
        anchors(settings).put(
            tenant,
            Anchor(number=gone.seal.number, hash=digest, sealed_at=gone.seal.sealed_at.isoformat(timespec="seconds")),
        )
        log.info("audit.expired", tenant=tenant.slug, year=year, rows=gone.rows, seal=gone.seal.number, hash=digest)
    put_on_record(
        settings,
        engine,
        tenant,
        AuditAction.AUDIT_EXPIRED,
        operator(),
        f"older than {settings.audit_years} years",
        {"year": year, "rows": gone.rows},
    )
    return gone


def export(
    settings: Settings,
    tenant: str,
    *,
    since: datetime | None,
    until: datetime | None,
    sink: AuditSink,
    framed: bool,
    progress: Callable[[int], None] = lambda _rows: None,
) -> int:
    """DICOM audit messages of a time to `sink`, as they are or (`framed`) as syslog messages; how many.

    The export is on record itself. Raises `AuditReceiverUnavailable`.
    """
    render = bootstrap.audit_render() if framed else bootstrap.audit_xml()
    count = 0
    with owner(settings) as engine:
        found = find_tenant(engine, tenant)

        def messages(rows: Iterator[tuple[AuditEvent, str | None]]) -> Iterator[bytes]:
            nonlocal count
            for event, study_uid in rows:
                count += 1
                progress(count)
                yield render(found, event, study_uid)

        with audit_archive.owner_connection(engine) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            sink.send(messages(audit_archive.events(connection, found, since=since, until=until)))
        put_on_record(
            settings,
            engine,
            found,
            AuditAction.AUDIT_EXPORTED,
            operator(),
            "DICOM audit messages",
            {
                "rows": count,
                "since": since.isoformat() if since else None,
                "until": until.isoformat() if until else None,
            },
        )
    return count


def search(
    settings: Settings, tenant: str, flt: AuditFilter, patient: PatientRef | None = None
) -> tuple[AuditEvent, ...]:
    """Rows of a tenant, newest first; the search is on record itself. Raises `TenantSuspended`."""
    with owner(settings) as engine:
        found = find_tenant(engine, tenant)
    database = bootstrap.database(settings)
    try:
        return AuditSearchService(database=database).page(found, flt, operator(), patient).events
    finally:
        database.close()


@contextmanager
def file_sink(path: Path | None) -> Iterator[AuditSink]:
    """A file that only its owner can read, or standard output."""
    if path is None:
        yield FileSink(sys.stdout.buffer)
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        yield FileSink(handle)
