"""Passwords of local accounts: argon2id."""

from __future__ import annotations

import secrets
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_HASHER = PasswordHasher()
#: Each check takes 64 MiB for a moment, so that a flood of log-ins cannot take all of the memory.
_CHECKS_AT_ONCE = BoundedSemaphore(4)
#: Verified against when there is no such user, so that an answer takes as long as for a real one.
DECOY = _HASHER.hash(secrets.token_urlsafe(24))


def hash_password(password: str) -> str:
    """argon2id (RFC 9106), for `UserRow.password_hash`."""
    return _HASHER.hash(password)


def check_password(stored_hash: str, password: str) -> bool:
    """Whether `password` belongs to the hash; False too for a hash that is none."""
    try:
        with _CHECKS_AT_ONCE:
            return _HASHER.verify(stored_hash, password)
    except (VerificationError, InvalidHashError):
        return False
