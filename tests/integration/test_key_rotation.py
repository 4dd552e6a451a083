"""A key's life on the real database: rotated while everything runs, encrypted again, shredded; and rows from before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import sqlalchemy
from psycopg.types.json import Jsonb
from typer.testing import CliRunner

from overread import bootstrap
from overread.admin import keys as admin_keys
from overread.bootstrap import Overread
from overread.cli_keys import keys as keys_commands
from overread.config import Settings
from overread.domain.audit import AuditAction, PatientRef
from overread.domain.errors import KeyShredded, KeyUnavailable, NotFound, ObjectDamaged
from overread.domain.ids import uuid7
from overread.domain.study import InstanceRecord, ReceiveOutcome, TenantId
from overread.services.values import AnalysisFilter, Filed, Rejection
from overread.store import keys_master, migrate, roles
from overread.store.cipher import version_of
from overread.store.codec import to_json
from overread.store.keys_admin import OwnerKeys
from overread.store.keys_reencrypt import Reencryption
from tests.integration.audit_trail import DOCTOR, Trail, owner, sealed, trail
from tests.integration.records import SENDER, record
from tests.integration.test_studies import NOW

__all__ = ["owner", "sealed", "trail"]  # fixtures

NAME, BORN = "ZYXWVUT^PLANTED", date(1961, 2, 3)


@pytest.fixture
def engine(settings: Settings) -> Iterator[sqlalchemy.Engine]:
    made = migrate.owner_engine(bootstrap.owner_conninfo(settings))
    yield made
    made.dispose()


@pytest.fixture
def keys(settings: Settings, engine: sqlalchemy.Engine) -> OwnerKeys:
    return bootstrap.owner_keys(settings, engine)


@contextmanager
def process(settings: Settings) -> Iterator[Overread]:
    """Another process: it knows no key yet."""
    built = bootstrap.build(settings)
    yield built
    built.close()


def file(overread: Overread, tenant: TenantId, number: int = 1, **changes: Any) -> Filed:
    """Index and object of one instance."""
    made: InstanceRecord = record(number, patient_name=NAME, patient_birth_date=BORN, **changes)
    with overread.database.unit(tenant) as unit:
        key = f"k/{unit.patient_index.content(made.file_sha256)}"
        filed = unit.studies.file_instance(
            made, key, SENDER, NOW, lambda: overread.objects.put(tenant, key, f"object {number}".encode())
        )
        assert filed.study_id is not None
        unit.studies.assemble(filed.study_id)
    return filed


def sealed_versions(overread: Overread, tenant: TenantId) -> dict[str, set[int]]:
    found = {}
    with psycopg.connect(overread.login(roles.tenant_role(tenant))) as connection:
        for table in ("studies", "instances", "instance_revisions", "rejections"):
            rows = connection.execute(f"SELECT identifiers FROM {table}".encode()).fetchall()
            found[table] = {0 if row[0] is None else version_of(row[0]) for row in rows}
    return found


def everything(overread: Overread, tenant: TenantId) -> tuple[Any, ...]:
    """All that can be read of a tenant."""
    study, stored, refused = everything_but_objects(overread, tenant)
    return study, stored, refused, [overread.objects.get(tenant, i.object_key) for i in stored]


def everything_but_objects(overread: Overread, tenant: TenantId) -> tuple[Any, ...]:
    with overread.database.unit(tenant) as unit:
        study = unit.studies.find("1.2")
        assert study is not None
        stored = unit.studies.instances(study.id)
        refused = unit.studies.rejections(10)
    return study, stored, refused


def test_nothing_of_a_patient_is_in_the_tables(overread: Overread, tenant: TenantId) -> None:
    file(overread, tenant, patient_id="PID-PLANTED", accession_number="ACC-PLANTED", study_description="of Mr Planted")
    file(overread, tenant, patient_id="PID-PLANTED", file_sha256="f" * 64)
    file(overread, tenant, patient_id="PID-PLANTED", file_sha256="e" * 64, pixel_sha256="d" * 64)
    with psycopg.connect(overread.login(roles.tenant_role(tenant))) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p')"
            " AND has_table_privilege(oid, 'SELECT')",
            (roles.tenant_role(tenant),),
        ).fetchall()
        dump = "".join(
            str(connection.execute(f"SELECT t::text FROM {name} t".encode()).fetchall())
            for (name,) in tables
            if name != "schema_version"
        )
    for planted in ("PLANTED", "Planted", "19610203", "1961-02-03", "f" * 64, SENDER.name):
        assert planted not in dump
    assert "1.2.3.1" in dump, "UIDs are plain, so this test looked at something"


def test_rotation_without_downtime(settings: Settings, overread: Overread, tenant: TenantId, keys: OwnerKeys) -> None:
    file(overread, tenant, 1)
    assert keys.rotate_data(tenant) == 2
    with process(settings) as other:
        file(other, tenant, 2)
        study, stored, _, objects = everything(other, tenant)
        assert study.patient_name == NAME
        assert {i.record.patient_birth_date for i in stored} == {BORN}
        assert objects == [b"object 1", b"object 2"]
    # The first process has not looked for new keys since, and meets what the second wrote.
    assert everything(overread, tenant)[3] == [b"object 1", b"object 2"]
    assert sealed_versions(overread, tenant) == {
        "studies": {1},
        "instances": {1, 2},
        "instance_revisions": set(),
        "rejections": set(),
    }


def encrypt_again(overread: Overread, tenant: TenantId) -> Reencryption:
    again = Reencryption(overread.database, overread.objects)  # type: ignore[arg-type]
    for steps in (again.rows(tenant), again.objects(tenant)):
        for step in steps:
            assert step.done <= step.total
    return again


def test_encrypted_again_the_old_key_can_go(
    settings: Settings, overread: Overread, tenant: TenantId, keys: OwnerKeys
) -> None:
    file(overread, tenant, 1)
    file(overread, tenant, 1, file_sha256="f" * 64)
    file(overread, tenant, 1, file_sha256="e" * 64, pixel_sha256="d" * 64)
    before = everything(overread, tenant)
    keys.rotate_data(tenant)
    with process(settings) as other:
        again = encrypt_again(other, tenant)
        assert again.behind(tenant) == 0
        assert keys.retire(tenant, 2) == 1
    with process(settings) as third:
        assert everything(third, tenant) == before
        assert all(versions == {2} for versions in sealed_versions(third, tenant).values())
        assert file(third, tenant, 1).outcome is ReceiveOutcome.DUPLICATE, "the index key did not change"
    assert [s.state for s in keys.states() if (s.tenant, s.purpose) == (tenant.slug, "data")] == ["retired", "active"]


def test_it_goes_on_where_it_was_stopped(
    settings: Settings, overread: Overread, tenant: TenantId, keys: OwnerKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overread.store.keys_reencrypt._BATCH", 2)
    for number in range(1, 8):
        file(overread, tenant, number)
    keys.rotate_data(tenant)
    with process(settings) as other:
        again = Reencryption(other.database, other.objects)  # type: ignore[arg-type]
        for step in again.rows(tenant):
            if (step.what, step.done) == ("instances", 4):
                break
        assert again.behind(tenant) == 3
    with process(settings) as other:
        again = Reencryption(other.database, other.objects)  # type: ignore[arg-type]
        assert [s.done for s in again.rows(tenant) if s.what == "instances"] == [2, 3]
        assert again.behind(tenant) == 0


def test_the_commands(settings: Settings, tenant: TenantId, monkeypatch: pytest.MonkeyPatch) -> None:
    """`overread keys` from rotation to the old key's end, as an operator types it."""
    monkeypatch.setattr("overread.admin.keys.SETTLED_S", 0.0)
    monkeypatch.setattr("overread.admin.keys._STRAGGLERS_S", 0.0)
    monkeypatch.setattr("overread.cli_keys.Settings", lambda: settings)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> str:
        result = CliRunner().invoke(keys_commands, words)
        assert result.exit_code == 0, result.output
        return result.output

    with process(settings) as one:
        file(one, tenant, 1)
        file(one, tenant, 2)
        assert f"{tenant} encrypts with version 2 now." in run("rotate-data", tenant.slug)
        one.stored.delete(tenant, everything(one, tenant)[1][0].object_key)
        said = run("reencrypt", tenant.slug)
        assert "is encrypted by its present data key" in said
        assert "1 objects are missing or damaged" in said
        assert run("reencrypt", tenant.slug, "--again")
    states = {(s.purpose, s.version): s.state for s in admin_keys.states(settings) if s.tenant == tenant.slug}
    assert states == {("data", 1): "retired", ("data", 2): "active", ("index", 1): "active"}
    path = bootstrap.master_key_file(settings)
    assert path is not None
    old = path.read_text()
    assert "Back the new master key up" in run("rotate-master")
    assert old.strip() not in path.read_text()
    shown = run("status")
    assert f"{tenant.slug}" in shown and "retired" in shown
    with process(settings) as other:
        assert everything_but_objects(other, tenant)[0].patient_name == NAME
    for words in (("rotate-data", "nobody"), ("reencrypt", "nobody")):
        assert isinstance(CliRunner().invoke(keys_commands, words).exception, NotFound)


