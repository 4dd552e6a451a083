"""Check a tenant's audit trail: every link of the chain, every row, and that the end was not cut off.

Streams: at most `_ROWS_AT_ONCE` rows' hashes are in memory, and the ranges of ids that have been seen.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from overread.domain.study import TenantId
from overread.services.audit_chain import (
    DIGEST_BYTES,
    GENESIS,
    ROWS_A_SEAL,
    Anchor,
    Range,
    RawRow,
    Seal,
    SealKind,
    gaps,
    is_signed,
    merged,
    sha256_of_rows,
)
from overread.services.audit_ports import TrailSource

_ROWS_AT_ONCE: Final = ROWS_A_SEAL
#: Problems that are told one by one; the rest is counted.
_TOLD: Final = 500
#: A row that is sealed so much later than it says it was written, with a seal in between, is backdated.
_LATE: Final = timedelta(hours=1)
#: Above so many changed rows in one seal it is not looked who changed places with whom.
_SWAPS: Final = 200


class Fault(StrEnum):
    """What can be wrong."""

    CHANGED = "row changed"
    MISSING = "row missing"
    INSERTED = "row inserted"
    REORDERED = "rows reordered"
    BACKDATED = "row backdated"
    SEAL_CHANGED = "seal changed"
    SEAL_MISSING = "seal missing"
    CUT_OFF = "end cut off"
    EXPIRY_WRONG = "expiry does not match"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is not as it was sealed."""

    fault: Fault
    message: str
    #: Number of the seal, where it is known.
    seal: int | None = None
    #: The time that the seal covers.
    first_at: datetime | None = None
    last_at: datetime | None = None
    #: Rows concerned.
    ids: tuple[int, ...] = ()


