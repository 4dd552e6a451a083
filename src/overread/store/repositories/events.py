"""Announcements that go out when the transaction commits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.types.json import Jsonb


class Events:
    """Implements `services.ports.EventSink` by NOTIFY, through `overread.publish`."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def publish(self, kind: str, ids: Mapping[str, str]) -> None:
        """Ids only, never a patient's data."""
        self._connection.execute("SELECT overread.publish(%s, %s)", (kind, Jsonb(dict(ids))))
