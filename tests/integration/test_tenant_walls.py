"""A tenant's log-in reaches its own schema and nothing else, whatever SQL is injected.

Roles, schemas, tables and functions come from PostgreSQL's catalog and are not listed: a new one cannot be forgotten.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
import pytest
import sqlalchemy
from psycopg import errors, sql

from overread import bootstrap
from overread.bootstrap import Overread
from overread.config import Settings
from overread.domain.errors import StoreUnavailable
from overread.domain.study import TenantId
from overread.services.retry import RetryPolicy
from overread.services.values import Event
from overread.store import migrate, roles
from overread.store.events import PostgresEvents
from overread.store.worker_queue import WorkerQueue
from tests.integration.conftest import make_tenant
from tests.integration.records import SENDER, record

Connection = psycopg.Connection[tuple[object, ...]]
DENIED = (
    errors.InsufficientPrivilege,
    errors.InvalidParameterValue,
    errors.UndefinedTable,
    errors.UndefinedFunction,
    errors.UndefinedFile,
    errors.FeatureNotSupported,
)


def _connect(overread: Overread, role: str) -> Connection:
    return psycopg.connect(overread.login(role, direct=True), autocommit=True)


def _schema_of(tenant: TenantId) -> str:
    return roles.tenant_role(tenant)


@dataclass(frozen=True, kw_only=True)
class House:
    """Two hospitals; the other one has a study, a setting and a job, and is at work."""

    overread: Overread
    own: TenantId
    other: TenantId


@pytest.fixture(scope="module")
def house(settings: Settings) -> Iterator[House]:
    """One for all that only tries."""
    overread = bootstrap.build(settings)
    own, other = make_tenant(settings), make_tenant(settings)
    with overread.database.unit(other) as unit:
        unit.studies.file_instance(record(), "k", SENDER, datetime.now(UTC), lambda: None)
        unit.jobs.enqueue("noop", {"id": "theirs"}, priority=0, delay_s=3600)
    overread.tenant_settings.set(other, "derived_hours", "7", reason="test", actor="test")
    with _connect(overread, _schema_of(other)), _connect(overread, roles.WORKER):
        yield House(overread=overread, own=own, other=other)
    overread.close()


@pytest.fixture
def neighbour(house: House) -> TenantId:
    """The other hospital."""
    return house.other


# --- what the catalog says ------------------------------------------------------------------------------------------


@pytest.fixture
def serving(owner_engine: sqlalchemy.Engine, house: House) -> tuple[str, ...]:
    """Every role of ours that can log in and is not the owner."""
    with owner_engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname <> current_user"
            " AND rolname ~ '^(overread|t)_' ORDER BY rolname"
        ).fetchall()
    names = tuple(row[0] for row in rows)
    assert {roles.WORKER, roles.DOOR, _schema_of(house.own), _schema_of(house.other)} <= set(names)
    return names


def test_no_serving_log_in_has_power(owner_engine: sqlalchemy.Engine, serving: tuple[str, ...]) -> None:
    with owner_engine.connect() as connection:
        powerful = connection.exec_driver_sql(
            "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) AND"
            " (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls OR rolinherit)",
            (list(serving),),
        ).fetchall()
        members = connection.exec_driver_sql(
            "SELECT r.rolname, g.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member"
            " JOIN pg_roles g ON g.oid = m.roleid WHERE r.rolname = ANY(%s)",
            (list(serving),),
        ).fetchall()
        owned = connection.exec_driver_sql(
            "SELECT r.rolname, d.classid::regclass::text, d.objid FROM pg_shdepend d"
            " JOIN pg_roles r ON r.oid = d.refobjid"
            " WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' AND r.rolname = ANY(%s)",
            (list(serving),),
        ).fetchall()
    assert (powerful, members, owned) == ([], [], [])


def test_a_tenant_may_use_its_own_schema_and_two_others(
    owner_engine: sqlalchemy.Engine, serving: tuple[str, ...]
) -> None:
    with owner_engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT r, n.nspname, has_schema_privilege(r, n.oid, 'USAGE'), has_schema_privilege(r, n.oid, 'CREATE')"
            " FROM unnest(%s::text[]) r CROSS JOIN pg_namespace n WHERE n.nspname !~ '^pg_(toast|temp)'",
            (list(serving),),
        ).fetchall()
    system = {"pg_catalog", "information_schema"}
    may = {role: {schema for r, schema, use, _ in rows if r == role and use} - system for role in serving}
    assert {schema for _, schema, _, create in rows if create} == set()
    for role in serving:
        if role.startswith("t_"):
            assert may[role] == {role, roles.SHARED_SCHEMA}, role
    assert may[roles.WORKER] == {roles.JOBS_SCHEMA, roles.SHARED_SCHEMA}
    assert may[roles.DOOR] == {roles.SHARED_SCHEMA}


def test_a_tenant_may_touch_no_table_outside_its_schema(
    owner_engine: sqlalchemy.Engine, serving: tuple[str, ...]
) -> None:
    """Tables, single columns, sequences; also in the schema `overread`, which it may use for its functions."""
    with owner_engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT r, n.nspname || '.' || c.relname FROM unnest(%s::text[]) r CROSS JOIN pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE r LIKE 't\\_%%' AND n.nspname NOT IN ('pg_catalog', 'information_schema', r)"
            " AND n.nspname !~ '^pg_(toast|temp)' AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')"
            " AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(r, c.oid, 'USAGE, SELECT, UPDATE')"
            "     ELSE has_table_privilege(r, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"
            "     OR has_any_column_privilege(r, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES') END",
            (list(serving),),
        ).fetchall()
    assert rows == []


def test_every_function_that_runs_as_the_owner_is_closed(owner_engine: sqlalchemy.Engine) -> None:
    """A fixed search_path, and not for everybody."""
    with owner_engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT p.oid::regprocedure::text, array_to_string(p.proconfig, ' '),"
            " has_function_privilege('public', p.oid, 'EXECUTE')"
            " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
            " WHERE p.prosecdef AND n.nspname ~ '^(overread|jobs|t_.*)$'"
        ).fetchall()
    assert len(rows) >= 5
    for name, config, public in rows:
        assert "search_path=" in (config or ""), name
        assert config.rstrip('"').endswith("pg_temp"), name
        assert not public, name


def test_what_a_tenants_log_in_may_use_up(owner_engine: sqlalchemy.Engine, serving: tuple[str, ...]) -> None:
    with owner_engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT rolname, rolconnlimit, rolconfig FROM pg_roles WHERE rolname = ANY(%s) AND rolname LIKE 't\\_%%'",
            (list(serving),),
        ).fetchall()
        superuser = connection.exec_driver_sql("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").scalar()
    for name, connections, config in rows:
        assert connections == roles.TENANT_CONNECTIONS
        limits = [f"{key}={value}" for key, value in roles.TENANT_LIMITS]
        if superuser:
            limits += [f"{key}={value}" for key, value in roles.TENANT_SUPERUSER_LIMITS]
        assert sorted(config) == sorted([f"search_path={name}", *limits])


# --- what injected SQL can do ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        # another role
        "SET ROLE {other}",
        "SET ROLE overread_worker",
        "SET ROLE overread_owner",
        "SET LOCAL ROLE {other}",
        "SELECT set_config('role', '{other}', false); SELECT * FROM {other}.studies",
        "SELECT set_config('role', 'overread_owner', true)",
        "SET SESSION AUTHORIZATION {other}",
        "SELECT set_config('session_authorization', '{other}', false)",
        "GRANT {other} TO {own}",
        "GRANT {own} TO {other}",
        "ALTER ROLE {own} SUPERUSER",
        "ALTER ROLE {own} CONNECTION LIMIT -1",
        "ALTER ROLE {other} PASSWORD 'x'",
        "CREATE ROLE mine LOGIN",
        "SET temp_file_limit = -1",
        # another schema
        "SELECT * FROM {other}.studies",
        "SELECT * FROM {other}.tenant_settings",
        "SET search_path = {other}; SELECT * FROM studies",
        "SELECT set_config('search_path', '{other}, public', false); SELECT * FROM studies",
        "SELECT {other}.studies FROM {other}.studies",
        "SELECT '{other}.studies'::regclass; TABLE {other}.studies",
        "SELECT pg_relation_filepath('{other}.studies'); COPY {other}.studies TO STDOUT",
        "SELECT query_to_xml('SELECT * FROM {other}.studies', true, true, '')",
        "SELECT database_to_xml(true, true, ''); SELECT table_to_xml('{other}.studies', true, true, '')",
        "DO $$BEGIN EXECUTE 'SELECT * FROM {other}.studies';END$$",
        "LOCK TABLE {other}.studies",
        "ANALYZE {other}.studies; TABLE {other}.studies",
        "COMMENT ON TABLE {other}.studies IS 'mine'",
        "CREATE RULE mine AS ON INSERT TO {other}.studies DO ALSO NOTHING",
        "CREATE TRIGGER mine BEFORE INSERT ON studies EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE VIEW mine AS SELECT 1",
        "CREATE TABLE mine (x int REFERENCES {other}.studies (id))",
        # what is shared
        "SELECT * FROM jobs.procrastinate_jobs",
        "SELECT * FROM jobs.procrastinate_events",
        "SELECT jobs.procrastinate_fetch_job_v2(NULL, NULL)",
        "SELECT jobs.procrastinate_defer_jobs_v1(NULL)",
        "SELECT nextval('jobs.procrastinate_jobs_id_seq')",
        "SELECT * FROM overread.senders",
        "SELECT * FROM overread.tenants",
        "SELECT * FROM overread.channels",
        "SELECT * FROM overread.tenant_log",
        "SELECT * FROM overread.data_keys",
        "SELECT overread.tenants_to_assemble()",
        "SELECT overread.dead_letters(10)",
        # the server
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_read_binary_file('pg_hba.conf')",
        "SELECT pg_ls_dir('.')",
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "COPY studies FROM PROGRAM 'id'",
        "COPY (SELECT 1) TO '/tmp/overread-wall'",
        "COPY studies FROM '/etc/passwd'",
        "SELECT lo_import('/etc/passwd')",
        pytest.param("SELECT lo_create(0)", marks=pytest.mark.embedded_only),
        pytest.param("SELECT lo_from_bytea(0, 'x')", marks=pytest.mark.embedded_only),
        "SELECT lo_export(1, '/tmp/overread-wall')",
        "CREATE EXTENSION dblink",
        "SELECT dblink_connect('dbname=overread')",
        "LOAD 'auto_explain'",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TEMPORARY TABLE mine (x int)",
        "CREATE TABLE public.mine (x int)",
        "CREATE TABLE mine (x int)",
        "CREATE SCHEMA mine",
        "ALTER DATABASE overread SET search_path = {own}",
        "SELECT pg_reload_conf()",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'overread_worker'",
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = '{other}'",
        "SELECT pg_stat_reset()",
        "SELECT pg_logical_emit_message(false, 'a', 'b'); SELECT pg_create_logical_replication_slot('a', 'pgoutput')",
        # its own past
        "UPDATE audit_events SET actor = 'nobody'",
        "DELETE FROM audit_events",
        "DELETE FROM studies",
        "TRUNCATE studies",
        "DROP TABLE studies",
        "ALTER TABLE studies ADD COLUMN mine text",
        "UPDATE schema_version SET version_num = 'x'",
    ],
)
def test_a_tenant_cannot(house: House, statement: str) -> None:
    """The statement runs where injected SQL would: on the connection of a unit of work."""
    with pytest.raises(DENIED), house.overread.database.unit(house.own) as unit:
        for part in statement.format(own=_schema_of(house.own), other=_schema_of(house.other)).split("; "):
            unit.connection.execute(part.encode())


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE DATABASE mine",
        "DROP DATABASE overread",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "VACUUM {other}.studies; TABLE {other}.studies",
        pytest.param("SELECT pg_advisory_lock(7210001)", marks=pytest.mark.embedded_only),
        pytest.param("SELECT pg_advisory_xact_lock(1)", marks=pytest.mark.embedded_only),
        pytest.param("SELECT pg_try_advisory_lock_shared(7210001)", marks=pytest.mark.embedded_only),
    ],
)
def test_a_tenant_cannot_outside_of_a_transaction(house: House, statement: str) -> None:
    """The last three: what the migrations wait for. Only a superuser can take them from everybody."""
    with _connect(house.overread, _schema_of(house.own)) as connection, pytest.raises(DENIED):
        for part in statement.format(other=_schema_of(house.other)).split("; "):
            connection.execute(part.encode())


def test_statistics_tell_nothing_of_others(house: House, overread: Overread, neighbour: TenantId) -> None:
    """Values in statistics, and the text of others' statements. Names and sizes of tables PostgreSQL shows to all."""
    with _connect(overread, _schema_of(neighbour)) as theirs, _connect(overread, _schema_of(house.own)) as connection:
        theirs.execute("SELECT 'planted^name' FROM studies")
        queries = connection.execute("SELECT query FROM pg_stat_activity WHERE usename <> current_user").fetchall()
        assert all("planted" not in str(row[0]) for row in queries)
        visible = connection.execute(
            "SELECT DISTINCT schemaname FROM pg_stats WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert {row[0] for row in visible} <= {_schema_of(house.own)}


def test_what_it_changes_of_its_own_log_in_is_set_anew_at_the_next_start(
    overread: Overread, settings: Settings, tenant: TenantId, owner_engine: sqlalchemy.Engine
) -> None:
    """PostgreSQL lets every role change its own password and settings; that harms nobody else, and not for long."""
    role = _schema_of(tenant)
    with _connect(overread, role) as connection:
        connection.execute(sql.SQL("ALTER ROLE {} SET statement_timeout = 0").format(sql.Identifier(role)))
        connection.execute(sql.SQL("ALTER ROLE {} SET work_mem = '1GB'").format(sql.Identifier(role)))
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD 'mine'").format(sql.Identifier(role)))
    with pytest.raises(psycopg.OperationalError):
        _connect(overread, role)
    assert migrate.ensure(owner_engine, settings.secret()) == ()
    with _connect(overread, role) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("1min",)
        assert connection.execute("SHOW work_mem").fetchone() == ("4MB",)


# --- notifications: LISTEN and NOTIFY need no right -----------------------------------------------------------------

GUESSES = ("overread_events", "procrastinate_any_queue_v1", "events", "jobs", "c_")


def test_a_tenant_that_listens_hears_nobody(house: House, overread: Overread, neighbour: TenantId) -> None:
    with _connect(overread, _schema_of(house.own)) as connection:
        for channel in (*GUESSES, f"procrastinate_queue_v1#{_schema_of(neighbour)}"):
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        with overread.database.unit(neighbour) as unit:
            unit.events.publish("analysis", {"analysis": "theirs"})
            unit.jobs.enqueue("noop", {"id": "theirs"}, priority=0, delay_s=3600)
        assert list(connection.notifies(timeout=0.5)) == []


def test_an_event_names_its_own_tenant_whatever_is_forged(
    overread: Overread, tenant: TenantId, neighbour: TenantId
) -> None:
    """What a page of the neighbour gets: its own event, and neither the forged one nor the tenant's."""
    source = PostgresEvents(overread.login(roles.DOOR, direct=True))
    ready = threading.Event()
    heard: list[Event] = []

    async def listen() -> None:
        async with source.subscribe(neighbour) as events:
            async with asyncio.timeout(20):
                async for event in events:
                    if event.kind == "resync":
                        ready.set()
                        continue
                    heard.append(event)
                    if event.ids.get("analysis") == "theirs":
                        break
        await source.close()

    with ThreadPoolExecutor(1) as pool:
        listening = pool.submit(lambda: asyncio.run(listen()))
        assert ready.wait(20)
        forged = f'{{"tenant": "{neighbour.slug}", "kind": "analysis", "ids": {{"analysis": "forged"}}}}'
        with _connect(overread, _schema_of(tenant)) as connection:
            for channel in GUESSES:
                connection.execute("SELECT pg_notify(%s, %s)", (channel, forged))
            connection.execute('SELECT overread.publish(\'analysis\', \'{"analysis": "mine", "tenant": "x"}\')')
        with overread.database.unit(neighbour) as unit:
            unit.events.publish("analysis", {"analysis": "theirs"})
        listening.result()
    assert [event.ids for event in heard] == [{"analysis": "theirs"}]


def test_no_word_of_a_tenant_ends_the_worker(overread: Overread, tenant: TenantId) -> None:
    """procrastinate's own channel, with something that is no JSON, would stop every worker of the installation."""
    with overread.database.unit(tenant) as unit:
        unit.jobs.enqueue("walls", {"id": "first"}, priority=0)
    seen: list[str] = []

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def job(_tenant: TenantId, identifier: str) -> None:
            seen.append(identifier)
            if identifier == "first":
                with _connect(overread, _schema_of(tenant)) as connection:
                    for channel in (*GUESSES, f"procrastinate_queue_v1#{_schema_of(tenant)}"):
                        connection.execute("SELECT pg_notify(%s, 'no json')", (channel,))
                with overread.database.unit(tenant) as unit:
                    unit.jobs.enqueue("walls", {"id": "second"}, priority=0)

        def sweep() -> None:
            if "second" in seen:
                loop.call_soon_threadsafe(stop.set)

        queue = WorkerQueue(
            overread.login(roles.WORKER, direct=True), {"walls": job}, concurrency=1, policy=RetryPolicy()
        )
        await asyncio.wait_for(queue.run(sweep, sweep_every_s=0.05, stop=stop), 30)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(run())).result()
    assert seen == ["first", "second"]


