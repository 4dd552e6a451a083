"""Bring the database to the present schema: shared part, queue, and every tenant. Safe to run again at any point.

Runs as the owner; serving processes never do. `ensure` is what `overread serve` calls at every start.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from procrastinate import schema as procrastinate_schema
from psycopg.conninfo import make_conninfo

from overread.domain.errors import StoreUnavailable
from overread.domain.study import TenantId
from overread.store import roles

_MIGRATIONS = Path(str(importlib.resources.files("overread.store") / "migrations"))


def owner_engine(url: str, password: str | None = None) -> sqlalchemy.Engine:
    """An engine for the owner's libpq connection string or URL."""
    conninfo = make_conninfo(url, password=password) if password else url
    return sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=sqlalchemy.NullPool
    )


def ensure(engine: sqlalchemy.Engine, secret: bytes) -> None:
    """Shared schema, queue, log-ins; then every tenant that exists."""
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7210001)")
        for schema in (roles.SHARED_SCHEMA, roles.JOBS_SCHEMA):
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        connection.exec_driver_sql("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        _ensure_login(connection, roles.WORKER, secret, roles.JOBS_SCHEMA)
        _ensure_login(connection, roles.DOOR, secret, roles.SHARED_SCHEMA)
        if connection.exec_driver_sql("SELECT to_regclass('jobs.procrastinate_jobs')").scalar() is None:
            connection.exec_driver_sql("SET LOCAL search_path = jobs")
            raw = connection.connection.dbapi_connection
            assert raw is not None  # noqa: S101  an open connection has one
            raw.cursor().execute(procrastinate_schema.SchemaManager.get_schema().encode())
    _upgrade(engine, roles.SHARED_SCHEMA, "shared")
    for tenant in list_tenants(engine):
        ensure_tenant(engine, secret, tenant)


def list_tenants(engine: sqlalchemy.Engine) -> tuple[TenantId, ...]:
    """All tenants, in order of their slug."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT slug FROM overread.tenants ORDER BY slug").fetchall()
    return tuple(TenantId(slug=row[0]) for row in rows)


def create_tenant(engine: sqlalchemy.Engine, secret: bytes, tenant: TenantId, name: str) -> bool:
    """Register and set up a tenant; False if it was there already (then it is brought up to date)."""
    with engine.begin() as connection:
        result = connection.exec_driver_sql(
            "INSERT INTO overread.tenants (slug, name) VALUES (%s, %s) ON CONFLICT DO NOTHING", (tenant.slug, name)
        )
        created = result.rowcount == 1
    ensure_tenant(engine, secret, tenant)
    return created


def add_sender(
    engine: sqlalchemy.Engine,
    tenant: TenantId,
    *,
    called_ae: str,
    network: str | None = None,
    calling_ae: str | None = None,
    certificate_sha256: str | None = None,
) -> None:
    """Let a DICOM peer speak for a tenant; the same entry twice is one entry."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO overread.senders (tenant, called_ae, calling_ae, network, certificate_sha256)"
            " VALUES (%s, %s, %s, %s::inet, %s) ON CONFLICT DO NOTHING",
            (tenant.slug, called_ae, calling_ae, network, certificate_sha256),
        )


def remove_sender(engine: sqlalchemy.Engine, number: int) -> bool:
    """False if no entry has this number."""
    with engine.begin() as connection:
        return connection.exec_driver_sql("DELETE FROM overread.senders WHERE id = %s", (number,)).rowcount == 1


def list_senders(engine: sqlalchemy.Engine) -> list[tuple[str, ...]]:
    """Number, tenant, called AE title, network, calling AE title, certificate; what is not asked for is ''."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT id, tenant, called_ae, network, calling_ae, certificate_sha256 FROM overread.senders"
            " ORDER BY tenant, called_ae, id"
        ).fetchall()
    return [tuple("" if value is None else str(value) for value in row) for row in rows]


@contextlib.contextmanager
def reachable() -> Iterator[None]:
    """Raises `StoreUnavailable` inside the block if there is no server."""
    try:
        yield
    except (psycopg.OperationalError, sqlalchemy.exc.OperationalError) as error:
        raise StoreUnavailable(
            "The database cannot be reached.", remedy="Start `overread serve` first, or set OVERREAD_DATABASE_URL."
        ) from error


def ensure_tenant(engine: sqlalchemy.Engine, secret: bytes, tenant: TenantId) -> None:
    """Schema, log-in and rights of one tenant, at the present revision."""
    role = roles.tenant_role(tenant)
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7210001)")
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {role}")
        _ensure_login(connection, role, secret, role)
    _upgrade(engine, role, "tenant")
    with engine.begin() as connection:
        for statement in _tenant_rights(role):
            connection.exec_driver_sql(statement)


def _tenant_rights(role: str) -> Iterable[str]:
    yield f"GRANT USAGE ON SCHEMA {role}, overread TO {role}"
    yield f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA {role} TO {role}"
    yield f"REVOKE INSERT, UPDATE ON {role}.schema_version FROM {role}"
    yield f"REVOKE UPDATE ON {role}.audit_events FROM {role}"
    yield f"GRANT EXECUTE ON FUNCTION overread.enqueue, overread.publish TO {role}"
    yield f"GRANT EXECUTE ON FUNCTION overread.own_data_keys, overread.first_data_keys TO {role}"


def _ensure_login(connection: sqlalchemy.Connection, role: str, secret: bytes, search_path: str) -> None:
    known = connection.exec_driver_sql("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).scalar()
    if known is None:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN NOINHERIT NOCREATEDB NOCREATEROLE")
    connection.exec_driver_sql(f"ALTER ROLE {role} PASSWORD '{roles.password(secret, role)}'")
    connection.exec_driver_sql(f"ALTER ROLE {role} SET search_path = {search_path}")


def _upgrade(engine: sqlalchemy.Engine, schema: str, line: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("version_locations", str(_MIGRATIONS / line))
    config.set_main_option("path_separator", "os")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SET search_path = {schema}")
        connection.commit()
        config.attributes.update(connection=connection, schema=schema)
        command.upgrade(config, f"{line}@head")
        connection.commit()
