"""What keeps the audit trail: once a minute everything is sealed, and forwarded where a receiver is set.

In a thread of its own, so that a receiver that does not answer keeps nobody waiting but the forwarding.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from overread.domain.errors import OverreadError
from overread.domain.study import TenantId
from overread.services.audit_forward import ForwardService
from overread.services.audit_seal import SealService

log = structlog.get_logger(__name__)

EVERY_S: Final = 60.0
_STOP_S: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class AuditKeeper:
    """Of one worker process; several may run side by side."""

    seal: SealService
    tenants: Callable[[], Iterable[TenantId]]
    #: None: nothing is forwarded.
    forward: ForwardService | None = None

    def once(self) -> None:
        """Seal all tenants first: what is sealed is kept, whatever becomes of the receiver."""
        try:
            tenants = tuple(self.tenants())
        except OverreadError as error:
            log.warning("audit.postponed", code=error.code)
            return
        for tenant in tenants:
            self._one(self.seal.run, tenant)
        if self.forward is None:
            return
        for tenant in tenants:
            if not self._one(self.forward.run, tenant):
                return

    def _one(self, work: Callable[[TenantId], object], tenant: TenantId) -> bool:
        try:
            work(tenant)
        except OverreadError as error:
            log.warning("audit.postponed", tenant=tenant.slug, code=error.code, reason=str(error))
            return False
        except Exception:  # the outermost loop: a fault with one hospital must not end the keeping of the others
            log.exception("audit.crashed", tenant=tenant.slug)
            return False
        return True

    @contextmanager
    def running(self, *, every_s: float = EVERY_S) -> Iterator[None]:
        """Once at the beginning and then again and again, while the block lasts."""
        stop = threading.Event()

        def keep() -> None:
            while True:
                self.once()
                if stop.wait(every_s):
                    return

        thread = threading.Thread(target=keep, name="audit keeper", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=_STOP_S)
