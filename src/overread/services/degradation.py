"""What does not work just now, and what that means for people who read studies.

Probes run in a thread of their own, so that no page waits for a bucket that is out of reach. A page shows what was
found last; /readyz waits a moment for a fresh answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from overread.domain.errors import OverreadError

log = structlog.get_logger(__name__)

DATABASE: Final = "database"
OBJECTS: Final = "object store"
WORKER: Final = "worker"
DISK: Final = "disk space"
REDIS: Final = "redis"

#: What a reader should know when a part is down; the database has no page left to say it on.
NOTES: Final[Mapping[str, str]] = {
    OBJECTS: "Images cannot be opened or received just now: the object store does not answer. The worklist is complete;"
    " senders send again by themselves.",
    WORKER: "New studies are not being read by the AI just now: no worker is running. They are kept and will be read"
    " later; read urgent ones without it.",
    DISK: "The disk is almost full: new studies may be refused, and their senders try again later.",
}
OVERLOADED: Final = "Many studies wait for the AI: routine ones take longer, critical and urgent ones come first."


@dataclass(frozen=True, kw_only=True)
class QueueHealth:
    """Numbers of all tenants together; counts end at 10,000."""

    #: Workers that gave a sign of life within ten seconds.
    workers: int
    #: Seconds since the last sign of life of any worker; None: there never was one.
    silent_s: float | None
    waiting: int
    #: Of those that wait: urgent or critical.
    pressing: int
    running: int
    #: Failed for good.
    failed: int
    #: How long the one that is due longest has waited.
    oldest_s: float


@dataclass(frozen=True, kw_only=True)
class Condition:
    """How the installation is."""

    #: Part to whether it works; only parts that this installation has.
    parts: Mapping[str, bool]
    queue: QueueHealth | None = None
    overloaded: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for a reader, most important first."""
        found = [note for part, note in NOTES.items() if not self.parts.get(part, True)]
        return (*found, OVERLOADED) if self.overloaded else tuple(found)

    @property
    def degraded(self) -> bool:
        """Whether something is not as it should be."""
        return self.overloaded or not all(self.parts.values())


def overloaded(queue: QueueHealth, limit: int) -> bool:
    """Whether more jobs wait than the installation's setting allows; 0: never."""
    return 0 < limit < queue.waiting


def _no_queue() -> QueueHealth:
    return QueueHealth(workers=1, silent_s=0.0, waiting=0, pressing=0, running=0, failed=0, oldest_s=0.0)


@dataclass(kw_only=True)
class Watch:
    """Asks the probes at most every `fresh_s` seconds."""

    #: Raises `OverreadError` if there is no database.
    queue: Callable[[], QueueHealth] = _no_queue
    #: The other parts; may take a while, and may raise `OverreadError` or `OSError`.
    probes: Mapping[str, Callable[[], bool]] = field(default_factory=dict)
    #: Waiting jobs beyond which the installation is overloaded; 0: never.
    overload_jobs: int = 0
    fresh_s: float = 5.0
    monotonic: Callable[[], float] = time.monotonic
    _last: Condition = field(default_factory=lambda: Condition(parts={}))
    _asked: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _done: threading.Event = field(default_factory=threading.Event)

    def condition(self, *, wait_s: float = 0.0) -> Condition:
        """What was found last, at once. With `wait_s`, a fresh answer if it comes within that time."""
        if self.monotonic() - self._asked > (0.0 if wait_s else self.fresh_s):
            self._refresh()
        if wait_s:
            self._done.wait(wait_s)
        return self._last

    def _refresh(self) -> None:
        if not self._lock.acquire(blocking=False):
            return  # somebody asks already
        self._asked = self.monotonic()
        self._done.clear()
        threading.Thread(target=self._ask, name="condition", daemon=True).start()

    def _ask(self) -> None:
        try:
            before, self._last = self._last, self._look()
            for part, works in self._last.parts.items():
                if before.parts.get(part, True) != works:
                    log.log(20 if works else 40, "part works again" if works else "part does not work", part=part)
            if before.overloaded != self._last.overloaded and self._last.queue is not None:
                event = "overload begins" if self._last.overloaded else "overload is over"
                log.warning(event, waiting=self._last.queue.waiting, pressing=self._last.queue.pressing)
        finally:
            self._done.set()
            self._lock.release()

    def _look(self) -> Condition:
        parts: dict[str, bool] = {}
        queue: QueueHealth | None = None
        try:
            queue = self.queue()
        except OverreadError:
            parts[DATABASE] = False
        else:
            parts |= {DATABASE: True, WORKER: queue.workers > 0}
        for name, probe in self.probes.items():
            try:
                parts[name] = probe()
            except (OverreadError, OSError):
                parts[name] = False
        return Condition(
            parts=parts,
            queue=queue,
            overloaded=queue is not None and overloaded(queue, self.overload_jobs),
        )
