"""Backups: the whole installation while it serves, and back into an empty machine. `overread backup|restore`.

A backup folder holds `blobs/`, files named by their sha256 that all backups in it share, and `backups/NAME.json`, one
manifest a backup. Keys lie in a folder of their own.
"""

from __future__ import annotations

from overread.backup.manifest import Manifest, names
from overread.backup.restore import Restored, check, restore
from overread.backup.state import LastBackup, last_backup
from overread.backup.write import KeyPlace, Made, backup

__all__ = [
    "KeyPlace",
    "LastBackup",
    "Made",
    "Manifest",
    "Restored",
    "backup",
    "check",
    "last_backup",
    "names",
    "restore",
]