def test_a_key_in_use_is_not_retired(overread: Overread, tenant: TenantId, keys: OwnerKeys) -> None:
    file(overread, tenant)
    assert keys.retire(tenant, 1) == 0
    assert keys.rotate_data(tenant) == 2
    assert keys.retire(tenant, 1) == 0, "only the versions before the active one"


def test_another_master_key_while_everything_runs(
    settings: Settings, overread: Overread, tenant: TenantId, tmp_path: Path, engine: sqlalchemy.Engine
) -> None:
    file(overread, tenant)
    path = bootstrap.master_key_file(settings)
    assert path is not None
    old = path.read_text()
    keys_master.add_to_file(path)
    owner = bootstrap.owner_keys(settings, engine)
    assert owner.wrap_again() >= 2
    assert owner.wrap_again() == 0
    keys_master.keep_newest(path)
    assert path.read_text() != old
    assert len(path.read_text().split()) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert everything(overread, tenant)[0].patient_name == NAME, "the running process goes on"
    with process(settings) as other:
        assert everything(other, tenant)[0].patient_name == NAME
    stolen = tmp_path / "old.key"
    stolen.write_text(old)
    stolen.chmod(0o600)
    with (
        process(settings.model_copy(update={"master_key_file": stolen})) as thief,
        pytest.raises(KeyUnavailable, match="does not hold"),
    ):
        everything(thief, tenant)


