"""What is in a backup: one JSON file, signed by a key of the installation's secret."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from overread.backup.blobs import Blob
from overread.domain.errors import BackupDamaged, NotFound
from overread.store.durable import write_durably

_NAME = re.compile(r"\d{8}T\d{6}Z")
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class TableDump:
    """Rows of a table, as packed COPY text."""

    schema: str
    table: str
    columns: tuple[str, ...]
    rows: int
    blob: Blob


@dataclass(frozen=True, kw_only=True)
class ObjectIndex:
    """The objects of a tenant: a packed list of JSON lines `{k: key, s: sha256, n: bytes, t: tag}`."""

    tenant: str
    count: int
    bytes: int
    blob: Blob
    #: Keys that the database names and the object store did not have.
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All of a backup."""

    name: str
    version: str
    #: The moment that the database's rows are of.
    at: datetime
    revisions: dict[str, str]
    tables: tuple[TableDump, ...]
    #: (schema, name, last value, whether it was given out).
    sequences: tuple[tuple[str, str, int, bool], ...]
    objects: tuple[ObjectIndex, ...]
    #: Path in the models folder to its content.
    models: dict[str, Blob]
    #: Settings without secrets, file name to content; audit anchors under `audit/`.
    configuration: dict[str, Blob]
    #: Of `secret.key`: a hash that tells whether another one is the same.
    secret: str
    #: Master keys without which nothing can be read.
    master_keys: tuple[str, ...]

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)


def secret_mark(secret: bytes) -> str:
    """Tells two secrets apart, and nothing of either (they are 32 random bytes)."""
    return hashlib.sha256(b"overread backup secret mark 1" + secret).hexdigest()[:16]


def _signature(content: bytes, secret: bytes) -> str:
    key = hmac.new(secret, b"overread backup manifest 1", hashlib.sha256).digest()
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def write(folder: Path, manifest: Manifest, secret: bytes) -> Path:
    """Last of all, and whole or not at all: a backup without a manifest is none."""
    place = folder / "backups"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = orjson.dumps({"format": FORMAT, **asdict(manifest)}, option=orjson.OPT_INDENT_2)
    write_durably(place / f"{manifest.name}.sig", _signature(content, secret).encode())
    write_durably(place / f"{manifest.name}.json", content)
    return place / f"{manifest.name}.json"


def names(folder: Path) -> list[str]:
    """Of the finished backups in a folder, oldest first."""
    found = (folder / "backups").glob("*.json") if (folder / "backups").is_dir() else ()
    return sorted(path.stem for path in found if _NAME.fullmatch(path.stem))


def read(folder: Path, name: str | None = None, *, secret: bytes | None = None) -> Manifest:
    """That backup, or the newest one. With `secret` its signature is checked too.

    Raises `NotFound`, `BackupDamaged`.
    """
    known = names(folder)
    if not known or (name is not None and name not in known):
        raise NotFound(
            f"There is no backup {name or ''} in {folder}.".replace("  ", " "),
            remedy=f"There are: {', '.join(known) or 'none'}.",
        )
    path = folder / "backups" / f"{name or known[-1]}.json"
    content = path.read_bytes()
    if secret is not None:
        signed = path.with_suffix(".sig")
        if not signed.exists() or not hmac.compare_digest(signed.read_text(), _signature(content, secret)):
            raise BackupDamaged(f"The manifest {path.name} was changed, or was made with another secret.key.")
    try:
        return _manifest(orjson.loads(content))
    except (ValueError, KeyError, TypeError) as error:
        raise BackupDamaged(f"The manifest {path.name} cannot be read.") from error


def _manifest(values: dict[str, Any]) -> Manifest:
    if values.pop("format") != FORMAT:
        raise BackupDamaged("The backup is of a newer Overread.")
    return Manifest(
        **values
        | {
            "at": datetime.fromisoformat(values["at"]),
            "tables": tuple(
                TableDump(**t | {"columns": tuple(t["columns"]), "blob": Blob(**t["blob"])}) for t in values["tables"]
            ),
            "sequences": tuple((s[0], s[1], s[2], s[3]) for s in values["sequences"]),
            "objects": tuple(
                ObjectIndex(**o | {"blob": Blob(**o["blob"]), "missing": tuple(o["missing"])})
                for o in values["objects"]
            ),
            "models": {path: Blob(**blob) for path, blob in values["models"].items()},
            "configuration": {path: Blob(**blob) for path, blob in values["configuration"].items()},
            "master_keys": tuple(values["master_keys"]),
        }
    )
