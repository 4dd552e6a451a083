"""The hash chain over the audit trail: what a row is as bytes, what a seal holds, and what signs it.

A seal names its rows by id and holds: SHA-256 over them in order of id; 8 bytes of each row's own hash, so that it can
be said which one was changed; the hash of the seal before; an Ed25519 signature by a key that the database never sees.
All lengths are written out, so that no two different things have the same bytes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

#: Bytes of a row's hash in `Seal.digests`.
DIGEST_BYTES: Final = 8
#: Rows of one seal at most: what is in memory at a time. A seal with fewer took all that there was.
ROWS_A_SEAL: Final = 20_000
#: `Seal.previous` of the first one.
GENESIS: Final = bytes(32)

#: Ids [low, high).
Range = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class RawRow:
    """A row as the database has it, every column as text that does not depend on settings of a session."""

    id: int
    #: Microseconds since 1970, UTC.
    at_us: int
    #: All other columns in the order of `store.audit_seals.COLUMNS`.
    columns: tuple[str | None, ...]

    @property
    def at(self) -> datetime:
        """When it was recorded."""
        return datetime.fromtimestamp(self.at_us // 1_000_000, UTC).replace(microsecond=self.at_us % 1_000_000)

    def digest(self, as_id: int | None = None) -> bytes:
        """SHA-256 of the row; `as_id`: as if it had that id."""
        number = self.id if as_id is None else as_id
        return _sha256(_packed(b"overread audit row 1", str(number), str(self.at_us), *self.columns))


class SealKind(StrEnum):
    """What a seal is about."""

    #: Rows that are there.
    ROWS = "rows"
    #: Rows that were deleted after their time; they are in earlier seals too.
    EXPIRY = "expiry"


@dataclass(frozen=True, kw_only=True)
class Seal:
    """A link of the chain."""

    #: From 1, without gaps.
    number: int
    kind: SealKind
    sealed_at: datetime
    #: Earliest and latest time of its rows.
    first_at: datetime
    last_at: datetime
    row_count: int
    #: Ids of its rows: ranges in order that do not touch.
    ids: tuple[Range, ...]
    #: Greatest id that any seal so far has.
    seen: int
    #: Transactions from this number on had not begun when the rows were read.
    next_tx: int
    #: No row with an id up to this one can come any more.
    settled: int
    #: Of the rows in order of id (kind rows), or of their digests in order of seal and id (kind expiry).
    sha256: bytes
    #: `DIGEST_BYTES` of each row's hash in order of id; empty in an expiry.
    digests: bytes
    #: Hash of the seal before.
    previous: bytes
    key_id: str = ""
    signature: bytes = b""

    def hash_for(self, tenant: str) -> bytes:
        """SHA-256 of all of it but the signature, for the tenant to which it belongs."""
        return _sha256(
            _packed(
                b"overread audit seal 1",
                tenant,
                str(self.number),
                self.kind.value,
                *(moment.astimezone(UTC).isoformat() for moment in (self.sealed_at, self.first_at, self.last_at)),
                str(self.row_count),
                write_ranges(self.ids),
                str(self.seen),
                str(self.next_tx),
                str(self.settled),
                self.sha256.hex(),
                _sha256(self.digests).hex(),
                self.previous.hex(),
                self.key_id,
            )
        )


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """The last seal as it is remembered outside of the database."""

    number: int
    #: Hexadecimal.
    hash: str
    sealed_at: str


class SealKey:
    """The installation's signing key. What only checks needs the public part alone."""

    def __init__(self, secret: bytes) -> None:
        """`secret`: the installation's master secret; the key is derived from it."""
        seed = hmac.digest(secret, b"overread audit seal key 1", "sha256")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key_id = key_id(self.public)

    def sign(self, digest: bytes) -> bytes:
        """64 bytes."""
        return self._private.sign(digest)


def key_id(public: bytes) -> str:
    """16 hexadecimal digits that name a public key."""
    return hashlib.sha256(public).hexdigest()[:16]


def is_signed(seal: Seal, digest: bytes, public: bytes) -> bool:
    """Whether `seal` was signed by the owner of `public`."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(seal.signature, digest)
    except InvalidSignature:
        return False
    return True


def sha256_of_rows(digests: Iterable[bytes]) -> bytes:
    """Of the rows' whole hashes, in order of id."""
    total = hashlib.sha256(b"overread audit rows 1")
    for digest in digests:
        total.update(digest)
    return total.digest()


def write_ranges(ranges: Sequence[Range]) -> str:
    """As PostgreSQL writes an int8multirange: {[1,5),[7,8)}."""
    return "{" + ",".join(f"[{low},{high})" for low, high in ranges) + "}"


def read_ranges(text: str) -> tuple[Range, ...]:
    """The reverse of `write_ranges`; PostgreSQL's canonical form is [low, high)."""
    inner = text.strip("{}")
    if not inner:
        return ()
    pairs = (part.split(",") for part in inner[1:-1].split("),["))
    return tuple((int(low), int(high)) for low, high in pairs)


def ranges_of(ids: Iterable[int]) -> tuple[Range, ...]:
    """Ascending ids as ranges."""
    ranges: list[Range] = []
    for number in ids:
        if ranges and ranges[-1][1] == number:
            ranges[-1] = (ranges[-1][0], number + 1)
        else:
            ranges.append((number, number + 1))
    return tuple(ranges)


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Sorted, and joined where they touch or overlap."""
    result: list[Range] = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], high))
        else:
            result.append((low, high))
    return result


def gaps(ranges: Sequence[Range], low: int, high: int) -> list[Range]:
    """What of [low, high) the sorted, merged `ranges` leave out."""
    left: list[Range] = []
    at = low
    for begin, end in ranges:
        if end <= at:
            continue
        if begin >= high:
            break
        if begin > at:
            left.append((at, begin))
        at = max(at, end)
    if at < high:
        left.append((at, high))
    return left


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _packed(label: bytes, *fields: str | None) -> bytes:
    parts = [label]
    for value in fields:
        if value is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            raw = value.encode("utf-8", "surrogatepass")
            parts.append(len(raw).to_bytes(4, "big") + raw)
    return b"".join(parts)
