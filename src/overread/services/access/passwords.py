"""Passwords of local accounts: argon2id (RFC 9106), and what a new one must be like."""

from __future__ import annotations

import secrets
from threading import BoundedSemaphore
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from overread.domain.errors import InvalidRequest

MINIMUM_LENGTH: Final = 12
MAXIMUM_LENGTH: Final = 1000
#: No letters that look like each other: it is read from a screen once.
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"

_HASHER = PasswordHasher()
#: Each check takes 64 MiB for a moment, so that a flood of log-ins cannot take all of the memory.
_CHECKS_AT_ONCE = BoundedSemaphore(4)
#: Verified against when there is no such user, so that an answer takes as long as for a real one.
DECOY = _HASHER.hash(secrets.token_urlsafe(24))


def hash_password(password: str) -> str:
    """argon2id (RFC 9106), for `UserRow.password_hash`."""
    with _CHECKS_AT_ONCE:
        return _HASHER.hash(password)


def check_password(stored_hash: str, password: str) -> bool:
    """Whether `password` belongs to the hash; False too for a hash that is none."""
    try:
        with _CHECKS_AT_ONCE:
            return _HASHER.verify(stored_hash, password)
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(stored_hash: str) -> bool:
    """Whether a hash was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(stored_hash)


def check_new_password(password: str, name: str) -> None:
    """Length counts, not kinds of signs (NIST SP 800-63B 5.1.1.2). Raises `InvalidRequest` with what is wrong."""
    if not MINIMUM_LENGTH <= len(password) <= MAXIMUM_LENGTH:
        raise InvalidRequest(f"A password needs {MINIMUM_LENGTH} characters or more.")
    if len(set(password)) < 5:
        raise InvalidRequest("The password repeats too few different characters.")
    if len(name) > 2 and name.casefold() in password.casefold():
        raise InvalidRequest("The password must not contain the user name.")


def generate_password() -> str:
    """Four groups of five letters: 98 bits."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))
