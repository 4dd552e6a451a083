"""How much and how often: request size, and a token bucket for each caller."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from overread.domain.errors import RateLimited, StoreUnavailable, TooLarge
from overread.services.identity_ports import SharedBuckets

log = structlog.get_logger(__name__)

#: Seconds for which a Redis that did not answer is not asked again.
_AWAY_S: Final = 5.0
#: So many callers are remembered; the one that was silent the longest is forgotten first.
_REMEMBERED = 20_000


class Limiter(Protocol):
    """Counts requests by key."""

    @property
    def remote(self) -> bool:
        """Whether `take` asks another server, so that an event loop should not wait for it."""
        ...

    def take(self, key: str) -> None:
        """Count one request of `key`. Raises `RateLimited` with the whole seconds to wait."""
        ...

    def give_back(self, key: str) -> None:
        """Forget what `key` has used, after a log-in that worked."""
        ...


class RateLimiter:
    """A token bucket a key: `per_minute` requests a minute on average, as many at once at most.

    `clock` gives seconds and never goes back. One process only: see `SharedLimiter`.
    """

    remote = False

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        if per_minute < 1:
            raise ValueError(f"expected a positive rate, got {per_minute}")
        self.capacity = float(per_minute)
        self.per_second = per_minute / 60.0
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str) -> None:
        """Count one request of `key`. Raises `RateLimited` with the whole seconds to wait."""
        with self._lock:
            now = self._clock()
            tokens, then = self._buckets.pop(key, (self.capacity, now))
            tokens = min(self.capacity, tokens + (now - then) * self.per_second)
            allowed = tokens >= 1.0
            self._buckets[key] = (tokens - 1.0 if allowed else tokens, now)
            while len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        if not allowed:
            raise too_many((1.0 - tokens) / self.per_second)

    def give_back(self, key: str) -> None:
        """Forget what `key` has used, after a log-in that worked."""
        with self._lock:
            self._buckets.pop(key, None)


class SharedLimiter:
    """The same bucket for all API processes, in `buckets`; while that is away each process counts for itself."""

    remote = True

    def __init__(
        self, own: RateLimiter, buckets: SharedBuckets, name: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._own = own
        self._buckets = buckets
        self._name = name
        self._clock = clock
        self._away_until = 0.0

    def take(self, key: str) -> None:
        """Count one request of `key`. Raises `RateLimited`."""
        if self._clock() >= self._away_until:
            try:
                wait = self._buckets.take(f"{self._name}:{key}", self._own.capacity, self._own.per_second)
            except StoreUnavailable:
                self._away_until = self._clock() + _AWAY_S
                log.warning("redis does not answer: each process counts requests for itself", limit=self._name)
            else:
                if wait > 0:
                    raise too_many(wait)
                return
        self._own.take(key)

    def give_back(self, key: str) -> None:
        """Forget what `key` has used, after a log-in that worked."""
        self._own.give_back(key)
        if self._clock() >= self._away_until:
            try:
                self._buckets.drop(f"{self._name}:{key}")
            except StoreUnavailable:
                self._away_until = self._clock() + _AWAY_S


def too_many(wait_s: float) -> RateLimited:
    """The error of a caller who must wait."""
    wait = max(1, int(wait_s + 0.999))
    return RateLimited(f"Too many requests. Try again in {wait} s.", retryAfterSeconds=wait)


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
