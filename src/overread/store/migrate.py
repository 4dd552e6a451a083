"""Bring the database to the present schema: shared part, queue, and every tenant. Safe to run again at any point.

Runs as the owner; serving processes never do. `ensure` is what `overread serve` calls at every start.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.resources
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import sqlalchemy
import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from procrastinate import schema as procrastinate_schema
from psycopg.conninfo import make_conninfo

from overread.domain.errors import Conflict, SetupError, StoreUnavailable
from overread.domain.study import TenantId
from overread.store import audit_partitions, roles
from overread.store.directory import SERVED

log = structlog.get_logger(__name__)

_MIGRATIONS = Path(str(importlib.resources.files("overread.store") / "migrations"))


def owner_engine(url: str, password: str | None = None) -> sqlalchemy.Engine:
    """An engine for the owner's libpq connection string or URL."""
    conninfo = make_conninfo(url, password=password) if password else url
    return sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=sqlalchemy.NullPool
    )


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A tenant that could not be brought up to date, and is out of service until it is."""

    tenant: TenantId
    #: Kind of the error, SQLSTATE and the table it names: no values, which may be a patient's.
    reason: str


def ensure(engine: sqlalchemy.Engine, secret: bytes) -> tuple[Failure, ...]:
    """Shared schema, queue, log-ins; then every tenant that exists. One that fails does not stop the others."""
    with _alone(engine):
        _ensure_shared(engine, secret)
        return _ensure_tenants(engine, secret, force=False)


def migrate_tenants(
    engine: sqlalchemy.Engine, secret: bytes, tenants: Collection[TenantId] | None = None
) -> tuple[Failure, ...]:
    """Bring the named tenants (all of them) up to date, also those that look as if they were."""
    with _alone(engine):
        return _ensure_tenants(engine, secret, force=True, only=tenants)


def prepare_for_load(engine: sqlalchemy.Engine, secret: bytes, revisions: Mapping[str, str]) -> None:
    """Schemas and log-ins as they were at some revisions (schema to revision), for a backup to be put into.

    Raises `SetupError` for a revision that this version does not know.
    """
    for schema, revision in revisions.items():
        line = "shared" if schema == roles.SHARED_SCHEMA else "tenant"
        try:
            ScriptDirectory.from_config(_config(line)).get_revision(revision)
        except CommandError as error:
            raise SetupError(
                f"The backup was made by another version of Overread (revision {revision} of {schema} is not known).",
                remedy="Install that version, or a newer one.",
            ) from error
    with _alone(engine):
        _ensure_shared(engine, secret, revisions[roles.SHARED_SCHEMA])
        for schema, revision in revisions.items():
            if schema != roles.SHARED_SCHEMA:
                with engine.begin() as connection:
                    connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
                    _ensure_login(connection, schema, secret, schema, tenant=True)
                _upgrade(engine, schema, "tenant", revision)


def _ensure_shared(engine: sqlalchemy.Engine, secret: bytes, revision: str = "head") -> None:
    with engine.begin() as connection:
        for schema in (roles.SHARED_SCHEMA, roles.JOBS_SCHEMA):
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        connection.exec_driver_sql("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        _ensure_login(connection, roles.WORKER, secret, roles.JOBS_SCHEMA)
        _ensure_login(connection, roles.DOOR, secret, roles.SHARED_SCHEMA)
        _close_shared_functions(connection)
        if connection.exec_driver_sql("SELECT to_regclass('jobs.procrastinate_jobs')").scalar() is None:
            connection.exec_driver_sql("SET LOCAL search_path = jobs")
            raw = connection.connection.dbapi_connection
            assert raw is not None  # noqa: S101  an open connection has one
            raw.cursor().execute(procrastinate_schema.SchemaManager.get_schema().encode())
    _upgrade(engine, roles.SHARED_SCHEMA, "shared", revision)


def _ensure_tenants(
    engine: sqlalchemy.Engine, secret: bytes, *, force: bool, only: Collection[TenantId] | None = None
) -> tuple[Failure, ...]:
    """Those whose fingerprint is the present one cost nothing."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT slug, prepared, out_of_service FROM overread.tenants WHERE phase = 'ready' ORDER BY slug"
        ).fetchall()
    _reset_logins(engine, secret, [TenantId(slug=row[0]) for row in rows])
    head, failures = _head("tenant"), []
    for slug, prepared, out_of_service in rows:
        tenant = TenantId(slug=slug)
        if only is not None and tenant not in only:
            continue
        if not force and out_of_service is None and prepared == _fingerprint(tenant, secret, head):
            continue
        reason = _try_tenant(engine, secret, tenant)
        if reason is not None:
            failures.append(Failure(tenant=tenant, reason=reason))
    return tuple(failures)


