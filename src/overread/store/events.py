"""Committed events to listening pages: one LISTEN connection per process, fanned out by tenant."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import psycopg
import structlog

from overread.domain.study import TenantId
from overread.services.values import Event

log = structlog.get_logger(__name__)

_RECONNECT_S = 1.0
_QUEUE = 1000

RESYNC = Event(kind="resync", ids={})
"""Sent after a reconnection, or when a page is too slow: events may have been lost, so it should load itself anew."""


class PostgresEvents:
    """Implements `services.ports.EventSource`. Wants a direct connection: poolers in transaction mode break LISTEN."""

    def __init__(self, conninfo: str) -> None:
        """`conninfo` with the door's log-in."""
        self._conninfo = conninfo
        self._listeners: dict[TenantId, set[asyncio.Queue[Event]]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def subscribe(self, tenant: TenantId) -> AsyncIterator[AsyncIterator[Event]]:
        """Events of one tenant from now on."""
        queue: asyncio.Queue[Event] = asyncio.Queue(_QUEUE)
        self._listeners.setdefault(tenant, set()).add(queue)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen(), name="listen for events")
        try:
            yield _drain(queue)
        finally:
            listeners = self._listeners[tenant]
            listeners.discard(queue)
            if not listeners:
                del self._listeners[tenant]

    async def close(self) -> None:
        """Stop listening."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _listen(self) -> None:
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
                async with connection:
                    await connection.execute(f"LISTEN {await _channel(connection)}")
                    for tenant in list(self._listeners):
                        self._hand_out(tenant, RESYNC)
                    async for notification in connection.notifies():
                        payload = orjson.loads(notification.payload)
                        event = Event(kind=payload["kind"], ids=payload["ids"])
                        self._hand_out(TenantId(slug=payload["tenant"]), event)
            except psycopg.OperationalError as error:
                log.warning("event connection lost", error=str(error).splitlines()[0])
            await asyncio.sleep(_RECONNECT_S)

    def _hand_out(self, tenant: TenantId, event: Event) -> None:
        for queue in self._listeners.get(tenant, ()):
            if queue.full():
                while not queue.empty():
                    queue.get_nowait()
                event = RESYNC
            queue.put_nowait(event)


async def _channel(connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> str:
    """The channel's name is a secret of the database: LISTEN and NOTIFY need no right (docs/explanation/tenants.md)."""
    cursor = await connection.execute("SELECT name FROM overread.channels WHERE purpose = 'events'")
    row = await cursor.fetchone()
    if row is None:
        raise psycopg.OperationalError("no channel for events")
    return str(row[0])


async def _drain(queue: asyncio.Queue[Event]) -> AsyncIterator[Event]:
    while True:
        yield await queue.get()
