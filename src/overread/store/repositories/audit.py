"""The audit trail: rows that no serving log-in may change or delete."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb


class Audit:
    """Implements `services.ports.AuditTrail`."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def record(self, action: str, *, actor: str, study_id: UUID | None = None, **facts: Any) -> None:
        """`facts` must be plain JSON types, and must not name the patient."""
        self._connection.execute(
            "INSERT INTO audit_events (action, actor, study_id, facts) VALUES (%s, %s, %s, %s)",
            (action, actor, study_id, Jsonb(facts)),
        )