@dataclass(kw_only=True)
class TrailReport:
    """What came out."""

    tenant: TenantId
    rows: int = 0
    seals: int = 0
    #: Rows that were deleted after their time, by seals of kind expiry.
    expired: int = 0
    #: Rows that wait for their seal.
    pending: int = 0
    pending_since: datetime | None = None
    last_seal: int = 0
    last_hash: str = ""
    problems: list[Problem] = field(default_factory=list)
    #: Problems beyond those that are listed.
    more: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing was changed."""
        return not self.problems

    def add(self, problem: Problem) -> None:
        """Keep a problem, or count it."""
        if len(self.problems) < _TOLD:
            self.problems.append(problem)
        else:
            self.more += 1


def verify(
    source: TrailSource,
    *,
    keys: Mapping[str, bytes],
    anchor: Anchor | None,
    lost: Collection[Anchor] = (),
    progress: Callable[[int], None] = lambda _rows: None,
) -> TrailReport:
    """Read a whole trail. `keys`: public keys by id; `anchor`, `lost`: what is remembered outside of the database."""
    return _Check(source, keys, progress).run(anchor, lost)


class _Check:
    def __init__(self, source: TrailSource, keys: Mapping[str, bytes], progress: Callable[[int], None]) -> None:
        self._source = source
        self._tenant = source.tenant.slug
        self._keys = keys
        self._progress = progress
        self._report = TrailReport(tenant=source.tenant)
        self._covered: list[Range] = []
        self._expiries = source.expiries()
        self._expired = merged(r for seal in self._expiries for r in seal.ids)
        self._expiry_hash = {seal.number: hashlib.sha256() for seal in self._expiries}
        self._expiry_count = dict.fromkeys(self._expiry_hash, 0)
        self._of_expiry = sorted((low, high, s.number) for s in self._expiries for low, high in s.ids)

    def run(self, anchor: Anchor | None, lost: Collection[Anchor]) -> TrailReport:
        report = self._report
        anchors = {a.number: a for a in ([anchor] if anchor is not None else [])}
        last: Seal | None = None
        #: The last seal after which nothing was left: what is younger came later.
        complete: Seal | None = None
        batch: list[tuple[Seal, Seal | None]] = []
        waiting = 0
        for seal, stored in self._source.seals():
            self._check_link(seal, stored, last)
            known = anchors.pop(seal.number, None)
            if known is not None and known.hash != seal.hash_for(self._tenant).hex():
                self._cut(known)
            if seal.kind is SealKind.ROWS:
                if waiting + seal.row_count > _ROWS_AT_ONCE and batch:
                    self._check_rows(batch)
                    batch, waiting = [], 0
                batch.append((seal, complete))
                waiting += seal.row_count
                complete = seal if seal.row_count < ROWS_A_SEAL else complete
            last = seal
            report.seals += 1
        self._check_rows(batch)
        for known in (*anchors.values(), *lost):
            self._cut(known)
        self._check_expiries()
        if last is not None:
            report.last_seal, report.last_hash = last.number, last.hash_for(self._tenant).hex()
        self._check_rest(last)
        return report

    # --- the chain -------------------------------------------------------------------------------------------

    def _check_link(self, seal: Seal, stored: bytes, last: Seal | None) -> None:
        expected = last.number + 1 if last is not None else 1
        if seal.number != expected:
            missing = f"{expected}" if seal.number == expected + 1 else f"{expected} to {seal.number - 1}"
            self._problem(Fault.SEAL_MISSING, seal, f"Seal {missing} is missing before seal {seal.number}.")
        elif seal.previous != (last.hash_for(self._tenant) if last is not None else GENESIS):
            self._problem(Fault.SEAL_CHANGED, seal, f"Seal {seal.number} does not follow the seal before it.")
        digest = seal.hash_for(self._tenant)
        public = self._keys.get(seal.key_id)
        if public is None:
            self._problem(Fault.SEAL_CHANGED, seal, f"Seal {seal.number} is signed by an unknown key {seal.key_id}.")
        elif digest != stored or not is_signed(seal, digest, public):
            self._problem(Fault.SEAL_CHANGED, seal, f"Seal {seal.number} is not what was signed.")

    def _cut(self, anchor: Anchor) -> None:
        self._report.add(
            Problem(
                fault=Fault.CUT_OFF,
                seal=anchor.number,
                message=f"Seal {anchor.number} of {anchor.sealed_at} ({anchor.hash[:16]}…) is remembered outside of the"
                " database and is not in it: the end was cut off or replaced.",
            )
        )

    # --- the rows --------------------------------------------------------------------------------------------

    def _check_rows(self, batch: Sequence[tuple[Seal, Seal | None]]) -> None:
        if not batch:
            return
        where = sorted((low, high, n) for n, (seal, _) in enumerate(batch) for low, high in seal.ids)
        for (_, high, _), (low, _, n) in itertools.pairwise(where):
            if low < high:
                self._problem(Fault.SEAL_CHANGED, batch[n][0], "Two seals claim the same rows.")
        kept = [_kept(seal) for seal, _ in batch]
        found: list[dict[int, bytes]] = [{} for _ in batch]
        suspects: dict[int, RawRow] = {}
        starts = [low for low, _, _ in where]
        for row in self._source.rows([(low, high) for low, high, _ in where]):
            at = bisect.bisect_right(starts, row.id) - 1
            n = where[at][2]
            digest = row.digest()
            found[n][row.id] = digest
            seal, before = batch[n]
            if digest[:DIGEST_BYTES] != kept[n].get(row.id) and len(suspects) < _SWAPS:
                suspects[row.id] = row
            if before is not None and before.sealed_at - row.at > _LATE:
                self._problem(
                    Fault.BACKDATED,
                    seal,
                    f"Row {row.id} says {row.at.isoformat(timespec='seconds')} and was not there when seal"
                    f" {before.number} was made.",
                    (row.id,),
                )
            self._report.rows += 1
            if self._report.rows % 1000 == 0:
                self._progress(self._report.rows)
        for n, (seal, _) in enumerate(batch):
            self._compare(seal, kept[n], found[n], suspects)
        self._covered = merged([*self._covered, *(r for seal, _ in batch for r in seal.ids)])

    def _compare(
        self, seal: Seal, wanted: Mapping[int, bytes], found: Mapping[int, bytes], suspects: Mapping[int, RawRow]
    ) -> None:
        changed, missing, expired = [], [], 0
        for number, kept in wanted.items():
            expiry = self._expiry_of(number)
            if expiry is not None:
                self._expiry_hash[expiry].update(kept)
                self._expiry_count[expiry] += 1
            digest = found.get(number)
            if digest is None and expiry is not None:
                expired += 1
            elif digest is None:
                missing.append(number)
            elif digest[:DIGEST_BYTES] != kept:
                changed.append(number)
        self._report.expired += expired
        if missing:
            self._problem(Fault.MISSING, seal, f"{_rows(missing)} missing (seal {seal.number}).", tuple(missing))
        swapped = _swapped(changed, wanted, suspects)
        if swapped:
            message = f"{_rows(swapped)} in each other's place (seal {seal.number})."
            self._problem(Fault.REORDERED, seal, message, swapped)
        changed = [number for number in changed if number not in swapped]
        if changed:
            message = f"{_rows(changed)} not what was sealed (seal {seal.number})."
            self._problem(Fault.CHANGED, seal, message, tuple(changed))
        whole = not missing and not changed and not swapped and not expired
        if whole and sha256_of_rows(found[n] for n in sorted(found)) != seal.sha256:
            self._problem(Fault.CHANGED, seal, f"The rows of seal {seal.number} are not those that were sealed.")

    def _expiry_of(self, number: int) -> int | None:
        at = bisect.bisect_right(self._of_expiry, (number, 2**63, 2**63)) - 1
        return self._of_expiry[at][2] if at >= 0 and number < self._of_expiry[at][1] else None

    def _check_expiries(self) -> None:
        for seal in self._expiries:
            made = self._expiry_hash[seal.number].digest()
            if made != seal.sha256 or self._expiry_count[seal.number] != seal.row_count:
                self._problem(Fault.EXPIRY_WRONG, seal, f"Seal {seal.number} remembers other rows than were sealed.")

    def _check_rest(self, last: Seal | None) -> None:
        """Rows that no seal names: to come if their number is new, else put there by hand."""
        settled, end = (last.settled, last.seen + 1) if last is not None else (0, 1)
        forgotten = gaps(self._covered, 1, settled + 1)
        for row in self._source.rows(forgotten) if forgotten else ():
            self._report.add(
                Problem(
                    fault=Fault.INSERTED,
                    message=f"Row {row.id} is in no seal, though its number was over before later ones were sealed.",
                    first_at=row.at,
                    last_at=row.at,
                    ids=(row.id,),
                )
            )
        open_ranges = [*gaps(self._covered, max(1, settled + 1), end), (end, 2**63 - 1)]
        for row in self._source.rows(open_ranges):
            self._report.pending += 1
            since = self._report.pending_since
            self._report.pending_since = row.at if since is None else min(since, row.at)
        self._progress(self._report.rows)

    def _problem(self, fault: Fault, seal: Seal, message: str, ids: tuple[int, ...] = ()) -> None:
        self._report.add(
            Problem(
                fault=fault,
                message=message,
                seal=seal.number,
                first_at=seal.first_at,
                last_at=seal.last_at,
                ids=ids,
            )
        )


def _kept(seal: Seal) -> dict[int, bytes]:
    """What the seal says of each of its rows; empty for one that contradicts itself (told as changed already)."""
    if seal.row_count * DIGEST_BYTES != len(seal.digests):
        return {}
    if sum(high - low for low, high in seal.ids) != seal.row_count:
        return {}
    ids = (number for low, high in seal.ids for number in range(low, high))
    return {number: seal.digests[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES] for place, number in enumerate(ids)}


def _swapped(changed: Sequence[int], wanted: Mapping[int, bytes], suspects: Mapping[int, RawRow]) -> tuple[int, ...]:
    """Changed rows that hold what another row of this seal held."""
    if not 2 <= len(changed) <= _SWAPS:
        return ()
    moved: set[int] = set()
    for number in changed:
        row = suspects.get(number)
        if row is None:
            continue
        for other in changed:
            if other != number and row.digest(as_id=other)[:DIGEST_BYTES] == wanted[other]:
                moved |= {number, other}
    return tuple(sorted(moved))


def _rows(ids: Sequence[int]) -> str:
    """Row 7 is / Rows 7, 9 and 3 more are."""
    shown = ", ".join(str(number) for number in ids[:20])
    more = f" and {len(ids) - 20} more" if len(ids) > 20 else ""
    return f"Row {shown} is" if len(ids) == 1 else f"Rows {shown}{more} are"
