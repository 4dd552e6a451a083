"""How much and how often: request size, and a token bucket for each caller."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from overread.domain.errors import RateLimited, TooLarge

#: So many callers are remembered; the one that was silent the longest is forgotten first.
_REMEMBERED = 20_000


class RateLimiter:
    """A token bucket a key: `per_minute` requests a minute on average, as many at once at most.

    `clock` gives seconds and never goes back. One process only: several API processes each count for themselves.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        if per_minute < 1:
            raise ValueError(f"expected a positive rate, got {per_minute}")
        self._capacity = float(per_minute)
        self._per_second = per_minute / 60.0
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str) -> None:
        """Count one request of `key`. Raises `RateLimited` with the whole seconds to wait."""
        with self._lock:
            now = self._clock()
            tokens, then = self._buckets.pop(key, (self._capacity, now))
            tokens = min(self._capacity, tokens + (now - then) * self._per_second)
            allowed = tokens >= 1.0
            self._buckets[key] = (tokens - 1.0 if allowed else tokens, now)
            while len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        if not allowed:
            wait = max(1, int((1.0 - tokens) / self._per_second + 0.999))
            raise RateLimited(f"Too many requests. Try again in {wait} s.", retryAfterSeconds=wait)

    def give_back(self, key: str) -> None:
        """Forget what `key` has used, after a log-in that worked."""
        with self._lock:
            self._buckets.pop(key, None)


def too_large(limit: int) -> TooLarge:
    """The error of a body over the limit, in bytes."""
    size = f"{limit / 1024**3:.0f} GB" if limit >= 1024**3 else f"{max(1, limit // 1024)} kB"
    return TooLarge(f"The request is larger than the {size} that this installation takes.", limitBytes=limit)


class BodyLimit:
    """Ends the reading of a body at `limit_for(path)` bytes: `TooLarge`, whatever Content-Length said or left out."""

    def __init__(self, app: ASGIApp, *, limit_for: Callable[[str], int]) -> None:
        self._app = app
        self._limit_for = limit_for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_for(scope["path"])
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        over = declared.isdigit() and int(declared) > limit
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            if over:
                raise too_large(limit)
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise too_large(limit)
            return message

        await self._app(scope, counted, send)