def _reset_logins(engine: sqlalchemy.Engine, secret: bytes, tenants: Sequence[TenantId]) -> None:
    """Every log-in may change its own password and settings, so an injected statement may have: set them anew."""
    with engine.begin() as connection:
        for tenant in tenants:
            role = roles.tenant_role(tenant)
            if connection.exec_driver_sql("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).scalar():
                _ensure_login(connection, role, secret, role, tenant=True)


def _try_tenant(engine: sqlalchemy.Engine, secret: bytes, tenant: TenantId) -> str | None:
    """Why it failed, None if it went well; both are written down. Raises if the server itself is gone."""
    try:
        _ensure_tenant(engine, secret, tenant)
    except (sqlalchemy.exc.SQLAlchemyError, psycopg.Error, CommandError) as error:
        reason = _reason(error)
        log.error("tenant out of service", tenant=tenant.slug, reason=reason)
    else:
        return None
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE overread.tenants SET out_of_service = %s WHERE slug = %s", (reason, tenant.slug)
        )
    return reason


def _reason(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, psycopg.Error):
        about = ".".join(n for n in (cause.diag.table_name, cause.diag.column_name, cause.diag.constraint_name) if n)
        return " ".join(p for p in (type(cause).__name__, cause.sqlstate or "", about) if p)
    return f"{type(cause).__name__}: {cause}" if isinstance(cause, CommandError) else type(cause).__name__


def list_tenants(engine: sqlalchemy.Engine, *, served: bool = False) -> tuple[TenantId, ...]:
    """All tenants, or those that are worked for, in order of their slug."""
    condition = SERVED if served else "true"
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            f"SELECT slug FROM overread.tenants WHERE {condition} ORDER BY slug"  # noqa: S608
        ).fetchall()
    return tuple(TenantId(slug=row[0]) for row in rows)


def create_tenant(engine: sqlalchemy.Engine, secret: bytes, tenant: TenantId, name: str) -> bool:
    """Register and set up a tenant; False if it was there already (then it is brought up to date).

    Interrupted, it can be run again and goes on where it was. Raises `Conflict` for a slug that was deleted.
    """
    with _alone(engine):
        with engine.begin() as connection:
            if connection.exec_driver_sql(
                "SELECT 1 FROM overread.tenants_deleted WHERE slug = %s", (tenant.slug,)
            ).scalar():
                raise Conflict(
                    f"A tenant {tenant} was deleted; its name is not used again.", remedy="Choose another name."
                )
            phase = connection.exec_driver_sql(
                "SELECT phase FROM overread.tenants WHERE slug = %s", (tenant.slug,)
            ).scalar()
            if phase == "deleting":
                raise Conflict(f"The tenant {tenant} is being deleted.", remedy="Run `overread tenant delete` again.")
            if phase is None:
                connection.exec_driver_sql(
                    "INSERT INTO overread.tenants (slug, name, phase) VALUES (%s, %s, 'creating')", (tenant.slug, name)
                )
        _ensure_tenant(engine, secret, tenant)
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE overread.tenants SET phase = 'ready' WHERE slug = %s", (tenant.slug,))
    return phase != "ready"


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
    """Bring one tenant up to date; raises what goes wrong."""
    with _alone(engine):
        _ensure_tenant(engine, secret, tenant)


def _ensure_tenant(engine: sqlalchemy.Engine, secret: bytes, tenant: TenantId) -> None:
    """Schema, log-in and rights of one tenant, at the present revision."""
    role = roles.tenant_role(tenant)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {role}")
        _ensure_login(connection, role, secret, role, tenant=True)
    _upgrade(engine, role, "tenant")
    with engine.begin() as connection:
        audit_partitions.ensure(connection, role)
        for statement in _tenant_rights(role):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql(
            "UPDATE overread.tenants SET prepared = %s, out_of_service = NULL WHERE slug = %s",
            (_fingerprint(tenant, secret, _head("tenant")), tenant.slug),
        )


