"""Server-sent events (WHATWG HTML 9.2): what changed, ids only. A page fetches the rest by itself.

A reconnecting page may have missed events, so each stream begins with `hello`, on which the page reloads its list. A
stream ends with its session, or when the server shuts down; the browser then connects again by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import datetime

import orjson
from fastapi import Response
from starlette.responses import StreamingResponse

from overread.domain.errors import StoreUnavailable
from overread.domain.study import TenantId
from overread.services.ports import Clock, Event, EventSource

#: Milliseconds after which a browser connects again.
RETRY_MS = 2000


def frame(event: str, data: object) -> bytes:
    """One event on the wire."""
    return b"event: " + event.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


def event_stream(
    source: EventSource,
    tenant: TenantId,
    *,
    clock: Clock,
    until: datetime,
    heartbeat_s: float,
    wanted: Callable[[Event], bool] = lambda _event: True,
) -> Response:
    """A response that tells the tenant's events until `until`, with a comment line every `heartbeat_s` seconds."""
    return StreamingResponse(
        _frames(source, tenant, clock, until, heartbeat_s, wanted),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _frames(
    source: EventSource,
    tenant: TenantId,
    clock: Clock,
    until: datetime,
    heartbeat_s: float,
    wanted: Callable[[Event], bool],
) -> AsyncIterator[bytes]:
    yield f"retry: {RETRY_MS}\n\n".encode()
    try:
        async with source.subscribe(tenant) as events:
            yield frame("hello", {})
            pending: asyncio.Future[Event] | None = None
            iterator = aiter(events)
            try:
                while clock() < until:
                    pending = pending or asyncio.ensure_future(anext(iterator))
                    done, _ = await asyncio.wait({pending}, timeout=heartbeat_s)
                    if not done:
                        yield b": still here\n\n"
                        continue
                    try:
                        event = pending.result()
                    except StopAsyncIteration:
                        return
                    pending = None
                    if wanted(event):
                        yield frame(event.kind, dict(event.ids))
            finally:
                if pending is not None:
                    pending.cancel()
                    with suppress(asyncio.CancelledError, StopAsyncIteration):
                        await pending
    except StoreUnavailable:
        # The response has begun, so there is no status left to send: end it, and the browser tries again.
        yield frame("unavailable", {})
