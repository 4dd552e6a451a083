"""What keeps the audit trail: once a minute everything is sealed, and forwarded where a receiver is set.

In a thread of its own, so that a receiver that does not answer keeps nobody waiting but the forwarding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from overread.domain.study import TenantId
from overread.services.audit_forward import ForwardService
from overread.services.audit_seal import SealService
from overread.services.rounds import attempt, hospitals, repeated

EVERY_S: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class AuditKeeper:
    """Of one worker process; several may run side by side."""

    seal: SealService
    tenants: Callable[[], Iterable[TenantId]]
    #: None: nothing is forwarded.
    forward: ForwardService | None = None

    def once(self) -> None:
        """Seal all tenants first: what is sealed is kept, whatever becomes of the receiver."""
        tenants = hospitals("audit", self.tenants)
        for tenant in tenants:
            attempt("audit", self.seal.run, tenant)
        if self.forward is None:
            return
        for tenant in tenants:
            if not attempt("audit", self.forward.run, tenant):
                return

    def running(self, *, every_s: float = EVERY_S) -> AbstractContextManager[None]:
        """Once at the beginning and then again and again, while the block lasts."""
        return repeated("audit", self.once, first_s=0.0, every_s=every_s)
