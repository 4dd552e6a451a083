"""What the operator does to a hospital is on its own audit trail, and in a log that outlives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy
import structlog

from overread import bootstrap
from overread.config import Settings
from overread.domain.audit import Actor, AuditAction
from overread.domain.errors import OverreadError
from overread.domain.study import TenantId
from overread.store import tenant_rows

log = structlog.get_logger(__name__)


def put_on_record(
    settings: Settings,
    engine: sqlalchemy.Engine,
    tenant: TenantId,
    action: AuditAction,
    actor: Actor,
    reason: str,
    facts: Mapping[str, Any],
) -> None:
    """Both; a suspended tenant's own trail cannot be written, the log always."""
    tenant_rows.write_log(engine, tenant, action.value, actor.name, reason, facts)
    state = tenant_rows.state(engine, tenant)
    if state is None or state.state != "active":
        return
    database = bootstrap.database(settings)
    try:
        with database.unit(tenant) as unit:
            unit.audit.record(action, actor=actor, reason=reason, **facts)
    except OverreadError as error:
        log.warning("not on the tenant's own trail", tenant=tenant.slug, action=action.value, code=error.code)
    finally:
        database.close()