def test_shredded_keys_leave_nothing_to_read(
    settings: Settings, overread: Overread, tenant: TenantId, other_tenant: TenantId, engine: sqlalchemy.Engine
) -> None:
    study = file(overread, tenant).study_id
    file(overread, other_tenant)
    (stored,) = everything(overread, tenant)[1]
    with engine.connect() as connection:
        wrapped = connection.exec_driver_sql(
            "SELECT wrapped FROM overread.data_keys WHERE tenant = %s", (tenant.slug,)
        ).fetchall()
    bootstrap.shred_keys(engine, tenant)
    bootstrap.shred_keys(engine, tenant)
    with process(settings) as other:
        with pytest.raises(KeyShredded), other.database.unit(tenant) as unit:
            unit.studies.get(study)
        with pytest.raises(KeyShredded):
            other.objects.get(tenant, stored.object_key)
        with pytest.raises(KeyShredded):
            other.objects.put(tenant, "new", b"not under a new key either")
        assert everything(other, other_tenant)[3] == [b"object 1"], "the neighbour is untouched"
    # The process that knew the keys forgets them when it looks again.
    with pytest.raises(KeyShredded):
        overread.database._ciphers.ring.reload(tenant)
    with pytest.raises(KeyShredded), overread.database.unit(tenant) as unit:
        unit.studies.get(study)
    if settings.database_url:
        return  # its files are not ours to read
    folder = bootstrap.embedded(settings).data
    with engine.connect() as connection:
        relation = connection.exec_driver_sql("SELECT pg_relation_filepath('overread.data_keys')").scalar_one()
        connection.exec_driver_sql("CHECKPOINT")
    on_disk = (folder / relation).read_bytes()
    assert all(bytes(row[0]) not in on_disk for row in wrapped), "not even the wrapped keys are in the table's file"


