"""What the owner's log-in does with whole tenants: state, size, closing and dropping. Each step may be run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import sqlalchemy
import structlog
from psycopg.types.json import Jsonb

from overread.domain.study import TenantId
from overread.store import roles

log = structlog.get_logger(__name__)

#: Jobs that are deleted in one transaction.
_BATCH = 10_000
#: A worker that was silent for so long no longer holds its jobs.
_SILENT = "10 seconds"


@dataclass(frozen=True, kw_only=True)
class TenantState:
    """Where a tenant is in its life."""

    tenant: TenantId
    name: str
    created_at: datetime
    #: "active", "suspended", "creating", "deleting" or "out of service".
    state: str
    #: Why it is out of service; "" if it is not.
    reason: str


@dataclass(frozen=True, kw_only=True)
class TenantSize:
    """How much of a tenant there is; None where it cannot be asked just now."""

    studies: int | None
    users: int | None
    senders: int
    #: Tables and indexes, and objects as they came, in bytes.
    database_bytes: int
    object_bytes: int | None


_STATE = (
    "SELECT slug, name, created_at, CASE WHEN phase <> 'ready' THEN phase WHEN suspended THEN 'suspended'"
    " WHEN out_of_service IS NOT NULL THEN 'out of service' ELSE 'active' END, coalesce(out_of_service, '')"
    " FROM overread.tenants"
)


def states(engine: sqlalchemy.Engine) -> tuple[TenantState, ...]:
    """All of them, by slug."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(f"{_STATE} ORDER BY slug").fetchall()
    return tuple(_state(row) for row in rows)


def state(engine: sqlalchemy.Engine, tenant: TenantId) -> TenantState | None:
    """None if there is no such tenant."""
    with engine.connect() as connection:
        row = connection.exec_driver_sql(f"{_STATE} WHERE slug = %s", (tenant.slug,)).fetchone()
    return None if row is None else _state(row)


def _state(row: Any) -> TenantState:
    return TenantState(tenant=TenantId(slug=row[0]), name=row[1], created_at=row[2], state=row[3], reason=row[4])


def size(engine: sqlalchemy.Engine, tenant: TenantId) -> TenantSize:
    """Counted now."""
    schema = roles.tenant_role(tenant)
    with engine.connect() as connection:
        senders, database = connection.exec_driver_sql(
            "SELECT (SELECT count(*) FROM overread.senders WHERE tenant = %s),"
            " (SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class"
            "  WHERE relnamespace = to_regnamespace(%s) AND relkind = 'r')",
            (tenant.slug, schema),
        ).one()
        try:
            studies, users, objects = connection.exec_driver_sql(
                f"SELECT (SELECT count(*) FROM {schema}.studies), (SELECT count(*) FROM {schema}.users),"  # noqa: S608
                f" (SELECT coalesce(sum((record->>'size_bytes')::bigint), 0)::bigint FROM {schema}.instances)"
            ).one()
        except sqlalchemy.exc.ProgrammingError:  # creating, deleting: the tables are not there
            studies = users = objects = None
    return TenantSize(studies=studies, users=users, senders=senders, database_bytes=database, object_bytes=objects)


