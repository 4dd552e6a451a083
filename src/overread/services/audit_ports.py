"""What sealing, checking and forwarding of the audit trail need from outside; `store` and `exchange` implement it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from overread.domain.audit import AuditEvent
from overread.domain.study import TenantId
from overread.services.audit_chain import Anchor, Range, RawRow, Seal


class Ledger(Protocol):
    """Rows and seals of one tenant, in one transaction of its own log-in."""

    def last(self) -> Seal | None: ...

    def hash_of(self, number: int) -> bytes | None:
        """The stored hash of a seal."""
        ...

    def ids_above(self, settled: int) -> Iterable[Sequence[Range]]:
        """Ids of the seals that have any above `settled`."""
        ...

    def rows(self, ranges: Sequence[Range], limit: int) -> list[RawRow]:
        """Committed rows in these ranges, in order of id."""
        ...

    def transactions(self) -> tuple[int, int]:
        """(the oldest that still runs, the next to begin)."""
        ...

    def own_transaction(self) -> int:
        """The number of this transaction, given to it now if it has none."""
        ...

    def seen_before(self, tx: int) -> int:
        """Greatest `seen` of the seals whose `next_tx` is not above `tx`; 0 if there is none."""
        ...

    def add(self, seal: Seal, digest: bytes) -> bool:
        """Insert a link; `digest` is its hash. False if another sealer was faster."""
        ...


class Ledgers(Protocol):
    """Opens them."""

    def ledger(self, tenant: TenantId) -> AbstractContextManager[Ledger]:
        """Commits at the end. Raises `StoreUnavailable`."""
        ...


class Anchors(Protocol):
    """The last seal of each tenant, remembered outside of the database."""

    def last(self, tenant: TenantId) -> Anchor | None: ...

    def lost(self, tenant: TenantId) -> tuple[Anchor, ...]:
        """Those that were there and are no longer in the chain."""
        ...

    def put(self, tenant: TenantId, anchor: Anchor) -> None:
        """Durable when it returns; an older one than the last is ignored."""
        ...

    def lose(self, tenant: TenantId, anchor: Anchor) -> None:
        """Keep `anchor` among the lost ones, and begin anew."""
        ...


class TrailSource(Protocol):
    """A whole trail to be checked, as it stands at one moment."""

    @property
    def tenant(self) -> TenantId: ...

    def seals(self) -> Iterator[tuple[Seal, bytes]]:
        """All of them in order of number, with the stored hash."""
        ...

    def expiries(self) -> tuple[Seal, ...]:
        """Only those of kind expiry."""
        ...

    def count(self) -> int:
        """Rows, about."""
        ...

    def rows(self, ranges: Sequence[Range]) -> Iterator[RawRow]:
        """Rows in these ranges, in order of id, not all in memory."""
        ...


class SealedEvents(Protocol):
    """What forwarding reads: sealed rows, seal by seal, and how far it came."""

    def claim(self, name: str, now: datetime, until: datetime) -> int | None:
        """Number of the last seal that was forwarded under this name, to go on from; None while another one does.

        Nobody else gets it until `until`, or until it is given back.
        """
        ...

    def advance(self, name: str, seal: int, now: datetime, until: datetime | None) -> None:
        """Forwarded up to `seal`; kept until `until`, or (None) given back."""
        ...

    def next_seal(self, after: int) -> int | None:
        """The number of the next seal of rows."""
        ...

    def events(self, seal: int) -> Iterator[AuditEvent]:
        """Its rows in order of id."""
        ...

    def study_uids(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        """StudyInstanceUID (0020,000D) of those that are still there."""
        ...


class AuditSink(Protocol):
    """Where audit messages go."""

    def send(self, messages: Iterable[bytes]) -> None:
        """Returns only after the receiver has taken all of them. Raises `AuditReceiverUnavailable`."""
        ...
