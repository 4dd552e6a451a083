"""A tenant's log-in reaches its own schema and nothing else, whatever SQL is injected."""

from __future__ import annotations

import psycopg
import pytest

from overread.bootstrap import Overread
from overread.domain.study import TenantId
from overread.store import roles


def _connect(overread: Overread, role: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(overread.login(role), autocommit=True)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM {other}.studies",
        "SET ROLE {other}",
        "SELECT set_config('role', '{other}', false); SELECT * FROM {other}.studies",
        "SET SESSION AUTHORIZATION {other}",
        "SELECT * FROM jobs.procrastinate_jobs",
        "SELECT * FROM overread.senders",
        "SELECT * FROM overread.tenants",
        "UPDATE audit_events SET actor = 'nobody'",
        "DELETE FROM audit_events",
        "DELETE FROM studies",
        "TRUNCATE studies",
        "DROP TABLE studies",
        "ALTER TABLE studies ADD COLUMN mine text",
        "CREATE TABLE public.mine (x int)",
        "CREATE TABLE mine (x int)",
    ],
)
def test_a_tenant_cannot(overread: Overread, tenant: TenantId, other_tenant: TenantId, statement: str) -> None:
    with (
        _connect(overread, roles.tenant_role(tenant)) as connection,
        pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidParameterValue)),
    ):
        for part in statement.format(other=roles.tenant_role(other_tenant)).split(";"):
            connection.execute(part.encode())


@pytest.mark.parametrize("role", [roles.WORKER, roles.DOOR])
def test_shared_logins_see_no_study(overread: Overread, tenant: TenantId, role: str) -> None:
    with _connect(overread, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(f"SELECT * FROM {roles.tenant_role(tenant)}.studies".encode())


@pytest.mark.parametrize("role", [roles.WORKER, roles.DOOR])
def test_only_tenants_enqueue(overread: Overread, role: str) -> None:
    with _connect(overread, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT overread.enqueue('x', '{}', 0, NULL, 0)")


def test_a_job_carries_its_log_ins_tenant_whatever_the_arguments_say(overread: Overread, tenant: TenantId) -> None:
    with _connect(overread, roles.tenant_role(tenant)) as connection:
        row = connection.execute(
            """SELECT overread.enqueue('noop', '{"tenant": "somebody_else", "analysis": "a"}', 0, 'l', 3600)"""
        ).fetchone()
    assert row is not None
    with _connect(overread, roles.WORKER) as connection:
        job = connection.execute("SELECT args, lock, queue_name FROM procrastinate_jobs WHERE id = %s", row).fetchone()
    assert job == ({"tenant": tenant.slug, "analysis": "a"}, f"{tenant.slug}:l", roles.tenant_role(tenant))


def test_units_of_two_tenants_do_not_meet(overread: Overread, tenant: TenantId, other_tenant: TenantId) -> None:
    from datetime import UTC, datetime

    from tests.integration.records import SENDER, record

    with overread.database.unit(tenant) as unit:
        filed = unit.studies.file_instance(record(), "k", SENDER, datetime.now(UTC), lambda: None)
    assert filed.study_id is not None
    with overread.database.unit(other_tenant) as unit:
        assert unit.studies.get(filed.study_id) is None
        assert unit.studies.find("1.2") is None
