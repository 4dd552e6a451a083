"""Seven years, deleted hospitals, receivers that are away, and the command that checks it all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from alembic import command
from typer.testing import CliRunner

from overread import bootstrap
from overread.admin import audit as admin
from overread.bootstrap import Overread
from overread.cli import app
from overread.config import Settings
from overread.domain.audit import AuditAction, AuditEvent
from overread.domain.errors import AuditReceiverUnavailable, Conflict
from overread.domain.study import TenantId
from overread.services.audit_forward import ForwardService
from overread.services.audit_verify import Fault, verify
from overread.store import audit_archive, audit_partitions, migrate, roles, tenant_rows
from overread.store.audit_log import SealedLogs
from overread.store.audit_seals import PostgresTrail
from tests.integration.audit_trail import DOCTOR, Trail, owner, sealed, trail
from tests.integration.records import SENDER, record

__all__ = ["owner", "sealed", "trail"]

NOW = datetime.now(UTC)


def _old_rows(trail: Trail, *years: int) -> None:
    """Rows of earlier years, as they were when these years were now."""
    for year in years:
        trail.sql(
            "INSERT INTO audit_events (at, action, actor, actor_kind)"
            f" SELECT make_timestamptz({year}, 7, 1, n, 0, 0, 'UTC'), 'login', 'old', 'person'"
            " FROM generate_series(1, 5) n"
        )


@contextmanager
def _raw(engine: sqlalchemy.Engine) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with audit_archive.owner_connection(engine) as connection:
        yield connection


# --- partitions --------------------------------------------------------------------------------------------


def test_rows_of_an_older_version_are_moved(
    settings: Settings, owner_engine: sqlalchemy.Engine, overread: Overread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running installation migrates: its rows lie in the partitions of their years, with their numbers."""
    hospital = TenantId(slug="older")
    schema = roles.tenant_role(hospital)
    upgrade = command.upgrade
    monkeypatch.setattr(command, "upgrade", lambda config, _: upgrade(config, "tenant_0003"))
    with owner_engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    migrate._upgrade(owner_engine, schema, "tenant")
    monkeypatch.undo()
    with owner_engine.begin() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO {schema}.audit_events (at, action, actor, study_id, facts) VALUES"
            " ('2019-03-01', 'study.view', 'ann', gen_random_uuid(), '{\"analysis_id\": \"x\"}'),"
            " ('2024-12-31 23:59:59.999999+00', 'login', 'ann', NULL, '{\"address\": \"10.0.0.1\"}'),"
            " ('2025-01-01 00:00:00+00', 'login.failed', 'ann', NULL, '{}'),"
            " (now(), 'analysis.completed', 'worker', NULL, '{}')"
        )
    migrate.create_tenant(owner_engine, settings.secret(), hospital, "Older")
    with _raw(owner_engine) as connection:
        connection.execute(f"SET search_path = {schema}".encode())
        rows = connection.execute(
            "SELECT id, tableoid::regclass::text, outcome, actor_kind, address FROM audit_events ORDER BY id"
        ).fetchall()
        years = audit_partitions.years(owner_engine.connect(), schema)
    this = datetime.now(UTC).year
    assert rows == [
        (1, "audit_events_2019", "success", "person", ""),
        (2, "audit_events_2024", "success", "person", "10.0.0.1"),
        (3, "audit_events_2025", "failed", "person", ""),
        (4, f"audit_events_{this}", "success", "system", ""),
    ]
    assert set(years) == {2019, 2024, 2025, this, this + 1, this + 2}
    with overread.database.unit(hospital) as unit:
        unit.audit.record(AuditAction.LOGIN, actor=DOCTOR)
    with _raw(owner_engine) as connection:
        assert connection.execute(f"SELECT max(id) FROM {schema}.audit_events".encode()).fetchone() == (5,)


def test_a_year_without_a_partition_waits_in_the_default_one(trail: Trail, owner_engine: sqlalchemy.Engine) -> None:
    """A clock that jumped, or a server that ran for years: nothing fails, and the next start puts it right."""
    far = NOW.year + 5
    _old_rows(trail, far)
    assert trail.sql("SELECT count(*) FROM audit_events_other") == [(5,)]
    assert trail.seal() == 5
    with owner_engine.begin() as connection:
        audit_partitions.ensure(connection, trail.schema)
    assert trail.sql("SELECT count(*) FROM audit_events_other") == [(0,)]
    assert trail.sql(f"SELECT count(*) FROM audit_events_{far}") == [(5,)]
    assert trail.check().good


# --- expiry ------------------------------------------------------------------------------------------------


def _with_old_years(trail: Trail, engine: sqlalchemy.Engine) -> None:
    _old_rows(trail, 2015, 2016)
    trail.write(2)
    trail.seal()
    _old_rows(trail, NOW.year - 7)
    trail.seal()
    with engine.begin() as connection:
        audit_partitions.ensure(connection, trail.schema)


