"""Which sessions ended before their time, and who failed to log in."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg

from overread.services.identity_values import Standing

#: So many failures from one address lock this account for this address: a minute, then twice as long each time.
PER_ADDRESS: Final = 5
FIRST_LOCK: Final = timedelta(minutes=1)
LONGEST_LOCK: Final = timedelta(minutes=15)
#: So many in `LONGEST_LOCK`, from all addresses together, lock it for everybody; one address counts for 10 at most, so
#: that none can do it alone.
FOR_ALL: Final = 30
_FORGOTTEN: Final = timedelta(days=1)


def lock_after(failures: int) -> timedelta | None:
    """How long an address waits after its `failures`-th failure in a row."""
    over = failures - PER_ADDRESS
    return None if over < 0 else min(FIRST_LOCK * 2 ** min(over, 10), LONGEST_LOCK)


class Sessions:
    """Implements `services.identity_ports.SessionRepository`."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def standing(self, user_id: UUID, now: datetime) -> Standing | None:
        """One question for all that a token's bearer may still do."""
        row = self._connection.execute(
            "SELECT name, display_name, role, disabled, epoch, must_change_password, not_before, ARRAY("
            "SELECT session FROM revoked_sessions r WHERE r.user_id = u.id AND r.expires_at > %s)"
            " FROM users u WHERE id = %s",
            (now, user_id),
        ).fetchone()
        if row is None:
            return None
        return Standing(
            user_id=user_id,
            name=row[0],
            display_name=row[1],
            role=row[2],
            disabled=row[3],
            epoch=row[4],
            must_change_password=row[5],
            not_before=row[6],
            revoked=frozenset(row[7]),
        )

    def revoke(self, session: str, user_id: UUID, expires_at: datetime) -> None:
        """End one session; forgotten once its token has expired by itself."""
        self._connection.execute("DELETE FROM revoked_sessions WHERE expires_at < now() - interval '1 day'")
        self._connection.execute(
            "INSERT INTO revoked_sessions (session, user_id, expires_at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            (session, user_id, expires_at),
        )

    def locked_until(self, account: str, address: str, now: datetime) -> datetime | None:
        """Until when this address may not try this account, or nobody may."""
        row = self._connection.execute(
            "SELECT max(locked_until) FILTER (WHERE address = %(address)s AND locked_until > %(now)s),"
            " CASE WHEN sum(least(failures, 10)) FILTER (WHERE last_at > %(since)s) >= %(most)s"
            " THEN max(last_at) + %(wait)s END"
            " FROM login_failures WHERE account = %(account)s",
            {
                "account": account,
                "address": address,
                "now": now,
                "since": now - LONGEST_LOCK,
                "most": FOR_ALL,
                "wait": LONGEST_LOCK,
            },
        ).fetchone()
        until = [moment for moment in row or () if moment is not None and moment > now]
        return max(until, default=None)

    def record_failure(self, account: str, address: str, now: datetime) -> bool:
        """Count a failed attempt; those of more than a quarter of an hour ago no longer count."""
        self._connection.execute("DELETE FROM login_failures WHERE last_at < %s", (now - _FORGOTTEN,))
        row = self._connection.execute(
            "INSERT INTO login_failures AS f (account, address, failures, last_at) VALUES (%s, %s, 1, %s)"
            " ON CONFLICT (account, address) DO UPDATE SET last_at = excluded.last_at,"
            " failures = CASE WHEN greatest(f.last_at, f.locked_until) < %s THEN 1 ELSE f.failures + 1 END"
            " RETURNING failures",
            (account, address, now, now - LONGEST_LOCK),
        ).fetchone()
        wait = lock_after(int(row[0])) if row else None
        self._connection.execute(
            "UPDATE login_failures SET locked_until = %s WHERE account = %s AND address = %s",
            (now + wait if wait else None, account, address),
        )
        return self.locked_until(account, address, now) is not None

    def forget_failures(self, account: str, address: str | None = None) -> None:
        """After a log-in that worked (of one address), or by an administrator (of all)."""
        self._connection.execute(
            "DELETE FROM login_failures WHERE account = %s AND (%s::text IS NULL OR address = %s)",
            (account, address, address),
        )
