"""Data keys on the real database: made once, readable by their own tenant only, worthless without the master key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from overread import bootstrap
from overread.bootstrap import Overread
from overread.config import Settings
from overread.domain.errors import KeyUnavailable
from overread.domain.study import TenantId
from overread.store import keys_master, roles
from overread.store.keys import DatabaseKeyRing, tenant_login


def ring(settings: Settings, master: keys_master.LocalMasterKeys | None = None) -> DatabaseKeyRing:
    login = tenant_login(bootstrap.database_url(settings), settings.secret())
    return DatabaseKeyRing(login, master or bootstrap.master_keys(settings))


def test_many_processes_make_one_key(settings: Settings, tenant: TenantId) -> None:
    rings = [ring(settings) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda r: r.keys(tenant), rings))
    assert len({k.data[1] for k in found}) == 1
    assert len({k.index for k in found}) == 1
    assert found[0].index != found[0].data[1]
    assert not found[0].plain_readable, "a new tenant has nothing that is not encrypted"


def test_tenants_have_keys_of_their_own(settings: Settings, tenant: TenantId, other_tenant: TenantId) -> None:
    mine = ring(settings)
    assert mine.keys(tenant).data[1] != mine.keys(other_tenant).data[1]
    assert mine.keys(tenant).index != mine.keys(other_tenant).index


def test_without_the_master_key_they_are_worthless(settings: Settings, tenant: TenantId) -> None:
    ring(settings).keys(tenant)
    stranger = keys_master.from_environment("ab" * 32)
    with pytest.raises(KeyUnavailable, match="does not hold"):
        ring(settings, stranger).keys(tenant)


@pytest.mark.parametrize("role", [roles.WORKER, roles.DOOR])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM overread.data_keys",
        "SELECT * FROM overread.own_data_keys()",
        "SELECT overread.first_data_keys('a', 'b', 'c')",
    ],
)
def test_shared_logins_read_no_key(overread: Overread, tenant: TenantId, role: str, statement: str) -> None:
    with (
        psycopg.connect(overread.login(role), autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM overread.data_keys",
        "DELETE FROM overread.data_keys",
        "UPDATE overread.data_keys SET wrapped = NULL, state = 'shredded'",
        "INSERT INTO overread.data_keys (tenant, purpose, version, state, master)"
        " VALUES ('x', 'data', 9, 'active', '')",
    ],
)
def test_a_tenants_log_in_cannot_touch_the_table(overread: Overread, tenant: TenantId, statement: str) -> None:
    with (
        psycopg.connect(overread.login(roles.tenant_role(tenant)), autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


def test_a_tenants_log_in_reads_its_own_and_makes_no_second(
    settings: Settings, overread: Overread, tenant: TenantId, other_tenant: TenantId
) -> None:
    before = ring(settings).keys(tenant)
    ring(settings).keys(other_tenant)
    with psycopg.connect(overread.login(roles.tenant_role(tenant)), autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM overread.own_data_keys()").fetchone() == (2,)
        assert connection.execute("SELECT overread.first_data_keys('a', 'b', 'c')").fetchone() == (False,)
    assert ring(settings).keys(tenant).data == before.data


def test_patients_are_blind_and_stable(overread: Overread, tenant: TenantId, other_tenant: TenantId) -> None:
    with overread.database.unit(tenant) as unit:
        one = unit.patient_index.blind("HOSPITAL", "4711")
        assert one == unit.patient_index.blind(" hospital ", "4711 ")
        assert one != unit.patient_index.blind("", "4711")
        assert one != unit.patient_index.blind("HOSPITAL", "4712")
        assert len(one) == 32
    with overread.database.unit(other_tenant) as unit:
        assert unit.patient_index.blind("HOSPITAL", "4711") != one