def _fingerprint(tenant: TenantId, secret: bytes, head: str) -> str:
    """Of everything that `_ensure_tenant` makes: another one means that it must be done again."""
    role = roles.tenant_role(tenant)
    parts = [head, *roles.make_login(role, secret, role, tenant=True), *roles.superuser_limits(role)]
    # With the year, so that the first start of each makes its partitions of the audit trail.
    year = str(datetime.now(UTC).year)
    return hashlib.sha256("\n".join([*parts, *_tenant_rights(role), year]).encode()).hexdigest()


def _tenant_rights(role: str) -> Iterable[str]:
    yield f"GRANT USAGE ON SCHEMA {role}, overread TO {role}"
    yield f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA {role} TO {role}"
    yield f"REVOKE INSERT, UPDATE ON {role}.schema_version, {role}.ai_features FROM {role}"
    yield f"REVOKE UPDATE ON {role}.ai_feature_audit_log FROM {role}"
    yield from audit_partitions.rights(role)
    for table in ("recovery_codes", "revoked_sessions", "login_failures", "identity_provider"):
        yield f"GRANT DELETE ON {role}.{table} TO {role}"
    yield f"GRANT EXECUTE ON FUNCTION overread.enqueue, overread.publish TO {role}"
    yield f"GRANT EXECUTE ON FUNCTION overread.own_data_keys, overread.first_data_keys TO {role}"


def _ensure_login(
    connection: sqlalchemy.Connection, role: str, secret: bytes, search_path: str, *, tenant: bool = False
) -> None:
    known = connection.exec_driver_sql("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).scalar()
    if known is None:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN NOINHERIT NOCREATEDB NOCREATEROLE")
    for statement in roles.make_login(role, secret, search_path, tenant=tenant):
        connection.exec_driver_sql(statement)
    if tenant and _superuser(connection):
        for statement in roles.superuser_limits(role):
            connection.exec_driver_sql(statement)


def _superuser(connection: sqlalchemy.Connection) -> bool:
    return bool(connection.exec_driver_sql("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").scalar())


def _close_shared_functions(connection: sqlalchemy.Connection) -> None:
    """Take from everybody what reaches into what is shared; the functions are the superuser's, the database ours."""
    database = connection.exec_driver_sql("SELECT quote_ident(current_database())").scalar()
    connection.exec_driver_sql(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
    if _superuser(connection):
        for (function,) in connection.exec_driver_sql(roles.SHARED_FUNCTIONS).fetchall():
            connection.exec_driver_sql(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")


@contextlib.contextmanager
def _alone(engine: sqlalchemy.Engine) -> Iterator[None]:
    """Nobody else migrates meanwhile. Raises `SetupError` if somebody holds that lock for two minutes."""
    with engine.connect() as connection:
        try:
            connection.exec_driver_sql("SET lock_timeout = '120s'")
            connection.exec_driver_sql("SELECT pg_advisory_lock(7210001)")
            connection.commit()
        except sqlalchemy.exc.OperationalError as error:
            if isinstance(error.orig, psycopg.errors.LockNotAvailable):
                raise SetupError(
                    "Another process has been migrating this database for two minutes.",
                    remedy="Wait for it, or end its session (pg_locks names it).",
                ) from error
            raise
        yield  # the lock goes with the connection


def _config(line: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("version_locations", str(_MIGRATIONS / line))
    config.set_main_option("path_separator", "os")
    return config


@functools.cache
def _head(line: str) -> str:
    """The newest revision of a line."""
    return ScriptDirectory.from_config(_config(line)).get_heads()[0]


def newest(line: str) -> str:
    """The revision that a schema of this line ("shared", "tenant") should have."""
    return _head(line)


def _upgrade(engine: sqlalchemy.Engine, schema: str, line: str, revision: str = "head") -> None:
    config = _config(line)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SET search_path = {schema}")
        connection.commit()
        config.attributes.update(connection=connection, schema=schema)
        command.upgrade(config, f"{line}@{revision}" if revision == "head" else revision)
        connection.commit()