def _expire(trail: Trail, engine: sqlalchemy.Engine) -> list[audit_archive.Expired]:
    done = []
    for year in audit_archive.expirable(engine, trail.tenant, now=NOW, keep_years=7):
        with _raw(engine) as connection:
            done.append(audit_archive.expire(connection, trail.tenant, year, key=trail.key, now=bootstrap.now()))
    return done


def test_years_that_are_over_go_and_their_seals_remember(trail: Trail, owner_engine: sqlalchemy.Engine) -> None:
    _with_old_years(trail, owner_engine)
    # Rows that were put in today with old times are told: they are not what this test is about.
    assert {p.fault for p in trail.check().problems} <= {Fault.BACKDATED}
    gone = _expire(trail, owner_engine)
    assert [(e.year, e.rows) for e in gone] == [(2015, 5), (2016, 5)]
    assert trail.sql("SELECT count(*) FROM audit_events") == [(7,)]
    report = trail.check()
    assert {p.fault for p in report.problems} <= {Fault.BACKDATED}
    assert (report.expired, report.rows, report.seals) == (10, 7, 4)
    trail.write(3)
    assert trail.seal() == 3
    assert {p.fault for p in trail.check().problems} <= {Fault.BACKDATED}


def test_what_was_not_expired_cannot_hide_behind_an_expiry(trail: Trail, owner_engine: sqlalchemy.Engine) -> None:
    _with_old_years(trail, owner_engine)
    _expire(trail, owner_engine)
    trail.sql(f"DELETE FROM audit_events WHERE id = (SELECT max(id) FROM audit_events_{NOW.year - 7})")
    assert Fault.MISSING in {p.fault for p in trail.check().problems}
    trail.sql("UPDATE audit_seals SET ids = '{[1,100)}' WHERE kind = 'expiry'")
    assert {Fault.SEAL_CHANGED, Fault.EXPIRY_WRONG} <= {p.fault for p in trail.check().problems}


def test_a_trail_that_does_not_check_out_is_not_dropped(
    settings: Settings, trail: Trail, owner_engine: sqlalchemy.Engine
) -> None:
    _old_rows(trail, 2015)
    with owner_engine.begin() as connection:
        audit_partitions.ensure(connection, trail.schema)
    trail.seal()
    assert [(str(t), e.year, e.rows) for t, e in admin.expire(settings, trail.tenant.slug, dry_run=True)] == [
        (trail.tenant.slug, 2015, 5)
    ]
    trail.sql("DELETE FROM audit_events WHERE id = 1")
    with pytest.raises(Conflict, match="does not check out"):
        admin.expire(settings, trail.tenant.slug, dry_run=False)
    assert trail.sql("SELECT count(*) FROM audit_events_2015") == [(4,)]


def test_expire_is_on_record_itself(settings: Settings, trail: Trail, owner_engine: sqlalchemy.Engine) -> None:
    _old_rows(trail, 2015)
    with owner_engine.begin() as connection:
        audit_partitions.ensure(connection, trail.schema)
    trail.seal()
    done = admin.expire(settings, trail.tenant.slug, dry_run=False)
    assert [(e.year, e.rows) for _, e in done] == [(2015, 5)]
    assert trail.sql("SELECT action, facts->>'year', facts->>'rows' FROM audit_events") == [
        ("audit.expired", "2015", "5")
    ]
    assert admin.expire(settings, trail.tenant.slug, dry_run=False) == []


# --- deleted hospitals -------------------------------------------------------------------------------------


