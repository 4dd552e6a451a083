"""A hospital's life: made, suspended, opened again, exported, deleted; interrupted anywhere, run again, finished."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from starlette.testclient import TestClient
from typer.testing import CliRunner

from overread import admin, bootstrap, seed
from overread.admin import tenant_export, tenants
from overread.bootstrap import Overread
from overread.cli import app as command_line
from overread.config import Settings
from overread.domain.errors import (
    Conflict,
    InvalidRequest,
    KeyShredded,
    NotFound,
    StoreUnavailable,
    TenantSuspended,
    TenantUnavailable,
    UnknownSender,
)
from overread.domain.ids import uuid7
from overread.domain.study import Sender, TenantId
from overread.services.access import hash_password
from overread.services.retry import RetryPolicy
from overread.services.values import UserRow
from overread.store import migrate, roles, tenant_rows
from overread.store.directory import TenantGate
from overread.store.worker_queue import WorkerQueue
from tests.app_on_fakes import make_dicom
from tests.integration.conftest import make_tenant

PASSWORD = "correct horse battery staple"
SENDER = Sender(channel="dicom", name="CR1", address="10.0.0.9")
WHY = "test"


def _populate(overread: Overread, tenant: TenantId, studies: int = 2) -> None:
    for _ in range(studies):
        overread.receive.receive(tenant, make_dicom(), SENDER, name="x.dcm")
    with overread.database.unit(tenant) as unit:
        unit.users.add(
            UserRow(
                id=uuid7(),
                tenant=tenant,
                name="radiologist",
                display_name="Dr. Test",
                role="radiologist",
                password_hash=hash_password(PASSWORD),
                disabled=False,
            )
        )


@pytest.fixture
def fresh_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes look at each question, not every two seconds."""
    monkeypatch.setattr(TenantGate, "FRESH_S", 0.0)


@dataclass(frozen=True, kw_only=True)
class Ward:
    """A populated hospital and the installation around it."""

    overread: Overread
    settings: Settings
    tenant: TenantId

    @property
    def slug(self) -> str:
        return self.tenant.slug


@pytest.fixture
def ward(overread: Overread, settings: Settings) -> Iterator[Ward]:
    made = Ward(overread=overread, settings=settings, tenant=make_tenant(settings))
    _populate(overread, made.tenant)
    yield made
    with psycopg.connect(overread.login(roles.WORKER, direct=True)) as connection:
        connection.execute("DELETE FROM procrastinate_jobs WHERE queue_name = %s", (roles.tenant_role(made.tenant),))


def _one(settings: Settings, slug: str) -> tenants.Hospital:
    return next(h for h in tenants.listing(settings) if h.state.tenant.slug == slug)


# --- made and listed ------------------------------------------------------------------------------------------------


def test_created_once_and_listed_with_what_it_has(ward: Ward) -> None:
    admin.add_sender(
        ward.settings,
        tenant=ward.slug,
        called_ae="X",
        network="10.9.0.0/16",
        calling_ae=None,
        certificate_sha256=None,
    )
    assert not tenants.create(ward.settings, ward.slug, "Again")
    hospital = _one(ward.settings, ward.slug)
    assert (hospital.state.state, hospital.state.name) == ("active", "A test's tenant")
    assert (hospital.size.studies, hospital.size.users, hospital.size.senders) == (2, 1, 1)
    assert hospital.size.database_bytes > 100_000
    assert hospital.size.object_bytes is not None
    assert hospital.size.object_bytes > 2 * 64 * 80 * 2


@pytest.mark.parametrize("slug", ["Upper", "1st", "a-b", "a;drop", "", "x" * 41, "pg catalog"])
def test_what_cannot_be_a_name(settings: Settings, slug: str) -> None:
    with pytest.raises(InvalidRequest):
        tenants.create(settings, slug, "Name")


