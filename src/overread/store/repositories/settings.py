"""What a hospital decided for itself: one row a setting."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from overread.services.values import StoredSetting


class Settings:
    """Implements `services.feature_ports.SettingsRepository`."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def all(self) -> tuple[StoredSetting, ...]:
        """By key."""
        rows = self._connection.execute(
            "SELECT key, value, changed_by, changed_at, reason FROM tenant_settings ORDER BY key"
        ).fetchall()
        return tuple(StoredSetting(key=r[0], value=r[1], changed_by=r[2], changed_at=r[3], reason=r[4]) for r in rows)

    def put(self, setting: StoredSetting) -> None:
        """Set or change one."""
        self._connection.execute(
            "INSERT INTO tenant_settings (key, value, changed_by, changed_at, reason) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value, changed_by = excluded.changed_by,"
            " changed_at = excluded.changed_at, reason = excluded.reason",
            (setting.key, Jsonb(setting.value), setting.changed_by, setting.changed_at, setting.reason),
        )