def test_the_trail_of_a_deleted_hospital_still_checks_out(
    settings: Settings, sealed: Trail, owner_engine: sqlalchemy.Engine
) -> None:
    sealed.write(2)
    assert admin.archive_tenant_audit(settings, owner_engine, sealed.tenant) == 14
    assert admin.archive_tenant_audit(settings, owner_engine, sealed.tenant) == 14, "may be run again"
    tenant_rows.drop(owner_engine, sealed.tenant)
    assert admin.archive_tenant_audit(settings, owner_engine, sealed.tenant) == 0

    def check() -> list[Fault]:
        with _raw(owner_engine) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            report = verify(
                PostgresTrail(connection, sealed.tenant, archived=True),
                keys={sealed.key.key_id: sealed.key.public},
                anchor=sealed.anchors.last(sealed.tenant),
            )
        assert (report.rows, report.pending) == (14, 0)
        return [p.fault for p in report.problems]

    assert check() == []
    with owner_engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE overread.audit_archive SET actor = 'nobody' WHERE tenant = '{sealed.tenant}' AND id = 3"
        )
    assert check() == [Fault.CHANGED]
    for role in (roles.WORKER, roles.DOOR):
        with (
            psycopg.connect(sealed.overread.login(role)) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute("SELECT * FROM overread.audit_archive")


# --- forwarding --------------------------------------------------------------------------------------------


class Receiver:
    """Takes messages, unless it is away; away it takes some first."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.away = False

    def send(self, messages: Iterable[bytes]) -> None:
        if self.away:
            raise AuditReceiverUnavailable("away")
        self.taken.extend(messages)


def test_nothing_is_lost_while_the_receiver_is_away(sealed: Trail) -> None:
    receiver = Receiver()
    seen: list[str | None] = []

    def render(_tenant: TenantId, event: AuditEvent, study_uid: str | None) -> bytes:
        seen.append(study_uid)
        return str(event.id).encode()

    service = ForwardService(
        logs=SealedLogs(sealed.overread.database), sink=receiver, render=render, clock=bootstrap.now
    )
    assert service.run(sealed.tenant) == 12
    assert [int(m) for m in receiver.taken] == list(range(1, 13))
    assert service.run(sealed.tenant) == 0
    receiver.away = True
    sealed.write(2)
    assert service.run(sealed.tenant) == 0, "not sealed yet, so nothing to send"
    sealed.seal()
    for _ in range(2):
        with pytest.raises(AuditReceiverUnavailable):
            service.run(sealed.tenant)
    with sealed.overread.database.unit(sealed.tenant) as unit:
        filed = unit.studies.file_instance(record(), "k", SENDER, datetime.now(UTC), lambda: None)
        unit.audit.record(AuditAction.STUDY_VIEW, actor=DOCTOR, study_id=filed.study_id)
        study = unit.studies.get(filed.study_id) if filed.study_id else None
    sealed.seal()
    receiver.away = False
    assert service.run(sealed.tenant) == 3
    assert [int(m) for m in receiver.taken] == list(range(1, 16))
    assert study is not None and seen[-1] == study.study_instance_uid
    assert replace(service, name="other receiver").run(sealed.tenant) == 15


def test_two_workers_do_not_send_the_same(sealed: Trail) -> None:
    second: list[int] = []

    class Slow(Receiver):
        def send(self, messages: Iterable[bytes]) -> None:
            second.append(service.run(sealed.tenant))
            super().send(messages)

    slow = Slow()

    def render(_tenant: TenantId, event: AuditEvent, _study_uid: str | None) -> bytes:
        return str(event.id).encode()

    service = ForwardService(logs=SealedLogs(sealed.overread.database), sink=slow, render=render, clock=bootstrap.now)
    assert service.run(sealed.tenant) == 12
    assert (len(slow.taken), second) == (12, [0])
    # One that was killed meanwhile gave nothing back: after a while another one goes on.
    sealed.write(1)
    sealed.seal()
    with SealedLogs(sealed.overread.database).log(sealed.tenant) as sealed_log:
        assert sealed_log.claim("syslog", bootstrap.now(), bootstrap.now() + timedelta(minutes=5)) == 3
    assert service.run(sealed.tenant) == 0
    later = replace(service, clock=lambda: bootstrap.now() + timedelta(minutes=6))
    assert later.run(sealed.tenant) == 1


# --- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def installation(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """What the command reads."""
    monkeypatch.setenv("OVERREAD_STATE", str(settings.state))
    monkeypatch.setenv("OVERREAD_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("OVERREAD_DATABASE_DIRECT_URL", settings.database_direct_url)
    monkeypatch.chdir(tmp_path)
    return settings


def test_the_command_verifies_exports_and_searches(installation: Settings, trail: Trail, tmp_path: Path) -> None:
    trail.anchors = admin.anchors(installation)
    trail.service = replace(trail.service, anchors=trail.anchors)
    trail.write(3)
    trail.seal()
    slug = trail.tenant.slug
    run = CliRunner()
    done = run.invoke(app, ["audit", "verify", "--tenant", slug])
    assert done.exit_code == 0 and "unchanged" in done.output and "3 rows in 1 seals" in done.output

    out = tmp_path / "audit.xml"
    done = run.invoke(app, ["audit", "export", "--tenant", slug, "--since", "2020-01-01", "--to", str(out)])
    assert done.exit_code == 0, done.output
    assert out.read_text().count("<AuditMessage>") == 3 and out.stat().st_mode & 0o077 == 0

    done = run.invoke(app, ["audit", "search", "--tenant", slug, "--actor", "doctor", "--json"])
    assert [e["action"] for e in json.loads(done.stdout)] == ["login"] * 3
    done = run.invoke(app, ["audit", "search", "--tenant", slug, "--ask-patient", "--json"], input="P-1\n\n")
    assert done.exit_code == 0 and json.loads(done.stdout[done.stdout.index("[") :]) == []
    actions = trail.sql("SELECT action, actor_kind FROM audit_events WHERE id > 3 ORDER BY id")
    assert actions == [("audit.exported", "system"), ("audit.view", "system"), ("audit.view", "system")]

    trail.seal()
    trail.sql("UPDATE audit_events SET actor = 'nobody' WHERE id = 2")
    done = run.invoke(app, ["audit", "verify", "--tenant", slug, "--json"])
    assert done.exit_code == 1
    (report,) = json.loads(done.stdout)
    assert report["unchanged"] is False and [(p["fault"], p["ids"]) for p in report["problems"]] == [
        ("row changed", [2])
    ]
    done = run.invoke(app, ["audit", "verify", "--tenant", slug])
    assert done.exit_code == 1 and "CHANGED" in done.output and "Row 2 is not what was sealed" in done.output
