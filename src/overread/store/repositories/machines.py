"""Who else may come in besides people with a password: keys of machines, and the tenant's identity provider."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from overread.services.identity_values import ApiKeyRow, ProviderRow

_KEY = (
    "id, name, secret_sha256, permissions, networks, created_at, created_by, expires_at, revoked_at, last_used_at,"
    " last_used_from"
)
_PROVIDER = (
    "issuer, client_id, client_secret, audience, scopes, role_claim, roles, tenant_claim, tenant_value, local_accounts"
)


class ApiKeys:
    """Implements `services.identity_ports.ApiKeyRepository`."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def get(self, key_id: str) -> ApiKeyRow | None:
        """None if there is none."""
        query = f"SELECT {_KEY} FROM api_keys WHERE id = %s"  # noqa: S608 - the columns are ours
        row = self._connection.execute(query.encode(), (key_id,)).fetchone()
        return _key(row) if row is not None else None

    def all(self) -> tuple[ApiKeyRow, ...]:
        """The newest first."""
        query = f"SELECT {_KEY} FROM api_keys ORDER BY created_at DESC, id"  # noqa: S608
        return tuple(_key(row) for row in self._connection.execute(query.encode()))

    def add(self, key: ApiKeyRow) -> bool:
        """False if a living key has this name."""
        cursor = self._connection.execute(
            "INSERT INTO api_keys (id, name, secret_sha256, permissions, networks, created_at, created_by, expires_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (
                key.id,
                key.name,
                key.secret_sha256,
                list(key.permissions) if key.permissions is not None else None,
                list(key.networks),
                key.created_at,
                key.created_by,
                key.expires_at,
            ),
        )
        return cursor.rowcount == 1

    def revoke(self, key_id: str, now: datetime) -> bool:
        """False if there is no living key of this id."""
        cursor = self._connection.execute(
            "UPDATE api_keys SET revoked_at = %s WHERE id = %s AND revoked_at IS NULL", (now, key_id)
        )
        return cursor.rowcount == 1

    def touch(self, key_id: str, now: datetime, address: str) -> None:
        """Last used."""
        self._connection.execute(
            "UPDATE api_keys SET last_used_at = %s, last_used_from = %s WHERE id = %s", (now, address, key_id)
        )


def _key(row: tuple[Any, ...]) -> ApiKeyRow:
    return ApiKeyRow(
        id=row[0],
        name=row[1],
        secret_sha256=row[2],
        permissions=tuple(row[3]) if row[3] is not None else None,
        networks=tuple(row[4]),
        created_at=row[5],
        created_by=row[6],
        expires_at=row[7],
        revoked_at=row[8],
        last_used_at=row[9],
        last_used_from=row[10],
    )


class Providers:
    """Implements `services.identity_ports.ProviderRepository`."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def get(self) -> ProviderRow | None:
        """None: this hospital has local accounts only."""
        row = self._connection.execute(f"SELECT {_PROVIDER} FROM identity_provider".encode()).fetchone()  # noqa: S608
        if row is None:
            return None
        return ProviderRow(
            issuer=row[0],
            client_id=row[1],
            client_secret=row[2],
            audience=row[3],
            scopes=row[4],
            role_claim=row[5],
            roles=row[6],
            tenant_claim=row[7],
            tenant_value=row[8],
            local_accounts=row[9],
        )

    def put(self, provider: ProviderRow) -> None:
        """In place of what there was."""
        self.remove()
        self._connection.execute(
            f"INSERT INTO identity_provider ({_PROVIDER}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)".encode(),  # noqa: S608
            (
                provider.issuer,
                provider.client_id,
                provider.client_secret,
                provider.audience,
                provider.scopes,
                provider.role_claim,
                Jsonb(dict(provider.roles)),
                provider.tenant_claim,
                provider.tenant_value,
                provider.local_accounts,
            ),
        )

    def remove(self) -> bool:
        """False if there was none."""
        return self._connection.execute("DELETE FROM identity_provider").rowcount == 1
