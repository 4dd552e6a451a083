"""Session tokens: JWT (RFC 7519) signed with HS256 under a key that the header names (`kid`).

Keys rotate: new tokens are signed with the newest one, and older ones verify until the last token they signed has
expired. The algorithm belongs to the key, never to the token, so that `alg` in a header decides nothing (RFC 8725 3.1).
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Final

import jwt

from overread.domain.errors import StoreUnavailable, Unauthenticated
from overread.services.ports import Clock

ISSUER: Final = "overread"
ALGORITHM: Final = "HS256"
MINIMUM_KEY_BYTES: Final = 32
#: Seconds for which keys and the standing of users are remembered: what is revoked is void everywhere after that.
REMEMBERED_S: Final = 3.0


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A key of the installation."""

    kid: str
    secret: bytes
    #: From then on tokens of this key are void; None for the one that signs.
    verifies_until: datetime | None = None


class KeyRing:
    """The keys, asked for anew every few seconds. The first one of `source` signs."""

    def __init__(
        self,
        source: Callable[[], Sequence[SigningKey]],
        *,
        ticks: Callable[[], float] = time.monotonic,
        remembered_s: float = REMEMBERED_S,
    ) -> None:
        self._source = source
        self._ticks = ticks
        self._remembered_s = remembered_s
        self._keys: dict[str, SigningKey] = {}
        self._read_at: float | None = None
        self._lock = Lock()

    @classmethod
    def fixed(cls, secrets: Mapping[str, bytes], active: str) -> KeyRing:
        """Keys that never change. Raises `ValueError` for a short one, or without the active one."""
        if active not in secrets:
            raise ValueError(f"no secret for the active key {active!r}")
        ordered = sorted(secrets, key=lambda kid: kid != active)
        ring = cls(lambda: [SigningKey(kid=kid, secret=secrets[kid]) for kid in ordered])
        ring.refresh()
        return ring

    @property
    def fresh(self) -> bool:
        """Whether it answers without asking anybody."""
        return self._read_at is not None and self._ticks() - self._read_at < self._remembered_s

    def refresh(self) -> None:
        """Read the keys. While the database is away, those that are known go on working."""
        with self._lock:
            try:
                keys = list(self._source())
            except StoreUnavailable:
                if not self._keys:
                    raise
                self._read_at = self._ticks()
                return
            short = [key.kid for key in keys if len(key.secret) < MINIMUM_KEY_BYTES]
            if short or not keys:
                raise ValueError(f"secrets need at least {MINIMUM_KEY_BYTES} bytes: {', '.join(short)}")
            self._keys = {key.kid: key for key in keys}
            self._read_at = self._ticks()

    def active(self) -> SigningKey:
        """The one that signs."""
        if not self.fresh:
            self.refresh()
        return next(iter(self._keys.values()))

    def find(self, kid: object, now: datetime, *, ask: bool = True) -> SigningKey | None:
        """The key of this id, if its tokens still count. Without `ask` only of those that are known already."""
        unknown = kid not in self._keys
        # One that is not known may have been made by another process a moment ago; asked for once a second at most.
        if ask and (not self.fresh or (unknown and self._ticks() - (self._read_at or 0.0) > 1.0)):
            self.refresh()
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None or (key.verifies_until is not None and key.verifies_until <= now):
            return None
        return key

    def known(self) -> tuple[SigningKey, ...]:
        """All, without asking anybody if there are some."""
        if not self._keys:
            self.refresh()
        return tuple(self._keys.values())


def derived(key: SigningKey, purpose: str) -> bytes:
    """A key of its own for each purpose, so that a token of one is none of another."""
    return hmac.new(key.secret, f"overread {purpose}".encode(), hashlib.sha256).digest()


class Tokens:
    """Signs and reads tokens of one purpose. `purpose` empty: session tokens."""

    def __init__(self, ring: KeyRing, clock: Clock, *, purpose: str = "", required: Sequence[str] = ()) -> None:
        self._ring = ring
        self._clock = clock
        self._purpose = purpose
        self._required = ["exp", "iat", *required]

    def _secret(self, key: SigningKey) -> bytes:
        return derived(key, self._purpose) if self._purpose else key.secret

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token with our issuer."""
        key = self._ring.active()
        return jwt.encode({"iss": ISSUER, **claims}, self._secret(key), algorithm=ALGORITHM, headers={"kid": key.kid})

    def read(self, token: str, *, ask: bool = True) -> dict[str, Any]:
        """Its claims. Raises `Unauthenticated` if it is not ours, altered or expired."""
        try:
            key = self._ring.find(jwt.get_unverified_header(token).get("kid"), self._clock(), ask=ask)
            if key is None:
                raise Unauthenticated("The session is not valid.", remedy="Log in again.")
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret(key),
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                options={
                    "require": self._required,
                    # The clock is ours, so that tests and leap seconds do not depend on the machine's.
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
            expires = datetime.fromtimestamp(int(claims["exp"]), UTC)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, OSError) as error:
            raise Unauthenticated("The session is not valid.", remedy="Log in again.") from error
        if expires <= self._clock():
            raise Unauthenticated("The session has expired.", remedy="Log in again.", reason="expired")
        return claims


def issuer_of(token: str) -> str | None:
    """Who a token says has made it, unproved: only to know whom to ask. None if it is no JWT."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    issuer = claims.get("iss")
    return issuer if isinstance(issuer, str) else None
