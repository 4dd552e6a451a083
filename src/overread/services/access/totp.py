"""Second factor: time-based one-time passwords (RFC 6238: SHA-1, 30 s, 6 digits) and recovery codes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode
from uuid import UUID

STEP_SECONDS: Final = 30
DIGITS: Final = 6
#: Codes of the step before and after count too: clocks of telephones differ.
_WINDOW: Final = 1
RECOVERY_CODES: Final = 10


def new_secret() -> str:
    """160 bits in base32, as RFC 4226 section 4 recommends."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def code_at(secret: str, step: int) -> str:
    """The code of a time step (RFC 4226 5.3, dynamic truncation). `secret` is base32."""
    digest = hmac.new(base64.b32decode(secret), step.to_bytes(8, "big"), hashlib.sha1).digest()
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(number % 10**DIGITS).zfill(DIGITS)


def step_of(now: datetime) -> int:
    """Number of the 30 s since 1970."""
    return int(now.timestamp()) // STEP_SECONDS


def matching_step(secret: str, code: str, now: datetime) -> int | None:
    """The step that `code` belongs to, of those that count at `now`; the caller sees to it that it works once."""
    given = "".join(code.split())
    if len(given) != DIGITS or not given.isascii() or not given.isdigit():
        return None
    present = step_of(now)
    for step in range(present - _WINDOW, present + _WINDOW + 1):
        if hmac.compare_digest(code_at(secret, step), given):
            return step
    return None


def uri(secret: str, *, account: str, tenant: str) -> str:
    """For an authenticator app (Google Authenticator's key URI format)."""
    label = quote(f"Overread {tenant}:{account}", safe="")
    return f"otpauth://totp/{label}?" + urlencode({"secret": secret, "issuer": f"Overread {tenant}"}, quote_via=quote)


def new_recovery_codes() -> tuple[str, ...]:
    """Ten codes of 80 bits, each for one log-in without the telephone."""
    return tuple(_grouped(base64.b32encode(secrets.token_bytes(10)).decode().lower()) for _ in range(RECOVERY_CODES))


def _grouped(text: str) -> str:
    return "-".join(text[i : i + 4] for i in range(0, len(text), 4))


def recovery_hash(user_id: UUID, code: str) -> str:
    """What is kept of a recovery code; 80 random bits need no slow hash."""
    plain = "".join(c for c in code.lower() if c.isalnum())
    return hashlib.sha256(f"{user_id}:{plain}".encode()).hexdigest()
