"""What the state folder remembers: when the last backup was made, and that a restore is under way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import orjson

from overread.store.durable import write_durably

LAST = "backup.json"
#: While it is there, the installation is half restored and must not be served.
RESTORING = "restoring.json"


@dataclass(frozen=True, kw_only=True)
class LastBackup:
    """The newest finished backup that this installation knows of."""

    folder: str
    name: str
    at: datetime
    missing: int


def remember(state: Path, backup: LastBackup) -> None:
    """Replaces what was remembered."""
    put(
        state / LAST,
        {"folder": backup.folder, "name": backup.name, "at": backup.at.isoformat(), "missing": backup.missing},
    )


def last_backup(state: Path) -> LastBackup | None:
    """None if there never was one."""
    try:
        kept = orjson.loads((state / LAST).read_bytes())
        return LastBackup(**kept | {"at": datetime.fromisoformat(kept["at"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def put(path: Path, value: dict[str, object]) -> None:
    """JSON, whole or not at all, readable by this user only."""
    write_durably(path, orjson.dumps(value))
