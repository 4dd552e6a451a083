"""`overread doctor` on installations that are broken in one way each: it says which, and how to mend it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from overread import bootstrap, doctor
from overread.backup.state import LastBackup, remember
from overread.config import Settings
from overread.doctor import installation, machine
from overread.doctor.installation import Site
from overread.doctor.report import Finding, State
from overread.domain.study import Sender, TenantId
from overread.services.degradation import QueueHealth
from overread.store import migrate, roles
from tests.app_on_fakes import make_dicom
from tests.integration.conftest import installation as installation_of


def said(findings: Iterator[Finding], state: State) -> str:
    """All sentences of that state; each that is not well says how to mend it."""
    found = list(findings)
    assert all(f.remedy for f in found if f.state is not State.WELL)
    return " | ".join(f"{f.message} -> {f.remedy}" for f in found if f.state is state)


@pytest.fixture
def site(overread: bootstrap.Overread) -> Site:
    return Site(overread)


@pytest.fixture
def changed(site: Site) -> Iterator[Callable[..., Site]]:
    """The same installation with other settings."""
    built: list[bootstrap.Overread] = []

    def change(**values: object) -> Site:
        built.append(bootstrap.build(site.settings.model_copy(update=values)))
        return Site(built[-1])

    yield change
    for overread in built:
        overread.close()


def sql(settings: Settings, statement: str) -> None:
    with psycopg.connect(bootstrap.owner_conninfo(settings), autocommit=True) as connection:
        connection.execute("SET search_path = jobs")  # procrastinate's triggers name no schema
        connection.execute(statement.encode())


# --- a healthy one ----------------------------------------------------------------------------------------------------


@pytest.mark.any_database
def test_a_healthy_installation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with installation_of(tmp_path / "state", dicom_port=1, http_port=1, low_disk_gib=0.01) as settings:
        engine = migrate.owner_engine(bootstrap.owner_conninfo(settings))
        migrate.ensure(engine, settings.secret())
        migrate.create_tenant(engine, settings.secret(), TenantId(slug="ward"), "A ward")
        engine.dispose()
        bootstrap.master_keys(settings)
        lines = doctor.examine(settings, deep=True)
        overread = bootstrap.build(settings)
        parts = {name for name, _ in doctor.checks(Site(overread), deep=True)}
        assert {line.part for line in lines} == {"key files", *parts}
        overread.close()
        assert [line for line in lines if line.finding.state is State.ILL] == []
        known = {"database", "disk space", "senders", "certificates", "backup"}  # no superuser, no sender, no TLS yet
        assert {line.part for line in lines if line.finding.state is State.ATTENTION} <= known
        assert doctor.run(settings, json_output=True) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["state"] == "attention" and len(report["checks"]) >= 19


def test_the_exit_status_tells(site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def only(*findings: Finding) -> None:
        monkeypatch.setattr(doctor, "checks", lambda _site, deep: [("part", lambda: iter(findings))])

    only(doctor.report.well("fine"), doctor.report.attention("so so", "do it"))  # type: ignore[attr-defined]
    assert doctor.run(site.settings) == 0
    only(doctor.report.ill("broken", "mend it"))  # type: ignore[attr-defined]
    assert doctor.run(site.settings) == 1
    shown = capsys.readouterr().out
    assert "broken mend it" in shown and "needs care" in shown


# --- the machine ------------------------------------------------------------------------------------------------------


def test_disk_space(site: Site) -> None:
    full = site.settings.model_copy(update={"low_disk_gib": 1e9})
    assert "Free some space" in said(machine.disk(full), State.ILL)


def test_half_restored(tmp_path: Path) -> None:
    (tmp_path / "restoring.json").write_text("{}")
    assert "Run the same" in said(machine.state_folder(Settings(_env_file=None, state=tmp_path)), State.ILL)


def test_key_files(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, state=tmp_path)
    assert "secret.key is not there" in said(machine.key_files(settings), State.ILL)
    settings.secret()
    bootstrap.master_keys(settings)
    path = tmp_path / "secret.key"
    path.chmod(0o640)
    assert f"chmod 600 {path}" in said(machine.key_files(settings), State.ILL)


def certificate(folder: Path, *, days: float, begins: float = -400) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begins))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{uuid4()}.pem", folder / f"{uuid4()}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def test_certificates(tmp_path: Path) -> None:
    def with_web(pair: tuple[Path, Path]) -> Settings:
        return Settings(_env_file=None, state=tmp_path, http_tls_certificate=pair[0], http_tls_key=pair[1])

    good = certificate(tmp_path, days=300)
    assert "web: valid until" in said(machine.certificates(with_web(good)), State.WELL)
    assert "Renew it now" in said(machine.certificates(with_web(certificate(tmp_path, days=10))), State.ATTENTION)
    assert "expired on" in said(machine.certificates(with_web(certificate(tmp_path, days=-1))), State.ILL)
    future = certificate(tmp_path, days=300, begins=2)
    assert "valid only from" in said(machine.certificates(with_web(future)), State.ILL)
    other = good[0], certificate(tmp_path, days=300)[1]
    assert "cannot use its TLS certificate or key" in said(machine.certificates(with_web(other)), State.ILL)
    assert "DICOM: no TLS" in said(machine.certificates(with_web(good)), State.ATTENTION)


def test_ports(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(_env_file=None, state=tmp_path, dicom_port=port, http_port=1)
        assert "is taken by another program" in said(machine.ports(settings), State.ATTENTION)
    import fcntl

    with (tmp_path / "serve.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "does not answer" in said(machine.ports(settings), State.ILL)


def test_models(site: Site, changed: Callable[..., Site], tmp_path: Path) -> None:
    broken = tmp_path / "toy" / "1.0.0"
    broken.mkdir(parents=True)
    (broken / "card.toml").write_text("nonsense =")
    assert "cannot be used" in said(machine.models(changed(models=tmp_path).settings), State.ILL)
    tiny = changed(model_memory_mib=120).settings
    assert "does not run" in said(machine.models(tiny), State.ILL)


def test_backups(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, state=tmp_path)
    assert "There is no backup" in said(machine.backup_age(settings), State.ATTENTION)

    def made(days: float, missing: int = 0) -> None:
        at = datetime.now(UTC) - timedelta(days=days)
        remember(tmp_path, LastBackup(folder=str(tmp_path / "b"), name="x", at=at, missing=missing))

    made(days=0.1)
    assert "is not in" in said(machine.backup_age(settings), State.ATTENTION)
    (tmp_path / "b" / "backups").mkdir(parents=True)
    (tmp_path / "b" / "backups" / "x.json").touch()
    assert said(machine.backup_age(settings), State.WELL)
    made(days=8)
    assert "The last backup is of" in said(machine.backup_age(settings), State.ATTENTION)
    made(days=0.1, missing=3)
    assert "lacks 3 objects" in said(machine.backup_age(settings), State.ILL)


# --- what is shared ---------------------------------------------------------------------------------------------------


def test_no_database(tmp_path: Path) -> None:
    settings = Settings(
        _env_file=None, state=tmp_path, database_url="host=127.0.0.1 port=1 dbname=x user=y connect_timeout=1"
    )
    nothing = doctor.examine(settings)
    assert {line.part for line in nothing} == {"key files"} and "secret.key is not there" in nothing[0].finding.message
    assert not list(tmp_path.iterdir()), "none was made"
    settings.secret()
    assert {line.part for line in doctor.examine(settings)} == {"key files"}, "a new master key would open nothing"
    bootstrap.master_keys(settings)
    lines = {line.part: line.finding for line in doctor.examine(settings) if line.part in ("database", "queue")}
    assert {finding.state for finding in lines.values()} == {State.ILL}
    assert "Start `overread serve` first, or set OVERREAD_DATABASE_URL" in lines["database"].remedy


def test_clocks(site: Site) -> None:
    server, tenants, _ = site.facts()
    site._facts = server, tenants, 42.0
    assert "42 s ahead of this machine's" in said(installation.clocks(site), State.ILL)


def test_a_hospital_out_of_service(site: Site, tenant: TenantId) -> None:
    sql(site.settings, f"UPDATE overread.tenants SET out_of_service = 'UndefinedTable' WHERE slug = '{tenant}'")
    assert "UndefinedTable" in said(installation.migrations(site), State.ILL)
    sql(site.settings, f"UPDATE overread.tenants SET out_of_service = NULL WHERE slug = '{tenant}'")
    version = f"UPDATE {roles.tenant_role(tenant)}.schema_version SET version_num"
    sql(site.settings, f"{version} = 'tenant_0002'")
    fresh = Site(site.overread)
    assert f"{tenant} is of another version" in said(installation.migrations(fresh), State.ILL)
    sql(site.settings, f"{version} = '{migrate.newest('tenant')}'")
    assert said(installation.migrations(Site(site.overread)), State.WELL)


def test_object_store(site: Site, changed: Callable[..., Site], tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    elsewhere = changed(objects_url=str(folder))
    assert said(installation.objects(elsewhere), State.WELL)
    folder.rename(tmp_path / "gone")
    assert "object store cannot be used" in _examined(elsewhere, "object store")


def _examined(site: Site, part: str) -> str:
    """A check that raises is a finding too."""
    check = dict(doctor.checks(site, deep=True))[part]
    try:
        return said(check(), State.ILL)
    except Exception as error:  # noqa: BLE001 - as `examine` has it
        return installation.expected(error).message


def test_lost_and_orphaned_objects(site: Site, tenant: TenantId) -> None:
    site.overread.stored.put_pieces(tenant, "instances/ab/orphan.dcm", lambda: (b"x",))
    assert f"{tenant}: 1 objects are named by no study" in said(installation.every_object(site), State.ATTENTION)
    sql(
        site.settings,
        f"INSERT INTO {roles.tenant_role(tenant)}.rejections"
        " (id, code, message, received_from, received_at, object_key)"
        " VALUES (gen_random_uuid(), 'INVALID_DICOM', '', '{}', now(), 'rejected/lost.dcm')",
    )
    assert f"{tenant}: 1 of 1 objects are not in the object store" in said(installation.every_object(site), State.ILL)


def test_keys(site: Site, changed: Callable[..., Site], tenant: TenantId, other_tenant: TenantId) -> None:
    assert site.overread.database.unit(tenant).patient_index.version == 1
    other = changed(master_key="ab" * 32)
    assert "does not hold" in _examined(other, "keys")
    assert other_tenant.slug not in {slug for slug, *_ in site.wrapped_keys()}, "the check made none"


def _with(site: Site, **numbers: object) -> Site:
    values: dict[str, object] = {
        "workers": 1, "silent_s": 1.0, "waiting": 0, "pressing": 0, "running": 0, "failed": 0, "oldest_s": 0.0,
    }  # fmt: skip
    health = QueueHealth(**(values | numbers))  # type: ignore[arg-type]
    site.queue = lambda: health  # type: ignore[method-assign]
    return site


def test_workers_and_queue(site: Site) -> None:
    assert said(installation.workers(_with(site)), State.WELL)
    assert "No worker is alive" in said(installation.workers(_with(site, workers=0, waiting=3)), State.ILL)
    assert "overloaded" in said(installation.queue_length(_with(site, waiting=501)), State.ILL)
    assert "the longest 7200 s" in said(
        installation.queue_length(_with(site, waiting=5, oldest_s=7200)), State.ATTENTION
    )


def test_dead_letters(site: Site, tenant: TenantId) -> None:
    sql(
        site.settings,
        "INSERT INTO jobs.procrastinate_jobs (queue_name, task_name, args, status, attempts) VALUES"
        f" ('{roles.tenant_role(tenant)}', 'overread.write_sr', '{{\"tenant\": \"{tenant}\"}}', 'failed', 3)",
    )
    try:
        assert f"overread.write_sr of {tenant}" in said(installation.queue_length(site), State.ILL)
    finally:
        sql(site.settings, f"DELETE FROM jobs.procrastinate_jobs WHERE queue_name = '{roles.tenant_role(tenant)}'")


def test_senders(site: Site, tenant: TenantId) -> None:
    assert f"{tenant} has no sender" in said(installation.senders(site), State.ATTENTION)
    sql(
        site.settings,
        "INSERT INTO overread.senders (tenant, called_ae, network)"
        f" VALUES ('{tenant}', 'OPEN_{tenant.slug}', '0.0.0.0/0')",
    )
    open_to_all = said(installation.senders(Site(site.overread)), State.ATTENTION)
    assert f"{tenant} takes images from any address" in open_to_all


def test_unsealed_audit_rows(site: Site, tenant: TenantId) -> None:
    sql(
        site.settings,
        f"INSERT INTO {roles.tenant_role(tenant)}.audit_events (at, action, actor_kind, actor)"
        " VALUES (now() - interval '20 minutes', 'login', 'person', 'kim')",
    )
    assert f"{tenant}: rows of the audit trail wait 20 minutes" in said(installation.audit(_with(site)), State.ILL)


def test_redis(site: Site, changed: Callable[..., Site]) -> None:
    away = changed(redis_url="redis://127.0.0.1:1/0")
    assert "It does not answer" in said(installation.redis(away), State.ILL)
    several = changed(api_processes=3)
    assert "Set OVERREAD_REDIS_URL" in said(installation.redis(several), State.ATTENTION)


def test_stuck_studies(site: Site, tenant: TenantId) -> None:
    schema = roles.tenant_role(tenant)
    sender = Sender(channel="dicom", name="CT_1", address="127.0.0.1")
    site.overread.receive.receive(tenant, make_dicom(), sender, name="a.dcm")
    assert f"{tenant}:" not in said(installation.studies(Site(site.overread)), State.ILL)
    sql(site.settings, f"UPDATE {schema}.image_analyses SET updated_at = now() - interval '1 hour'")
    assert f"{tenant}:" not in said(installation.studies(Site(site.overread)), State.ILL), "its job waits"
    sql(site.settings, f"DELETE FROM jobs.procrastinate_jobs WHERE queue_name = '{schema}'")
    assert f"{tenant}: 1 analyses are stuck" in said(installation.studies(Site(site.overread)), State.ILL)
    sql(
        site.settings,
        f"UPDATE {schema}.image_analyses SET status = 'processing', started_at = now() - interval '1 hour'",
    )
    sql(site.settings, f"UPDATE {schema}.instances SET assembled = false, received_at = now() - interval '1 hour'")
    text = said(installation.studies(Site(site.overread)), State.ILL)
    assert f"{tenant}: 1 analyses are stuck" in text and f"{tenant}: 1 studies wait for their end" in text
