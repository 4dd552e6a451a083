"""What asks the PACS and removes what may go, once an hour, in a thread of the worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from overread.domain.study import TenantId
from overread.services.custody import CustodyService
from overread.services.retention import RetentionService
from overread.services.rounds import attempt, hospitals, repeated

EVERY_S: Final = 3600.0
#: A worker that has just started has better things to do.
_FIRST_S: Final = 300.0
#: Every object is listed to find those that no row names: once a day is enough.
_ORPHANS_EVERY_S: Final = 24 * 3600.0


@dataclass(kw_only=True)
class RetentionKeeper:
    """Of one worker process; several may run side by side."""

    custody: CustodyService
    retention: RetentionService
    tenants: Callable[[], Iterable[TenantId]]
    monotonic: Callable[[], float] = time.monotonic
    _listed: dict[TenantId, float] = field(default_factory=dict)

    def once(self) -> None:
        """One round over all hospitals."""
        for tenant in hospitals("retention", self.tenants):
            attempt("retention", self._one, tenant)

    def _one(self, tenant: TenantId) -> None:
        self.custody.ask(tenant)
        now = self.monotonic()
        orphans = now - self._listed.get(tenant, float("-inf")) >= _ORPHANS_EVERY_S
        self.retention.run(tenant, orphans=orphans)
        if orphans:
            self._listed[tenant] = now

    def running(self, *, first_s: float = _FIRST_S, every_s: float = EVERY_S) -> AbstractContextManager[None]:
        """Again and again, while the block lasts."""
        return repeated("retention", self.once, first_s=first_s, every_s=every_s)
