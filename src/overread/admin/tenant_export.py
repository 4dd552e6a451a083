"""`overread tenant export`: everything of a tenant in open formats, in a folder that only this user can read.

    manifest.json            what is in it: sha256 and bytes of each file, rows of each table, what was left out
    tenant.json              name, senders
    tables/TABLE.jsonl       one JSON object a row; audit_events.jsonl is the audit trail with its seals beside it
    dicom/STUDY/SERIES/INSTANCE.dcm   as they came; a header revision has its id in the name
    results/ANALYSIS.{sr,seg}.dcm     what we wrote
    rejected/ID.dcm          what was quarantined

The manifest is written last: a folder without one is not complete, and the same command goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from overread import __version__, bootstrap
from overread.admin.connection import find_tenant, operator, owner
from overread.admin.record import put_on_record
from overread.config import Settings
from overread.domain.audit import AuditAction
from overread.domain.errors import InvalidRequest, ObjectMissing, StorageFull
from overread.domain.study import TenantId
from overread.services.object_ports import ObjectStore
from overread.store.cipher import Ciphers
from overread.store.durable import write_durably
from overread.store.encrypted_objects import EncryptedObjects
from overread.store.objects import open_objects
from overread.store.tenant_keys import OwnerKeyRing
from overread.store.tenant_tables import SECRETS, TenantTables, snapshot

MANIFEST: Final = "manifest.json"
#: Objects that are there already: one line each, so that an interrupted export goes on.
DONE: Final = ".done.jsonl"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export came to."""

    folder: Path
    objects: int
    #: Of `objects`, those that an earlier, interrupted run had written.
    kept: int
    rows: int
    bytes: int
    #: Objects that the index names and the store does not have.
    missing: int


#: Told how many of how many objects are done.
Progress = Callable[[int, int], None]


def export(settings: Settings, slug: str, folder: Path, progress: Progress = lambda _done, _all: None) -> Exported:
    """Write everything of the tenant into `folder`. Works for a suspended tenant too.

    Raises `InvalidRequest` if the folder holds something else, or is another tenant's.
    """
    with owner(settings) as engine:
        tenant = find_tenant(engine, slug)
        _prepare(folder, tenant)
        ciphers = Ciphers(OwnerKeyRing(engine, bootstrap.master_keys(settings)))
        objects = EncryptedObjects(open_objects(settings.objects_url, settings.state_dir / "objects"), ciphers)
        with snapshot(engine, tenant, ciphers.values(tenant)) as tables:
            try:
                done = _Writer(folder=folder, tenant=tenant, objects=objects, tables=tables, progress=progress).run()
            except OSError as error:
                raise StorageFull(
                    f"The export stopped: {error.strerror or error}.",
                    remedy="Make room and run the same command again.",
                ) from error
        facts = {"objects": done.objects, "rows": done.rows, "bytes": done.bytes}
        put_on_record(settings, engine, tenant, AuditAction.TENANT_EXPORTED, operator(), "", facts)
    return done


def _prepare(folder: Path, tenant: TenantId) -> None:
    """The folder is empty, or an export of this tenant that goes on."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    mark = folder / ".tenant"
    there = {path.name for path in folder.iterdir()}
    if not there:
        write_durably(mark, tenant.slug.encode())
    elif not mark.exists() or mark.read_text() != tenant.slug:
        raise InvalidRequest(
            f"The folder {folder} is not empty and holds no export of {tenant}.", remedy="Name another folder."
        )
    (folder / MANIFEST).unlink(missing_ok=True)


@dataclass(kw_only=True)
class _Writer:
    """One run."""

    folder: Path
    tenant: TenantId
    objects: ObjectStore
    tables: TenantTables
    progress: Progress
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    kept: int = 0

    def run(self) -> Exported:
        rows = {table: self._table(table) for table in self.tables.names()}
        self._file("tenant.json", [orjson.dumps(self.tables.shared(), option=orjson.OPT_INDENT_2)])
        self._objects()
        manifest = {
            "product": f"Overread {__version__}",
            "tenant": self.tenant.slug,
            "rows": rows,
            "missingObjects": self.missing,
            "leftOut": sorted(f"{table}.{column}" for table, column in SECRETS),
            "files": self.files,
        }
        write_durably(self.folder / MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
        (self.folder / DONE).unlink(missing_ok=True)
        return Exported(
            folder=self.folder,
            objects=sum(name.endswith(".dcm") for name in self.files),
            kept=self.kept,
            rows=sum(rows.values()),
            bytes=sum(entry["bytes"] for entry in self.files.values()),
            missing=len(self.missing),
        )

    def _table(self, table: str) -> int:
        count = 0

        def lines() -> Iterator[bytes]:
            nonlocal count
            for row in self.tables.rows(table):
                count += 1
                yield orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)

        self._file(f"tables/{table}.jsonl", lines())
        return count

    def _objects(self) -> None:
        before = self._before()
        total = self.tables.count_objects()
        with (self.folder / DONE).open("ab") as log:
            (self.folder / DONE).chmod(0o600)
            for number, place in enumerate(self.tables.objects(), start=1):
                known = before.get(place.path)
                if (
                    known is not None
                    and known["key"] == place.key
                    and _size(self.folder / place.path) == known["bytes"]
                ):
                    self.files[place.path] = {"sha256": known["sha256"], "bytes": known["bytes"]}
                    self.kept += 1
                else:
                    try:
                        entry = self._file(place.path, [self.objects.get(self.tenant, place.key)])
                    except ObjectMissing:
                        self.missing.append(place.path)
                    else:
                        log.write(orjson.dumps({"path": place.path, "key": place.key, **entry}) + b"\n")
                        log.flush()
                self.progress(number, total)

    def _before(self) -> dict[str, dict[str, Any]]:
        """What an interrupted run has written; its last line may be cut off."""
        path, found = self.folder / DONE, {}
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
                found[entry["path"]] = entry
            except (ValueError, KeyError):
                continue
        return found

    def _file(self, name: str, pieces: Iterator[bytes] | list[bytes]) -> dict[str, Any]:
        """Written under another name first: what bears its name is whole."""
        path = self.folder / name
        for folder in reversed(path.relative_to(self.folder).parents):
            (self.folder / folder).mkdir(exist_ok=True, mode=0o700)
        digest, size = hashlib.sha256(), 0
        part = path.with_name(f".{path.name}.part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                handle.write(piece)
        part.replace(path)
        entry = {"sha256": digest.hexdigest(), "bytes": size}
        self.files[name] = entry
        return entry


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