# --- the shared log-ins, the queue's door ---------------------------------------------------------------------------


@pytest.mark.parametrize("role", [roles.WORKER, roles.DOOR])
def test_shared_logins_see_no_study(overread: Overread, tenant: TenantId, role: str) -> None:
    with _connect(overread, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(f"SELECT * FROM {_schema_of(tenant)}.studies".encode())


@pytest.mark.parametrize("role", [roles.WORKER, roles.DOOR])
def test_only_tenants_enqueue(overread: Overread, role: str) -> None:
    with _connect(overread, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT overread.enqueue('x', '{}', 0, NULL, 0)")


@pytest.fixture
def job(overread: Overread, tenant: TenantId) -> Iterator[tuple[object, ...]]:
    """What the job table holds of a job that was enqueued with lies."""
    with _connect(overread, roles.tenant_role(tenant)) as connection:
        row = connection.execute(
            """SELECT overread.enqueue('noop', '{"tenant": "somebody_else", "analysis": "a"}', 2000000000, 'l', 3600)"""
        ).fetchone()
    assert row is not None
    with _connect(overread, roles.WORKER) as connection:
        found = connection.execute(
            "SELECT args, lock, queue_name, priority FROM procrastinate_jobs WHERE id = %s", row
        ).fetchone()
        assert found is not None
        yield found
        connection.execute("DELETE FROM procrastinate_jobs WHERE id = %s", row)


def test_a_job_carries_its_log_ins_tenant_whatever_the_arguments_say(tenant: TenantId, job: tuple[object, ...]) -> None:
    assert job[:3] == ({"tenant": tenant.slug, "analysis": "a"}, f"{tenant.slug}:l", roles.tenant_role(tenant))


def test_no_job_is_above_critical(job: tuple[object, ...]) -> None:
    assert job[3] == 200


def test_units_of_two_tenants_do_not_meet(overread: Overread, tenant: TenantId, other_tenant: TenantId) -> None:
    with overread.database.unit(tenant) as unit:
        filed = unit.studies.file_instance(record(), "k", SENDER, datetime.now(UTC), lambda: None)
    assert filed.study_id is not None
    with overread.database.unit(other_tenant) as unit:
        assert unit.studies.get(filed.study_id) is None
        assert unit.studies.find("1.2") is None


# --- what one tenant can use up -------------------------------------------------------------------------------------


def test_a_statement_that_never_ends_is_ended(overread: Overread, tenant: TenantId) -> None:
    with _connect(overread, _schema_of(tenant)) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("1min",)
        connection.execute("SET statement_timeout = '50ms'")
        with pytest.raises(errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")


def test_one_tenant_cannot_take_every_connection(
    overread: Overread, tenant: TenantId, other_tenant: TenantId, owner_engine: sqlalchemy.Engine
) -> None:
    role = _schema_of(tenant)
    with owner_engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER ROLE {role} CONNECTION LIMIT 2")
    with _connect(overread, role), _connect(overread, role):
        with pytest.raises(psycopg.OperationalError, match="too many connections"):
            _connect(overread, role)
        with pytest.raises(StoreUnavailable), overread.database.unit(tenant):
            pass
        with overread.database.unit(other_tenant) as unit:
            assert unit.studies.find("1.2") is None


@pytest.mark.embedded_only
def test_temporary_files_of_one_tenant_are_limited(
    overread: Overread, tenant: TenantId, owner_engine: sqlalchemy.Engine
) -> None:
    role = _schema_of(tenant)
    with owner_engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER ROLE {role} SET temp_file_limit = '1MB'")
    with _connect(overread, role) as connection:
        connection.execute("SET work_mem = '64kB'")
        with pytest.raises(errors.ConfigurationLimitExceeded):
            connection.execute("SELECT count(*) FROM (SELECT n FROM generate_series(1, 400000) n ORDER BY -n) s")


@pytest.mark.embedded_only
def test_a_start_leaves_stored_passwords_as_they_are(
    settings: Settings, owner_engine: sqlalchemy.Engine, house: House
) -> None:
    """A pooler that hands log-ins through keeps what was made of them."""

    def stored() -> dict[str, str]:
        with owner_engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT rolname, rolpassword FROM pg_authid WHERE rolname ~ '^(overread|t)_'"
            )
            return {name: password for name, password in rows if name != "overread_owner"}

    before = stored()
    assert before and all(password.startswith("SCRAM-SHA-256$4096:") for password in before.values())
    assert len(set(before.values())) == len(before)
    migrate.ensure(owner_engine, settings.secret())
    assert stored() == before