def test_a_tenant_that_never_stored_anything_can_be_shredded(
    settings: Settings, tenant: TenantId, engine: sqlalchemy.Engine
) -> None:
    bootstrap.shred_keys(engine, tenant)
    with process(settings) as other, pytest.raises(KeyShredded):
        other.objects.put(tenant, "k", b"x")


def test_the_audit_chain_verifies_without_the_keys(
    settings: Settings, sealed: Trail, engine: sqlalchemy.Engine
) -> None:
    patient = PatientRef(issuer="", patient_id="PID")
    with sealed.overread.database.unit(sealed.tenant) as unit:
        unit.audit.record(AuditAction.STUDY_VIEW, actor=DOCTOR, patient=patient)
    assert sealed.seal() == 1
    bootstrap.shred_keys(engine, sealed.tenant)
    with process(settings) as other, pytest.raises(KeyShredded), other.database.unit(sealed.tenant) as unit:
        unit.patient_index.blind("", "PID")
    report = sealed.check()
    assert (report.good, report.rows, report.pending) == (True, 13, 0)
    sealed.sql("ALTER TABLE audit_events DISABLE TRIGGER USER")
    sealed.sql("UPDATE audit_events SET patient = repeat('0', 64) WHERE patient <> ''")
    assert not sealed.check().good, "it still finds what was changed"


# --- from before ------------------------------------------------------------------------------------------------------


def plain_rows(overread: Overread, tenant: TenantId) -> tuple[UUID, InstanceRecord]:
    """What Overread wrote before it encrypted identifiers and objects."""
    made = record(patient_name=NAME, patient_birth_date=BORN, patient_id="PID", issuer_of_patient_id="H")
    study, series = uuid7(), uuid7()
    with psycopg.connect(overread.login(roles.tenant_role(tenant))) as connection:
        connection.execute(
            "INSERT INTO studies (id, study_instance_uid, patient_id, issuer_of_patient_id, patient_name,"
            " patient_birth_date, patient_sex, accession_number, study_description, received_first, received_last)"
            " VALUES (%s,'1.2','PID','H',%s,%s,'O','A1','Chest',%s,%s)",
            (study, NAME, BORN, NOW, NOW),
        )
        connection.execute(
            "INSERT INTO series (id, study_id, series_instance_uid, series_description) VALUES (%s,%s,'1.2.3','PA')",
            (series, study),
        )
        instance = uuid7()
        connection.execute(
            "INSERT INTO instances (id, study_id, series_id, sop_instance_uid, file_sha256, pixel_sha256, object_key,"
            " record, is_image, received_at, received_from) VALUES (%s,%s,%s,%s,%s,%s,'k/1',%s,true,%s,%s)",
            (
                instance,
                study,
                series,
                made.sop_instance_uid,
                made.file_sha256,
                made.pixel_sha256,
                Jsonb(to_json(made)),
                NOW,
                Jsonb(to_json(SENDER)),
            ),
        )
        connection.execute(
            "INSERT INTO instance_revisions (id, instance_id, file_sha256, object_key, record, received_at,"
            " received_from) VALUES (%s,%s,%s,'k/2',%s,%s,%s)",
            (uuid7(), instance, "f" * 64, Jsonb(to_json(made)), NOW, Jsonb(to_json(SENDER))),
        )
        connection.execute(
            "INSERT INTO rejections (id, code, message, file_sha256, received_at, received_from)"
            " VALUES (%s,'INVALID_DICOM','of ZYXWVUT',%s,%s,%s)",
            (uuid7(), "a" * 64, NOW, Jsonb(to_json(SENDER))),
        )
    for key in ("k/1", "k/2"):
        overread.stored.put_pieces(tenant, key, lambda: (b"object 1",))
    return study, made


