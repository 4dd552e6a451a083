"""Accounts of a tenant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from overread.domain.study import TenantId
from overread.services.values import UserRow

_COLUMNS = (
    "id, name, display_name, role, password_hash, disabled, epoch, must_change_password, totp_secret, totp_offered,"
    " issuer, subject, last_login_at"
)


class Users:
    """Implements `services.identity_ports.UserRepository`."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]], tenant: TenantId) -> None:
        self._connection = connection
        self._tenant = tenant

    def by_name(self, name: str) -> UserRow | None:
        """Exact match."""
        return self._one("name = %s", (name,))

    def by_id(self, user_id: UUID) -> UserRow | None:
        """None if there is none."""
        return self._one("id = %s", (user_id,))

    def by_subject(self, issuer: str, subject: str) -> UserRow | None:
        """Who a provider calls `subject`."""
        return self._one("issuer = %s AND subject = %s", (issuer, subject))

    def _one(self, condition: str, values: tuple[object, ...]) -> UserRow | None:
        query = f"SELECT {_COLUMNS} FROM users WHERE {condition}"  # noqa: S608 - both are ours
        row = self._connection.execute(query.encode(), values).fetchone()
        return self._row(row) if row is not None else None

    def _row(self, row: tuple[Any, ...]) -> UserRow:
        return UserRow(
            id=row[0],
            tenant=self._tenant,
            name=row[1],
            display_name=row[2],
            role=row[3],
            password_hash=row[4],
            disabled=row[5],
            epoch=row[6],
            must_change_password=row[7],
            totp_secret=row[8],
            totp_offered=row[9],
            issuer=row[10],
            subject=row[11],
            last_login_at=row[12],
        )

    def all(self) -> tuple[UserRow, ...]:
        """By name."""
        query = f"SELECT {_COLUMNS} FROM users ORDER BY name"  # noqa: S608
        return tuple(self._row(row) for row in self._connection.execute(query.encode()))

    def add(self, user: UserRow) -> bool:
        """False if the name is taken (then nothing changes)."""
        cursor = self._connection.execute(
            "INSERT INTO users (id, name, display_name, role, password_hash, disabled, must_change_password, issuer,"
            " subject) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (
                user.id,
                user.name,
                user.display_name,
                user.role,
                user.password_hash,
                user.disabled,
                user.must_change_password,
                user.issuer,
                user.subject,
            ),
        )
        return cursor.rowcount == 1

    def set_password(self, user_id: UUID, password_hash: str, *, must_change: bool) -> None:
        """All sessions of the user end."""
        self._connection.execute(
            "UPDATE users SET password_hash = %s, must_change_password = %s, epoch = epoch + 1, not_before = now()"
            " WHERE id = %s",
            (password_hash, must_change, user_id),
        )

    def rehash_password(self, user_id: UUID, old_hash: str, new_hash: str) -> None:
        """The same password under new parameters: nothing ends."""
        self._connection.execute(
            "UPDATE users SET password_hash = %s WHERE id = %s AND password_hash = %s", (new_hash, user_id, old_hash)
        )

    def set_disabled(self, user_id: UUID, disabled: bool) -> None:
        """All sessions of the user end."""
        self._connection.execute(
            "UPDATE users SET disabled = %s, epoch = epoch + 1, not_before = now() WHERE id = %s", (disabled, user_id)
        )

    def set_role(self, user_id: UUID, role: str) -> None:
        """All sessions of the user end."""
        self.follow_role(user_id, role)
        self.end_sessions(user_id)

    def follow_role(self, user_id: UUID, role: str) -> None:
        """As the identity provider says; sessions go on, with the new role."""
        self._connection.execute("UPDATE users SET role = %s WHERE id = %s", (role, user_id))

    def end_sessions(self, user_id: UUID) -> None:
        """All tokens given out so far are void."""
        self._connection.execute("UPDATE users SET epoch = epoch + 1, not_before = now() WHERE id = %s", (user_id,))

    def note_login(self, user_id: UUID, now: datetime) -> None:
        """When the last log-in was."""
        self._connection.execute("UPDATE users SET last_login_at = %s WHERE id = %s", (now, user_id))

    # --- second factor ---------------------------------------------------------------------------------------

    def offer_totp(self, user_id: UUID, sealed: str) -> None:
        """Keep a new secret until its first code confirms it; the present one goes on working."""
        self._connection.execute("UPDATE users SET totp_offered = %s WHERE id = %s", (sealed, user_id))

    def enable_totp(self, user_id: UUID, step: int, code_hashes: Sequence[str]) -> bool:
        """The offered secret becomes the one; recovery codes are replaced. False: none was offered."""
        cursor = self._connection.execute(
            "UPDATE users SET totp_secret = totp_offered, totp_offered = NULL, totp_last_step = %s"
            " WHERE id = %s AND totp_offered IS NOT NULL",
            (step, user_id),
        )
        if cursor.rowcount != 1:
            return False
        self._connection.execute("DELETE FROM recovery_codes WHERE user_id = %s", (user_id,))
        with self._connection.cursor() as many:
            many.executemany(
                "INSERT INTO recovery_codes (user_id, code_hash) VALUES (%s, %s)", [(user_id, c) for c in code_hashes]
            )
        return True

    def clear_totp(self, user_id: UUID) -> None:
        """No second factor any more."""
        self._connection.execute(
            "UPDATE users SET totp_secret = NULL, totp_offered = NULL, epoch = epoch + 1, not_before = now()"
            " WHERE id = %s",
            (user_id,),
        )
        self._connection.execute("DELETE FROM recovery_codes WHERE user_id = %s", (user_id,))

    def use_totp_step(self, user_id: UUID, step: int) -> bool:
        """False if this step or a later one was used before: a code works once."""
        cursor = self._connection.execute(
            "UPDATE users SET totp_last_step = %s WHERE id = %s AND totp_last_step < %s", (step, user_id, step)
        )
        return cursor.rowcount == 1

    def use_recovery_code(self, user_id: UUID, code_hash: str, now: datetime) -> bool:
        """False if there is no such code, or it was used."""
        cursor = self._connection.execute(
            "UPDATE recovery_codes SET used_at = %s WHERE user_id = %s AND code_hash = %s AND used_at IS NULL",
            (now, user_id, code_hash),
        )
        return cursor.rowcount == 1

    def recovery_codes_left(self, user_id: UUID) -> int:
        """How many were not used yet."""
        row = self._connection.execute(
            "SELECT count(*) FROM recovery_codes WHERE user_id = %s AND used_at IS NULL", (user_id,)
        ).fetchone()
        return int(row[0]) if row else 0
