"""Local accounts of a tenant."""

from __future__ import annotations

from typing import Any

import psycopg

from overread.domain.study import TenantId
from overread.services.values import UserRow


class Users:
    """Implements `services.ports.UserRepository`."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]], tenant: TenantId) -> None:
        self._connection = connection
        self._tenant = tenant

    def by_name(self, name: str) -> UserRow | None:
        """Exact match."""
        row = self._connection.execute(
            "SELECT id, name, display_name, role, password_hash, disabled FROM users WHERE name = %s", (name,)
        ).fetchone()
        if row is None:
            return None
        return UserRow(
            id=row[0],
            tenant=self._tenant,
            name=row[1],
            display_name=row[2],
            role=row[3],
            password_hash=row[4],
            disabled=row[5],
        )

    def add(self, user: UserRow) -> bool:
        """False if the name is taken (then nothing changes)."""
        cursor = self._connection.execute(
            "INSERT INTO users (id, name, display_name, role, password_hash, disabled)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (name) DO NOTHING",
            (user.id, user.name, user.display_name, user.role, user.password_hash, user.disabled),
        )
        return cursor.rowcount == 1

    def all(self) -> tuple[UserRow, ...]:
        """By name."""
        rows = self._connection.execute(
            "SELECT id, name, display_name, role, password_hash, disabled FROM users ORDER BY name"
        ).fetchall()
        return tuple(
            UserRow(
                id=r[0], tenant=self._tenant, name=r[1], display_name=r[2], role=r[3], password_hash=r[4], disabled=r[5]
            )
            for r in rows
        )