def test_rows_and_objects_from_before(
    settings: Settings, overread: Overread, tenant: TenantId, keys: OwnerKeys
) -> None:
    study, made = plain_rows(overread, tenant)
    with overread.database.unit(tenant) as unit:
        overread.assemble.close_revision(unit, study, NOW)
    row, stored, refused, objects = everything(overread, tenant)
    assert (row.patient_name, row.patient_birth_date) == (NAME, BORN.isoformat())
    assert [i.record for i in stored] == [made]
    assert refused == (
        Rejection(code="INVALID_DICOM", message="of ZYXWVUT", sender=SENDER, received_at=NOW, file_sha256="a" * 64),
    )
    assert objects == [b"object 1"]
    with overread.database.unit(tenant) as unit:  # the same refusal came again before the rows were encrypted
        unit.studies.record_rejection(replace(refused[0], message="newer"))

    again = Reencryption(overread.database, overread.objects)  # type: ignore[arg-type]
    assert {s.what for s in again.plain_rows(tenant)} == {"studies", "instances", "instance revisions", "rejections"}
    keys.sweep(tenant)
    assert list(again.plain_rows(tenant)) == []
    after = everything(overread, tenant)
    assert (after[0], after[1], after[3]) == (row, stored, objects)
    assert {r.message for r in after[2]} == {"of ZYXWVUT", "newer"}
    with overread.database.unit(tenant) as unit:
        assert unit.analyses.search(AnalysisFilter(text="zyxwvut"))[1] == 1
        assert unit.analyses.search(AnalysisFilter(patient_id="PID"))[1] == 1
        assert len(unit.studies.of_patient("PID", "H")) == 1
        assert unit.studies.of_patient("PID", "OTHER") == ()
    with psycopg.connect(overread.login(roles.tenant_role(tenant))) as connection:
        dump = str(
            [
                connection.execute(f"SELECT t::text FROM {table} t".encode()).fetchall()
                for table in ("studies", "series", "instances", "instance_revisions", "rejections")
            ]
        )
    assert not any(word in dump for word in ("ZYXWVUT", "1961", "PID", "TESTER", made.file_sha256, "f" * 64))

    assert overread.stored.exists(tenant, "k/1")
    encrypt_again(overread, tenant)
    keys.retire(tenant, 1)
    with process(settings) as other:
        assert everything(other, tenant)[3] == [b"object 1"]
        other.stored.put_pieces(tenant, "k/1", lambda: (b"planted by a thief",))
        with pytest.raises(ObjectDamaged, match="not encrypted"):
            other.objects.get(tenant, "k/1")


def test_identifiers_do_not_open_in_another_row(overread: Overread, tenant: TenantId) -> None:
    from overread.domain.errors import IdentifiersDamaged

    first = file(overread, tenant, 1).study_id
    second = file(overread, tenant, 2, study_instance_uid="1.9", series_instance_uid="1.9.1").study_id
    with psycopg.connect(overread.login(roles.tenant_role(tenant))) as connection:
        connection.execute(
            "UPDATE studies SET identifiers = (SELECT identifiers FROM studies WHERE id = %s) WHERE id = %s",
            (first, second),
        )
    with overread.database.unit(tenant) as unit, pytest.raises(IdentifiersDamaged):
        unit.studies.get(second)
