"""Seal the audit trail: once a minute, per tenant, whatever rows have come and whose transactions are over.

Writers take no lock and wait for nobody. A row of a slow transaction may come after rows with greater ids were sealed:
seals name their rows one by one, so it goes into the next one. An id below `settled` that is in no seal will never
come: a row that has it all the same was put there by hand, and `services.audit_verify` says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog

from overread.domain.study import TenantId
from overread.services.audit_chain import (
    DIGEST_BYTES,
    GENESIS,
    ROWS_A_SEAL,
    Anchor,
    RawRow,
    Seal,
    SealKey,
    SealKind,
    gaps,
    merged,
    ranges_of,
    sha256_of_rows,
)
from overread.services.audit_ports import Anchors, Ledger, Ledgers
from overread.services.ports import Clock

log = structlog.get_logger(__name__)

_FOR_EVER = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class SealService:
    """Closes links of the chain. Safe to run from several workers: the first to add a link wins."""

    ledgers: Ledgers
    anchors: Anchors
    key: SealKey
    clock: Clock

    def run(self, tenant: TenantId) -> int:
        """Seal everything that can be sealed now; returns how many rows that were."""
        self._check_anchor(tenant)
        total = 0
        while True:
            with self.ledgers.ledger(tenant) as ledger:
                seal = self._next(tenant, ledger)
            if seal is None:
                return total
            total += seal.row_count
            digest = seal.hash_for(tenant.slug).hex()
            self.anchors.put(
                tenant, Anchor(number=seal.number, hash=digest, sealed_at=seal.sealed_at.isoformat(timespec="seconds"))
            )
            log.info("audit.sealed", tenant=tenant.slug, seal=seal.number, rows=seal.row_count, hash=digest)
            if seal.row_count < ROWS_A_SEAL:
                return total

    def _next(self, tenant: TenantId, ledger: Ledger) -> Seal | None:
        last = ledger.last()
        settled = self._settled(ledger, last)
        low, seen = (last.settled + 1, last.seen) if last is not None else (1, 0)
        covered = merged(r for ids in ledger.ids_above(low - 1) for r in ids)
        open_ranges = [*gaps(covered, low, seen + 1), (seen + 1, _FOR_EVER)]
        rows = ledger.rows(open_ranges, ROWS_A_SEAL)
        if not rows:
            return None
        seal = sealed(rows, tenant, last, key=self.key, ledger=ledger, clock=self.clock, settled=settled)
        return seal if ledger.add(seal, seal.hash_for(tenant.slug)) else None

    def _settled(self, ledger: Ledger, last: Seal | None) -> int:
        """Ask before the rows are read: what was over then is visible then."""
        if last is None:
            return 0
        oldest, newest = ledger.transactions()
        if last.next_tx > newest:
            # The numbers begin anew: restored on another server, where nothing of the old one runs any more.
            return last.seen
        return max(last.settled, ledger.seen_before(oldest))

    def _check_anchor(self, tenant: TenantId) -> None:
        """What is remembered outside must be there, else it is told again and again, and never forgotten."""
        kept = self.anchors.last(tenant)
        if kept is None:
            return
        with self.ledgers.ledger(tenant) as ledger:
            there = ledger.hash_of(kept.number)
        if there is None or there.hex() != kept.hash:
            self.anchors.lose(tenant, kept)
            log.error("audit.chain_cut", tenant=tenant.slug, seal=kept.number, hash=kept.hash)


def sealed(
    rows: list[RawRow],
    tenant: TenantId,
    last: Seal | None,
    *,
    key: SealKey,
    ledger: Ledger,
    clock: Clock,
    settled: int,
) -> Seal:
    """The signed seal of `rows` (ascending ids) after `last`."""
    digests = [row.digest() for row in rows]
    times = sorted(row.at for row in rows)
    seal = Seal(
        number=last.number + 1 if last is not None else 1,
        kind=SealKind.ROWS,
        sealed_at=clock(),
        first_at=times[0],
        last_at=times[-1],
        row_count=len(rows),
        ids=ranges_of(row.id for row in rows),
        seen=max(last.seen if last is not None else 0, rows[-1].id),
        # After the rows were read: whoever took one of these ids before has a smaller number.
        next_tx=ledger.own_transaction(),
        settled=settled,
        sha256=sha256_of_rows(digests),
        digests=b"".join(digest[:DIGEST_BYTES] for digest in digests),
        previous=last.hash_for(tenant.slug) if last is not None else GENESIS,
        key_id=key.key_id,
    )
    return replace(seal, signature=key.sign(seal.hash_for(tenant.slug)))
