"""Keys that sign tokens: the table holds salts; keys are made of them and the installation's secret.

So neither the database nor the file of the secret can sign alone. The newest row signs.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta

import psycopg
import sqlalchemy

from overread.domain.errors import StoreUnavailable
from overread.services.access import SigningKey


class TokenKeys:
    """A source for `services.access.KeyRing`: reads with the door's log-in."""

    def __init__(self, conninfo: str, secret: bytes) -> None:
        self._conninfo = conninfo
        self._secret = secret

    def __call__(self) -> list[SigningKey]:
        """Newest first. Raises `StoreUnavailable`."""
        try:
            with psycopg.connect(self._conninfo, connect_timeout=5) as connection:
                rows = connection.execute(
                    "SELECT kid, salt, verifies_until FROM overread.token_keys"
                    " WHERE verifies_until IS NULL OR verifies_until > now()"
                    " ORDER BY verifies_until IS NULL DESC, created_at DESC"
                ).fetchall()
        except psycopg.OperationalError as error:
            raise StoreUnavailable("The database cannot be reached just now.", remedy="Try again shortly.") from error
        return [SigningKey(kid=kid, secret=self._key(kid, salt), verifies_until=until) for kid, salt, until in rows]

    def _key(self, kid: str, salt: str) -> bytes:
        return hmac.new(self._secret, f"overread token key {kid}{salt}".encode(), hashlib.sha256).digest()


def rotate(engine: sqlalchemy.Engine, *, old_verify_for: timedelta) -> str:
    """A new key signs from now on; returns its id. Tokens of the others count for `old_verify_for` more."""
    kid = secrets.token_hex(4)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE overread.token_keys SET verifies_until = now() + %s WHERE verifies_until IS NULL", (old_verify_for,)
        )
        if not old_verify_for:
            connection.exec_driver_sql(
                "UPDATE overread.token_keys SET verifies_until = now() WHERE verifies_until > now()"
            )
        connection.exec_driver_sql(
            "INSERT INTO overread.token_keys (kid, salt) VALUES (%s, %s)", (kid, secrets.token_hex(32))
        )
    return kid
