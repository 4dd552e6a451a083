"""What `overread doctor`, /readyz and the pages ask the database about itself: no patient, no study."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from overread.domain.errors import StoreUnavailable
from overread.domain.study import TenantId
from overread.services.degradation import QueueHealth
from overread.store import migrate, roles

Connection = psycopg.Connection[tuple[Any, ...]]


class QueueProbe:
    """Asks with the door's log-in; one short connection a question."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo

    def __call__(self) -> QueueHealth:
        """Raises `StoreUnavailable`."""
        try:
            with psycopg.connect(self._conninfo, connect_timeout=3) as connection:
                row = connection.execute(
                    "SELECT workers, silent_s, waiting, pressing, running, failed, oldest_s"
                    " FROM overread.queue_health()"
                ).fetchone()
        except (psycopg.OperationalError, psycopg.errors.UndefinedFunction) as error:
            raise StoreUnavailable("The database cannot be reached just now.", remedy="Try again shortly.") from error
        workers, silent_s, waiting, pressing, running, failed, oldest_s = row or (0, None, 0, 0, 0, 0, None)
        return QueueHealth(
            workers=workers,
            silent_s=None if silent_s is None else float(silent_s),
            waiting=waiting,
            pressing=pressing,
            running=running,
            failed=failed,
            oldest_s=float(oldest_s or 0.0),
        )


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """Of the database server."""

    version: int
    shown_version: str
    now: datetime
    #: Whether the owner may set what only a superuser sets (`roles.TENANT_SUPERUSER_LIMITS`).
    superuser: bool
    connections: int
    most_connections: int


def server_facts(connection: Connection) -> ServerFacts:
    """With any log-in."""
    row = connection.execute(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'), clock_timestamp(),"
        " (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),"
        " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),"
        " current_setting('max_connections')::int"
    ).fetchone()
    assert row is not None  # noqa: S101  an aggregate has one row
    return ServerFacts(
        version=row[0], shown_version=row[1], now=row[2], superuser=row[3], connections=row[4], most_connections=row[5]
    )


@dataclass(frozen=True, kw_only=True)
class TenantFacts:
    """Of one hospital, in numbers."""

    tenant: TenantId
    state: str
    #: Why its migration failed; None: it went well.
    out_of_service: str | None
    #: Its schema is at the newest revision.
    current: bool
    senders: int
    #: A sender that may come from anywhere.
    open_senders: int
    #: Analyses that began half an hour ago or longer and have no end, or wait without a job.
    stuck: int
    #: Studies whose images wait for assembly for half an hour or longer.
    unassembled: int
    #: Seconds since the oldest row of the audit trail that has no seal; 0: all are sealed.
    unsealed_s: float


def tenant_facts(connection: Connection) -> tuple[TenantFacts, ...]:
    """With the owner's log-in."""
    head = migrate.newest("tenant")
    rows = connection.execute(
        "SELECT t.slug, CASE WHEN t.phase <> 'ready' THEN t.phase WHEN t.suspended THEN 'suspended' ELSE 'active' END,"
        " t.out_of_service, count(s.id), count(s.id) FILTER (WHERE s.certificate_sha256 IS NULL"
        " AND masklen(s.network) = 0) FROM overread.tenants t LEFT JOIN overread.senders s ON s.tenant = t.slug"
        " GROUP BY t.slug ORDER BY t.slug"
    ).fetchall()
    return tuple(_tenant(connection, head, *row) for row in rows)


def _tenant(
    connection: Connection, head: str, slug: str, state: str, out: str | None, senders: int, open_senders: int
) -> TenantFacts:
    tenant = TenantId(slug=slug)
    stuck = unassembled = 0
    unsealed = 0.0
    current = _revision(connection, tenant) == head
    if current:
        schema = roles.tenant_role(tenant)
        row = connection.execute(
            sql.SQL(
                "SELECT (SELECT count(*) FROM {analyses} a WHERE (a.status = 'processing'"
                "   AND a.started_at < now() - interval '30 minutes') OR (a.status = 'pending'"
                "   AND a.updated_at < now() - interval '5 minutes' AND NOT EXISTS (SELECT FROM"
                "   jobs.procrastinate_jobs j WHERE j.status IN ('todo', 'doing') AND j.queue_name = {queue}"
                "   AND j.args->>'analysis' = a.id::text))),"
                " (SELECT count(DISTINCT study_id) FROM {instances} WHERE NOT assembled"
                "   AND received_at < now() - interval '30 minutes'),"
                " coalesce((SELECT extract(epoch FROM now() - min(e.at)) FROM {events} e"
                "   WHERE e.id > (SELECT coalesce(max(seen), 0) FROM {seals})), 0)"
            ).format(
                analyses=sql.Identifier(schema, "image_analyses"),
                instances=sql.Identifier(schema, "instances"),
                events=sql.Identifier(schema, "audit_events"),
                seals=sql.Identifier(schema, "audit_seals"),
                queue=sql.Literal(schema),
            )
        ).fetchone()
        stuck, unassembled, unsealed = row if row is not None else (0, 0, 0.0)
    return TenantFacts(
        tenant=tenant,
        state=state,
        out_of_service=out,
        current=current,
        senders=senders,
        open_senders=open_senders,
        stuck=stuck,
        unassembled=unassembled,
        unsealed_s=float(unsealed),
    )


def _revision(connection: Connection, tenant: TenantId) -> str | None:
    schema = roles.tenant_role(tenant)
    if connection.execute("SELECT to_regclass(%s)", (f"{schema}.schema_version",)).fetchone() == (None,):
        return None
    query = sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(schema, "schema_version"))
    row = connection.execute(query).fetchone()
    return None if row is None else str(row[0])
