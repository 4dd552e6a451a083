"""What asks the PACS and removes what may go, once an hour, in a thread of the worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog

from overread.domain.errors import OverreadError
from overread.domain.study import TenantId
from overread.services.custody import CustodyService
from overread.services.retention import RetentionService

log = structlog.get_logger(__name__)

EVERY_S: Final = 3600.0
#: A worker that has just started has better things to do.
_FIRST_S: Final = 300.0
#: Every object is listed to find those that no row names: once a day is enough.
_ORPHANS_EVERY_S: Final = 24 * 3600.0
_STOP_S: Final = 5.0


@dataclass(kw_only=True)
class RetentionKeeper:
    """Of one worker process; several may run side by side."""

    custody: CustodyService
    retention: RetentionService
    tenants: Callable[[], Iterable[TenantId]]
    monotonic: Callable[[], float] = time.monotonic
    _listed: dict[TenantId, float] = field(default_factory=dict)

    def once(self) -> None:
        """One round over all hospitals; what one of them breaks does not keep the others waiting."""
        try:
            tenants = tuple(self.tenants())
        except OverreadError as error:
            log.warning("retention.postponed", code=error.code)
            return
        for tenant in tenants:
            try:
                self._one(tenant)
            except OverreadError as error:
                log.warning("retention.postponed", tenant=tenant.slug, code=error.code, reason=str(error))
            except Exception:  # the outermost loop: a fault with one hospital must not end the round
                log.exception("retention.crashed", tenant=tenant.slug)

    def _one(self, tenant: TenantId) -> None:
        self.custody.ask(tenant)
        now = self.monotonic()
        orphans = now - self._listed.get(tenant, float("-inf")) >= _ORPHANS_EVERY_S
        self.retention.run(tenant, orphans=orphans)
        if orphans:
            self._listed[tenant] = now

    @contextmanager
    def running(self, *, first_s: float = _FIRST_S, every_s: float = EVERY_S) -> Iterator[None]:
        """Again and again, while the block lasts."""
        stop = threading.Event()

        def keep() -> None:
            wait = first_s
            while not stop.wait(wait):
                self.once()
                wait = every_s

        thread = threading.Thread(target=keep, name="retention keeper", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=_STOP_S)
