"""Secrets that the database keeps for us, encrypted: TOTP secrets, a provider's client secret."""

from __future__ import annotations

import base64
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from overread.domain.errors import SetupError

_NONCE_BYTES: Final = 12
_PREFIX: Final = "v1."


class Sealer:
    """AES-256-GCM; what is sealed for one place (`context`) opens nowhere else."""

    def __init__(self, key: bytes) -> None:
        """`key` has 32 bytes."""
        self._cipher = AESGCM(key)

    def seal(self, secret: str, context: str) -> str:
        """Text for the database."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        box = nonce + self._cipher.encrypt(nonce, secret.encode(), context.encode())
        return _PREFIX + base64.urlsafe_b64encode(box).decode()

    def open(self, sealed: str, context: str) -> str:
        """Raises `SetupError` if it was sealed with another key, for another place, or changed."""
        try:
            box = base64.urlsafe_b64decode(sealed.removeprefix(_PREFIX))
            return self._cipher.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], context.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise SetupError(
                "A stored secret cannot be opened with this installation's key.",
                remedy="Was secret.key replaced? Reset the user's second factor, or set the identity provider anew.",
            ) from error
