"""Identifiers: UUIDv7 for rows, 2.25 UIDs for what we write as DICOM."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

UID_ROOT = "2.25"
"""UUID-derived UIDs (DICOM PS3.5 B.2). A site with its own registered root sets OVERREAD_UID_ROOT."""


def uuid7(milliseconds: int | None = None, entropy: int | None = None) -> UUID:
    """A UUID version 7 (RFC 9562): sorts by time of creation.

    `milliseconds` is Unix time (default: now); `entropy` 74 random bits (default: from the system).
    """
    ms = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    rand = secrets.randbits(74) if entropy is None else entropy
    value = (ms & (2**48 - 1)) << 80
    value |= 0x7 << 76
    value |= ((rand >> 62) & 0xFFF) << 64
    value |= 0b10 << 62
    value |= rand & (2**62 - 1)
    return UUID(int=value)


def uid_from_uuid(value: UUID, root: str = UID_ROOT) -> str:
    """The DICOM UID of a UUID, at most 64 characters (2.25.<decimal>)."""
    if root == UID_ROOT:
        return f"{root}.{value.int}"
    return f"{root}.{value.int % 10 ** (63 - len(root))}"


def new_uid(root: str = UID_ROOT) -> str:
    """A fresh UID under the installation's one root."""
    return uid_from_uuid(uuid7(), root)


def is_valid_uid(text: str) -> bool:
    """Whether `text` is a UID of DICOM PS3.5 section 9: digits and dots, no leading zeros, at most 64 characters."""
    if not 0 < len(text) <= 64:
        return False
    parts = text.split(".")
    return all(p.isascii() and p.isdigit() and (p == "0" or not p.startswith("0")) for p in parts)
