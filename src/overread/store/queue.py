"""The job queue: procrastinate on PostgreSQL.

A job is enqueued inside the transaction that changes the state, by the tenant's own log-in, through one SECURITY
DEFINER function (`overread.enqueue`); it carries opaque ids only. The worker's log-in sees the job table and no study.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.types.json import Jsonb


class TransactionalQueue:
    """Implements `services.ports.JobQueue` on the unit of work's own connection."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def enqueue(
        self, task: str, args: Mapping[str, str], *, priority: int, lock: str | None = None, delay_s: float = 0.0
    ) -> None:
        """Vanishes with the transaction if that is rolled back. Greater `priority` runs first, then the older job."""
        self._connection.execute(
            "SELECT overread.enqueue(%s, %s, %s, %s, %s)", (task, Jsonb(dict(args)), priority, lock, delay_s)
        )