@pytest.mark.parametrize("after", ["the row", "the schema", "half of the migrations"])
def test_an_interrupted_creation_is_not_served_and_goes_on(
    settings: Settings,
    overread: Overread,
    owner_engine: sqlalchemy.Engine,
    monkeypatch: pytest.MonkeyPatch,
    after: str,
    fresh_gate: None,
) -> None:
    tenant = TenantId(slug=f"half_{after.split()[-1]}_{time.monotonic_ns()}"[:40])
    real = migrate._upgrade

    def dies(engine: sqlalchemy.Engine, schema: str, line: str) -> None:
        if after == "half of the migrations":
            real(engine, schema, line)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if after == "the row":
            patch.setattr(migrate, "_ensure_tenant", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        else:
            patch.setattr(migrate, "_upgrade", dies)
        with pytest.raises(KeyboardInterrupt):
            tenants.create(settings, tenant.slug, "Half")
    assert _one(settings, tenant.slug).state.state == "creating"
    assert tenant not in overread.directory.tenants()
    with pytest.raises(TenantSuspended):
        overread.database.unit(tenant)
    assert migrate.ensure(owner_engine, settings.secret()) == ()  # a start of `overread serve` leaves it alone
    assert tenants.create(settings, tenant.slug, "Half")
    assert _one(settings, tenant.slug).state.state == "active"
    _populate(overread, tenant, 1)


# --- suspended and opened again -------------------------------------------------------------------------------------


def test_a_suspended_hospital_is_refused_everywhere_at_once_and_goes_on_later(
    ward: Ward, owner_engine: sqlalchemy.Engine
) -> None:
    """With the real caches: two seconds."""
    admin.add_sender(
        ward.settings,
        tenant=ward.slug,
        called_ae=ward.slug.upper()[:16],
        network="127.0.0.1",
        calling_ae=None,
        certificate_sha256=None,
    )
    peer = {"called_ae": ward.slug.upper()[:16], "calling_ae": "A", "address": "127.0.0.1", "certificate_sha256": None}
    client = TestClient(bootstrap.build_app(ward.overread), base_url="http://testserver")
    login = {"tenant": ward.slug, "username": "radiologist", "password": PASSWORD}
    token = client.post("/api/auth/login", json=login).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get("/api/image-analysis", headers=headers).status_code == 200
    assert ward.overread.directory.tenant_of(**peer) == ward.tenant
    unit = ward.overread.database.unit(ward.tenant)  # under way, as a job's would be
    unit.__enter__()

    tenants.suspend(ward.settings, ward.slug, WHY)

    with pytest.raises((StoreUnavailable, psycopg.OperationalError)):
        unit.studies.find("1.2")
        unit.__exit__(None, None, None)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(ward.overread.login(roles.tenant_role(ward.tenant), direct=True))
    with pytest.raises(UnknownSender):
        ward.overread.directory.tenant_of(**peer)
    assert ward.tenant not in ward.overread.directory.tenants()
    time.sleep(TenantGate.FRESH_S + 0.1)
    client.get("/api/image-analysis", headers=headers)  # asks the database anew
    began = time.monotonic()
    answer = client.get("/api/image-analysis", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "TENANT_SUSPENDED")
    assert client.post("/api/auth/login", json=login).status_code == 401
    with pytest.raises(TenantSuspended):
        ward.overread.receive.receive(ward.tenant, make_dicom(), SENDER, name="x.dcm")
    assert time.monotonic() - began < 2.0  # nobody waits for a connection that is not given
    assert _one(ward.settings, ward.slug).state.state == "suspended"
    assert _one(ward.settings, ward.slug).size.studies == 2

    tenants.resume(ward.settings, ward.slug, WHY)
    time.sleep(TenantGate.FRESH_S + 0.1)
    client.get("/api/image-analysis", headers=headers)
    assert client.get("/api/image-analysis", headers=headers).status_code == 200
    assert ward.overread.directory.tenant_of(**peer) == ward.tenant
    ward.overread.receive.receive(ward.tenant, make_dicom(), SENDER, name="x.dcm")


def test_a_job_that_ran_is_done_again_after_the_suspension(ward: Ward) -> None:
    """Its result is refused, it is no dead letter, it waits, and it runs once the hospital is open again."""
    with ward.overread.database.unit(ward.tenant) as unit:
        unit.jobs.enqueue("ward", {"id": "precious"}, priority=200)
    saved: list[str] = []
    tries: list[str] = []
    running, suspended = threading.Event(), threading.Event()

    def job(tenant: TenantId, identifier: str) -> None:
        tries.append(identifier)
        running.set()
        suspended.wait(60)
        with ward.overread.database.unit(tenant) as unit:
            unit.studies.find("1.2")
            saved.append(identifier)

    async def work() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        queue = WorkerQueue(
            ward.overread.login(roles.WORKER, direct=True), {"ward": job}, concurrency=1, policy=RetryPolicy()
        )

        def sweep() -> None:
            if saved:
                loop.call_soon_threadsafe(stop.set)

        await asyncio.wait_for(queue.run(sweep, sweep_every_s=0.1, stop=stop), 60)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(lambda: asyncio.run(work()))
        assert running.wait(30)
        tenants.suspend(ward.settings, ward.slug, WHY)
        time.sleep(TenantGate.FRESH_S + 0.1)
        suspended.set()
        time.sleep(4.0)  # two looks into the queue
        assert (tries, saved) == (["precious"], [])
        with psycopg.connect(ward.overread.login(roles.WORKER, direct=True)) as connection:
            rows = connection.execute("SELECT status FROM procrastinate_jobs WHERE task_name = 'ward'").fetchall()
        assert rows == [("todo",)]
        tenants.resume(ward.settings, ward.slug, WHY)
        working.result()
    assert (tries, saved) == (["precious", "precious"], ["precious"])


def test_a_start_of_the_installation_gets_by_without_its_demo_hospital(
    settings: Settings, owner_engine: sqlalchemy.Engine
) -> None:
    demo = bootstrap.DEMO_TENANT
    migrate.create_tenant(owner_engine, settings.secret(), demo, "Demo hospital")
    seed.ensure(owner_engine, settings)
    tenants.suspend(settings, demo.slug, WHY)
    seed.ensure(owner_engine, settings)
    assert _one(settings, demo.slug).state.state == "suspended"
    tenants.resume(settings, demo.slug, WHY)
    seed.ensure(owner_engine, settings)


def test_what_the_operator_did_is_on_record(ward: Ward, owner_engine: sqlalchemy.Engine) -> None:
    tenants.suspend(ward.settings, ward.slug, "unpaid bills")
    tenants.resume(ward.settings, ward.slug, "paid")
    with owner_engine.connect() as connection:
        log = connection.exec_driver_sql(
            "SELECT action, reason FROM overread.tenant_log WHERE tenant = %s ORDER BY id", (ward.slug,)
        ).fetchall()
        trail = connection.exec_driver_sql(
            f"SELECT action, facts->>'reason' FROM {roles.tenant_role(ward.tenant)}.audit_events"
            " WHERE action LIKE 'tenant.%%' ORDER BY id"
        ).fetchall()
    assert [tuple(row) for row in log] == [("tenant.suspended", "unpaid bills"), ("tenant.resumed", "paid")]
    assert [tuple(row) for row in trail] == [("tenant.suspended", "unpaid bills"), ("tenant.resumed", "paid")]


# --- migrations -----------------------------------------------------------------------------------------------------


def test_one_broken_hospital_stops_no_other(
    ward: Ward, other_tenant: TenantId, owner_engine: sqlalchemy.Engine, fresh_gate: None
) -> None:
    assert migrate.ensure(owner_engine, ward.settings.secret()) == ()
    schema = roles.tenant_role(ward.tenant)
    secret = ward.settings.secret()
    with owner_engine.begin() as connection:  # a revision that this version does not know
        connection.exec_driver_sql(f"UPDATE {schema}.schema_version SET version_num = 'tenant_9999'")
        two = f"slug IN ('{ward.tenant}', '{other_tenant}')"  # of the hundreds that other tests have made
        connection.exec_driver_sql(f"UPDATE overread.tenants SET prepared = 'older' WHERE {two}")
    failures = migrate.ensure(owner_engine, secret)
    assert [failure.tenant for failure in failures] == [ward.tenant]
    assert "tenant_9999" in failures[0].reason
    hospital = _one(ward.settings, ward.slug)
    assert (hospital.state.state, hospital.state.reason) == ("out of service", failures[0].reason)
    assert ward.tenant not in ward.overread.directory.tenants()
    with pytest.raises(TenantUnavailable):
        ward.overread.database.unit(ward.tenant)
    client = TestClient(bootstrap.build_app(ward.overread), base_url="http://testserver")
    login = {"tenant": ward.slug, "username": "radiologist", "password": PASSWORD}
    answer = client.post("/api/auth/login", json=login)
    assert (answer.status_code, answer.json()["code"]) == (503, "TENANT_UNAVAILABLE")
    _populate(ward.overread, other_tenant, 1)  # the other one works

    assert [f.tenant for f in migrate.ensure(owner_engine, secret)] == [ward.tenant]  # each start tries again
    result = CliRunner().invoke(command_line, ["tenant", "migrate"], env=_env(ward.settings))
    assert result.exit_code == 1
    with owner_engine.begin() as connection:
        head = migrate._head("tenant")
        connection.exec_driver_sql(f"UPDATE {schema}.schema_version SET version_num = %s", (head,))
    result = CliRunner().invoke(command_line, ["tenant", "migrate", ward.slug], env=_env(ward.settings))
    assert result.exit_code == 0, result.output
    assert ward.overread.database.unit(ward.tenant) is not None
    assert _one(ward.settings, ward.slug).state.state == "active"


def _env(settings: Settings) -> dict[str, str]:
    return {
        "OVERREAD_STATE": str(settings.state_dir),
        "OVERREAD_DATABASE_URL": settings.database_url,
        "OVERREAD_DATABASE_DIRECT_URL": settings.database_direct_url,
    }


def test_the_reason_of_a_failure_holds_no_value(ward: Ward, owner_engine: sqlalchemy.Engine) -> None:
    """What a database says of a row may quote a patient."""
    error = psycopg.errors.UniqueViolation("Key (patient_name)=(Zzyzx^Planted) already exists.")
    assert "Zzyzx" not in migrate._reason(error)


def test_hospitals_that_are_up_to_date_cost_nothing(
    ward: Ward, owner_engine: sqlalchemy.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate.ensure(owner_engine, ward.settings.secret())

    def never(*_: object) -> None:
        raise AssertionError("an up-to-date tenant was migrated again")

    monkeypatch.setattr(migrate, "_ensure_tenant", never)
    assert migrate.ensure(owner_engine, ward.settings.secret()) == ()


# --- exported -------------------------------------------------------------------------------------------------------


def _manifest(folder: Path) -> dict[str, dict[str, dict[str, object]]]:
    found: dict[str, dict[str, dict[str, object]]] = json.loads((folder / "manifest.json").read_text())
    return found


@pytest.mark.parametrize("suspended", [False, True])
def test_an_export_is_complete_and_private(ward: Ward, tmp_path: Path, suspended: bool) -> None:
    if suspended:
        tenants.suspend(ward.settings, ward.slug, WHY)
    folder = tmp_path / "out"
    told: list[tuple[int, int]] = []
    done = tenant_export.export(ward.settings, ward.slug, folder, lambda n, total: told.append((n, total)))
    assert (done.objects, done.kept, done.missing) == (2, 0, 0)
    assert told == [(1, 2), (2, 2)]
    manifest = _manifest(folder)
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert (folder / name).stat().st_mode & 0o077 == 0
    assert {p.stat().st_mode & 0o777 for p in (folder, *(q for q in folder.rglob("*") if q.is_dir()))} == {0o700}
    dicom = sorted(name for name in manifest["files"] if name.startswith("dicom/"))
    assert len(dicom) == 2
    assert (folder / dicom[0]).read_bytes()[128:132] == b"DICM"
    with_names = [json.loads(line) for line in (folder / "tables/studies.jsonl").read_text().splitlines()]
    text = json.dumps(with_names)
    assert len(with_names) == 2
    assert "Zzyzx^Planted" in text  # opened: an export is for people to read
    assert manifest["rows"]["studies"] == 2  # type: ignore[comparison-overlap]
    assert manifest["rows"]["audit_events"] == len(  # type: ignore[comparison-overlap]
        (folder / "tables/audit_events.jsonl").read_text().splitlines()
    )
    assert "argon2" not in "".join(p.read_text() for p in (folder / "tables").iterdir())
    assert "users.password_hash" in manifest["leftOut"]


def test_an_interrupted_export_goes_on(ward: Ward, tmp_path: Path) -> None:
    def stops(number: int, _total: int) -> None:
        if number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tenant_export.export(ward.settings, ward.slug, tmp_path / "out", stops)
    assert not (tmp_path / "out/manifest.json").exists()
    ward.overread.receive.receive(ward.tenant, make_dicom(), SENDER, name="x.dcm")
    done = tenant_export.export(ward.settings, ward.slug, tmp_path / "out")
    assert (done.objects, done.kept) == (3, 1)
    for name, entry in _manifest(tmp_path / "out")["files"].items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == entry["sha256"]
    assert not (tmp_path / "out/.done.jsonl").exists()


def test_an_export_overwrites_nothing_else(ward: Ward, other_tenant: TenantId, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidRequest):
        tenant_export.export(ward.settings, ward.slug, tmp_path)
    tenant_export.export(ward.settings, ward.slug, tmp_path / "out")
    with pytest.raises(InvalidRequest):
        tenant_export.export(ward.settings, other_tenant.slug, tmp_path / "out")


def test_an_export_names_what_is_missing(ward: Ward, tmp_path: Path) -> None:
    ward_objects = ward.settings.state_dir / "objects" / ward.slug
    next(p for p in ward_objects.rglob("*") if p.is_file()).unlink()
    done = tenant_export.export(ward.settings, ward.slug, tmp_path / "out")
    assert (done.objects, done.missing) == (1, 1)
    assert len(_manifest(tmp_path / "out")["missingObjects"]) == 1


# --- deleted --------------------------------------------------------------------------------------------------------


def test_only_a_suspended_hospital_is_deleted_and_only_by_its_name(ward: Ward) -> None:
    with pytest.raises(Conflict):
        tenants.delete(ward.settings, ward.slug)
    tenants.suspend(ward.settings, ward.slug, WHY)
    arguments = ["tenant", "delete", ward.slug]
    runner = CliRunner()
    for more, typed in (["--yes-delete", "other"], ""), ([], "no\n"):
        result = runner.invoke(command_line, [*arguments, *more], input=typed, env=_env(ward.settings))
        assert isinstance(result.exception, InvalidRequest)
    assert _one(ward.settings, ward.slug).size.studies == 2
    with pytest.raises(NotFound):
        tenants.delete(ward.settings, "never_was")


def test_a_deleted_hospital_leaves_nothing(ward: Ward, other_tenant: TenantId, owner_engine: sqlalchemy.Engine) -> None:
    _populate(ward.overread, other_tenant, 1)
    role = roles.tenant_role(ward.tenant)
    objects = ward.settings.state_dir / "objects"
    assert any(p.is_file() for p in (objects / ward.slug).rglob("*"))
    tenants.suspend(ward.settings, ward.slug, WHY)
    result = CliRunner().invoke(
        command_line, ["tenant", "delete", ward.slug, "--yes-delete", ward.slug], env=_env(ward.settings)
    )
    assert result.exit_code == 0, result.output
    assert not (objects / ward.slug).exists()
    assert any(p.is_file() for p in (objects / other_tenant.slug).rglob("*"))
    with owner_engine.connect() as connection:

        def count(query: str) -> int:
            return int(connection.exec_driver_sql(query).scalar_one())

        assert count(f"SELECT count(*) FROM pg_namespace WHERE nspname = '{role}'") == 0
        assert count(f"SELECT count(*) FROM pg_roles WHERE rolname = '{role}'") == 0
        assert count(f"SELECT count(*) FROM jobs.procrastinate_jobs WHERE queue_name = '{role}'") == 0
        assert count(f"SELECT count(*) FROM overread.tenants WHERE slug = '{ward.slug}'") == 0
        assert count(f"SELECT count(*) FROM overread.senders WHERE tenant = '{ward.slug}'") == 0
        wrapped = f"SELECT count(*) FROM overread.data_keys WHERE tenant = '{ward.slug}' AND wrapped IS NOT NULL"
        assert count(wrapped) == 0
    with ward.overread.database.unit(other_tenant) as unit:
        assert unit.jobs is not None
    with pytest.raises(NotFound, match="deleted already"):
        tenants.delete(ward.settings, ward.slug)
    with pytest.raises(Conflict, match="not used again"):
        tenants.create(ward.settings, ward.slug, "The same again")


@pytest.mark.parametrize("step", range(6))
def test_an_interrupted_deletion_is_not_served_and_goes_on(
    ward: Ward, owner_engine: sqlalchemy.Engine, step: int
) -> None:
    tenants.suspend(ward.settings, ward.slug, WHY)
    steps: list[str] = []

    def dies(name: str) -> None:
        steps.append(name)
        if len(steps) == step + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tenants.delete(ward.settings, ward.slug, dies)
    assert _one(ward.settings, ward.slug).state.state == "deleting"
    with pytest.raises(Conflict):
        tenants.resume(ward.settings, ward.slug, WHY)
    with pytest.raises(Conflict):
        tenants.create(ward.settings, ward.slug, "Again")
    assert migrate.ensure(owner_engine, ward.settings.secret()) == ()
    tenants.delete(ward.settings, ward.slug)
    assert ward.slug not in {h.state.tenant.slug for h in tenants.listing(ward.settings)}
    assert tenant_rows.was_deleted(owner_engine, ward.tenant)


def test_a_backup_of_a_deleted_hospitals_objects_is_worthless(
    ward: Ward, owner_engine: sqlalchemy.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is shredded before the tables are dropped: what is left of a copy of the disk cannot be read."""
    with ward.overread.database.unit(ward.tenant) as unit:
        studies = [row.study.id for row in unit.analyses.unfinished()]
        keys = [i.object_key for s in studies for i in unit.studies.instances(s)]
    copy = {key: ward.overread.objects.get(ward.tenant, key) for key in keys}
    assert all(data[128:132] == b"DICM" for data in copy.values())
    tenants.suspend(ward.settings, ward.slug, WHY)
    monkeypatch.setattr(tenant_rows, "drop", lambda *_: None)  # as if it had died right there
    monkeypatch.setattr("overread.store.objects.LocalObjects.delete_all", lambda *_: None)  # the thief's copy
    tenants.delete(ward.settings, ward.slug)
    again = bootstrap.build(ward.settings)
    try:
        with owner_engine.begin() as connection:  # and the thief opens the log-in
            connection.exec_driver_sql(f"ALTER ROLE {roles.tenant_role(ward.tenant)} LOGIN")
        with pytest.raises(KeyShredded):
            again.objects.get(ward.tenant, keys[0])
    finally:
        again.close()


# --- settings -------------------------------------------------------------------------------------------------------


def test_settings_by_the_command_line(ward: Ward) -> None:
    runner, env = CliRunner(), _env(ward.settings) | {"COLUMNS": "200"}
    line = ["tenant", "set", ward.slug, "evidence_bar.pneumothorax", "0.8,0.75", "--reason", "our own validation"]
    assert runner.invoke(command_line, line, env=env).exit_code == 0
    shown = runner.invoke(command_line, ["tenant", "settings", ward.slug], env=env).output
    assert "evidence_bar.pneumothorax" in shown
    assert "0.8,0.75" in shown
    assert "our own validation" in shown
    wrong = runner.invoke(command_line, [*line[:3], "evidence_bar.fever", "1,1", "--reason", "x"], env=env)
    assert isinstance(wrong.exception, InvalidRequest)
    time.sleep(0.01)
    bar = ward.overread.tenant_settings.current(ward.tenant).bar
    assert (bar.of("pneumothorax").sensitivity, bar.of("pneumothorax").specificity) == (0.8, 0.75)
    assert bar.of("cardiomegaly").sensitivity == 0.9
    with ward.overread.database.unit(ward.tenant) as unit:
        (row,) = unit.settings.all()
        trail = unit.connection.execute(
            "SELECT facts FROM audit_events WHERE action = 'setting.changed' ORDER BY id"
        ).fetchall()
    assert row.changed_at <= datetime.now(UTC)
    assert [facts["value"] for (facts,) in trail] == ["0.8,0.75"]
    assert [facts["before"] for (facts,) in trail] == ["default"]
