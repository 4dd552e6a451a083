"""Server-sent events (WHATWG HTML 9.2): what changed, ids only. A page fetches the rest by itself.

A reconnecting page may have missed events, so each stream begins with `hello`, on which the page reloads its list. A
stream ends with its session, or when the server shuts down; the browser then connects again by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import orjson
from fastapi import Response
from starlette.responses import StreamingResponse

from overread.domain.errors import StoreUnavailable
from overread.domain.study import TenantId
from overread.services.ports import Clock, EventSource
from overread.services.values import Event

#: Milliseconds after which a browser connects again.
RETRY_MS = 2000


def frame(event: str, data: object) -> bytes:
    """One event on the wire."""
    return b"event: " + event.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


class Streams:
    """The open streams of one server: they never end by themselves, so a server that stops must end them."""

    def __init__(self) -> None:
        self._stops: set[asyncio.Event] = set()
        self._closed = False

    @contextmanager
    def stop_signal(self) -> Iterator[asyncio.Event]:
        """Set when the stream should end."""
        stop = asyncio.Event()
        if self._closed:
            stop.set()
        self._stops.add(stop)
        try:
            yield stop
        finally:
            self._stops.discard(stop)

    def close(self) -> None:
        """End all streams and those to come. Call it in the server's event loop."""
        self._closed = True
        for stop in self._stops:
            stop.set()


def event_stream(
    source: EventSource,
    tenant: TenantId,
    *,
    streams: Streams,
    clock: Clock,
    until: datetime,
    heartbeat_s: float,
    alive: Callable[[], Awaitable[bool]] | None = None,
    notes: Callable[[], tuple[str, ...]] = tuple,
) -> Response:
    """A response that tells the tenant's events until `until`, with a `beat` every `heartbeat_s` seconds of silence.

    Before each of them `alive` is asked whether the session still holds; the stream ends with it. `hello` and `beat`
    carry `notes`: what does not work just now, in sentences for the reader.
    """
    return StreamingResponse(
        _frames(source, tenant, streams, clock, until, heartbeat_s, alive, notes),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _frames(
    source: EventSource,
    tenant: TenantId,
    streams: Streams,
    clock: Clock,
    until: datetime,
    heartbeat_s: float,
    alive: Callable[[], Awaitable[bool]] | None,
    notes: Callable[[], tuple[str, ...]],
) -> AsyncIterator[bytes]:
    yield f"retry: {RETRY_MS}\n\n".encode()
    try:
        with streams.stop_signal() as stop:
            async with source.subscribe(tenant) as events:
                yield frame("hello", _notes(notes))
                async for event in _until_stopped(events, stop, heartbeat_s):
                    if clock() >= until or not (alive is None or await alive()):
                        return
                    yield frame(event.kind, dict(event.ids)) if event else frame("beat", _notes(notes))
    except StoreUnavailable:
        # The response has begun, so there is no status left to send: end it, and the browser tries again.
        yield frame("unavailable", {})


def _notes(notes: Callable[[], tuple[str, ...]]) -> dict[str, Any]:
    found = notes()
    return {"notes": found} if found else {}


async def _until_stopped(
    events: AsyncIterator[Event], stop: asyncio.Event, heartbeat_s: float
) -> AsyncIterator[Event | None]:
    """The events, and None after each `heartbeat_s` seconds without one."""
    stopping = asyncio.ensure_future(stop.wait())
    coming: asyncio.Future[Event] = asyncio.ensure_future(anext(events))
    try:
        while True:
            waiting: set[asyncio.Future[Any]] = {coming, stopping}
            done, _ = await asyncio.wait(waiting, timeout=heartbeat_s, return_when=asyncio.FIRST_COMPLETED)
            if stopping in done:
                return
            if coming not in done:
                yield None
                continue
            try:
                event = coming.result()
            except StopAsyncIteration:
                return
            coming = asyncio.ensure_future(anext(events))
            yield event
    finally:
        for task in (coming, stopping):
            task.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await task
