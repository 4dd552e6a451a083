"""New identifiers that depend on a key: without it nobody gets from the new one to the old one, or links two exports.

HMAC-SHA256, so that no table of old and new identifiers is kept anywhere. Whoever keeps the key of a project gets the
same identifiers for the same patient in the project's next export; a key that is thrown away makes the link impossible.
"""

from __future__ import annotations

import base64
import hmac
from datetime import timedelta
from uuid import UUID

from overread.domain.errors import InvalidRequest
from overread.domain.ids import uid_from_uuid

#: Bytes of a key, at least.
KEY_BYTES = 32
_LEAST_DAYS, _SPAN_DAYS = 30, 3620


class Pseudonyms:
    """The identifiers of one export or project. Raises `InvalidRequest` for a key of less than 32 bytes."""

    def __init__(self, key: bytes) -> None:
        if len(key) < KEY_BYTES:
            raise InvalidRequest(f"A project key has at least {KEY_BYTES} bytes.", remedy="Let Overread make one.")
        self._key = key

    def uid(self, old: str) -> str:
        """A UID under 2.25 for another UID (PS3.5 B.2)."""
        digest = bytearray(self._digest("uid", old)[:16])
        # A UUID of version 8 (RFC 9562): its bits are ours to choose.
        digest[6] = 0x80 | digest[6] & 0x0F
        digest[8] = 0x80 | digest[8] & 0x3F
        return uid_from_uuid(UUID(bytes=bytes(digest)))

    def patient(self, patient: tuple[str, ...]) -> str:
        """PatientID and PatientName of the copy: ANON- and 8 letters or digits."""
        return "ANON-" + base64.b32encode(self._digest("patient", *patient)[:5]).decode("ascii")

    def shift(self, patient: tuple[str, ...]) -> timedelta:
        """By how much the dates of a patient move, 30 days to ten years into the past."""
        number = int.from_bytes(self._digest("days", *patient)[:8], "big")
        return -timedelta(days=_LEAST_DAYS + number % _SPAN_DAYS)

    def _digest(self, *parts: str) -> bytes:
        message = b"".join(len(encoded).to_bytes(4, "big") + encoded for encoded in _encoded(parts))
        return hmac.digest(self._key, message, "sha256")


def _encoded(parts: tuple[str, ...]) -> list[bytes]:
    return [part.encode("utf-8", "surrogatepass") for part in parts]