def write_log(
    engine: sqlalchemy.Engine, tenant: TenantId, action: str, actor: str, reason: str, facts: Mapping[str, Any]
) -> None:
    """Keep what the operator did: this outlives the tenant."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO overread.tenant_log (tenant, action, actor, reason, facts) VALUES (%s, %s, %s, %s, %s)",
            (tenant.slug, action, actor, reason, Jsonb(dict(facts))),
        )


def suspend(engine: sqlalchemy.Engine, tenant: TenantId) -> None:
    """Close the log-in and end its sessions; processes see it within two seconds besides."""
    role = roles.tenant_role(tenant)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE overread.tenants SET suspended = true WHERE slug = %s", (tenant.slug,))
        if _has_role(connection, role):
            connection.exec_driver_sql(f"ALTER ROLE {role} NOLOGIN")
    _end_sessions(engine, role)


def resume(engine: sqlalchemy.Engine, tenant: TenantId) -> None:
    """Open the log-in again."""
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER ROLE {roles.tenant_role(tenant)} LOGIN")
        connection.exec_driver_sql("UPDATE overread.tenants SET suspended = false WHERE slug = %s", (tenant.slug,))


def _has_role(connection: sqlalchemy.Connection, role: str) -> bool:
    return connection.exec_driver_sql("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).scalar() is not None


def _end_sessions(engine: sqlalchemy.Engine, role: str) -> None:
    try:
        with engine.begin() as connection:
            power = connection.exec_driver_sql("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").scalar()
            if not power:  # who may make roles may be a member for a moment
                connection.exec_driver_sql(f"GRANT {role} TO CURRENT_USER")
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (role,)
            )
            if not power:
                connection.exec_driver_sql(f"REVOKE {role} FROM CURRENT_USER")
    except sqlalchemy.exc.ProgrammingError as error:
        if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise
        log.warning("sessions end by themselves: the owner may not end them", role=role)


# --- deleting -------------------------------------------------------------------------------------------------------


def begin_deleting(engine: sqlalchemy.Engine, tenant: TenantId) -> None:
    """From here on it can only be deleted."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE overread.tenants SET phase = 'deleting', suspended = true WHERE slug = %s", (tenant.slug,)
        )
    suspend(engine, tenant)


def running_jobs(engine: sqlalchemy.Engine, tenant: TenantId) -> int:
    """Jobs that a living worker still runs."""
    with engine.connect() as connection:
        return int(
            connection.exec_driver_sql(
                "SELECT count(*) FROM jobs.procrastinate_jobs j JOIN jobs.procrastinate_workers w ON w.id = j.worker_id"
                " WHERE j.status = 'doing' AND j.queue_name = %s AND w.last_heartbeat > now() - %s::interval",
                (roles.tenant_role(tenant), _SILENT),
            ).scalar_one()
        )


def delete_jobs(engine: sqlalchemy.Engine, tenant: TenantId) -> int:
    """All of its jobs, in whatever state; how many."""
    queue, total = roles.tenant_role(tenant), 0
    while True:
        with engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL search_path = jobs")  # procrastinate's triggers name no schema
            done = connection.exec_driver_sql(
                "DELETE FROM jobs.procrastinate_jobs WHERE id IN"
                " (SELECT id FROM jobs.procrastinate_jobs WHERE queue_name = %s LIMIT %s)",
                (queue, _BATCH),
            ).rowcount
        total += done
        if done < _BATCH:
            break
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM jobs.overread_turns WHERE queue_name = %s", (queue,))
    return total


def drop(engine: sqlalchemy.Engine, tenant: TenantId) -> None:
    """Schema, log-in, senders and the tenant itself, in one transaction; the name stays taken."""
    role = roles.tenant_role(tenant)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {role} CASCADE")
        if _has_role(connection, role):
            for schema in (roles.SHARED_SCHEMA, roles.JOBS_SCHEMA):
                for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
                    connection.exec_driver_sql(f"REVOKE ALL ON ALL {kind} IN SCHEMA {schema} FROM {role}")
                connection.exec_driver_sql(f"REVOKE ALL ON SCHEMA {schema} FROM {role}")
            connection.exec_driver_sql(f"DROP ROLE {role}")
        connection.exec_driver_sql(
            "INSERT INTO overread.tenants_deleted (slug) VALUES (%s) ON CONFLICT DO NOTHING", (tenant.slug,)
        )
        connection.exec_driver_sql("DELETE FROM overread.tenants WHERE slug = %s", (tenant.slug,))


def was_deleted(engine: sqlalchemy.Engine, tenant: TenantId) -> bool:
    """Whether there was such a tenant and it is gone."""
    with engine.connect() as connection:
        row = connection.exec_driver_sql("SELECT 1 FROM overread.tenants_deleted WHERE slug = %s", (tenant.slug,))
        return row.scalar() is not None
