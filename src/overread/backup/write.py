"""Make a backup while the installation serves: the database at one moment, then every object that it names.

An object is stored before its row is committed, so whatever the snapshot names is there when the objects are listed
afterwards; what came since is copied too and does no harm. Objects that an earlier backup in the folder has, unchanged,
are not read again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psycopg

from overread import __version__, bootstrap
from overread.admin.connection import owner
from overread.backup import manifest as manifests
from overread.backup.blobs import Blob, Blobs, lines
from overread.backup.manifest import Manifest, ObjectIndex, TableDump, secret_mark
from overread.backup.state import RESTORING, LastBackup, remember
from overread.config import Settings
from overread.domain.errors import Conflict, InvalidRequest, ObjectMissing, SetupError, StoreUnavailable
from overread.domain.study import TenantId
from overread.store import dump
from overread.store.durable import write_durably
from overread.store.keys import context
from overread.store.objects import PieceStore, open_objects

#: What is being done, how much is done, how much there is.
Progress = Callable[[str, int, int], None]

#: Settings that are secrets, or hold one.
SECRET_SETTINGS = frozenset({"database_url", "database_direct_url", "master_key", "redis_url"})
_PIECE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class KeyPlace:
    """Where `secret.key` and `master.key` go: exactly one of the three."""

    folder: Path | None = None
    with_data: bool = False
    nowhere: bool = False


@dataclass(frozen=True, kw_only=True)
class Made:
    """A finished backup."""

    manifest: Manifest
    #: Objects in all, and those that had to be copied.
    objects: int
    copied: int
    bytes_copied: int
    missing: int
    #: Where the keys are; None: they were not written.
    keys: Path | None
    #: What the keys' folder lacks, in words; "" if it is complete.
    keys_lack: str


def _nothing(_what: str, _done: int, _all: int) -> None: ...


def backup(settings: Settings, folder: Path, keys: KeyPlace, progress: Progress = _nothing) -> Made:
    """Raises `InvalidRequest` (where the keys go), `Conflict`, `StorageFull`, `StoreUnavailable`, `KeyUnavailable`."""
    folder = folder.expanduser().absolute()
    place = _key_place(folder, keys)
    if (settings.state_dir / RESTORING).exists():
        raise Conflict("This installation is half restored.", remedy="Run the same `overread restore` again first.")
    if not (settings.state_dir / "secret.key").exists():
        raise SetupError(f"There is no installation in {settings.state_dir}.", remedy="Set OVERREAD_STATE.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    with _storing(folder):
        return _Backup(settings=settings, folder=folder, progress=progress).run(place)


@contextmanager
def _storing(folder: Path) -> Iterator[None]:
    import fcntl

    with os.fdopen(os.open(folder / "lock", os.O_WRONLY | os.O_CREAT, 0o600), "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(f"Another backup to {folder} is running.", remedy="Wait for it.") from error
        yield


def _key_place(folder: Path, keys: KeyPlace) -> Path | None:
    if [keys.folder is not None, keys.with_data, keys.nowhere].count(True) != 1:
        raise InvalidRequest(
            "Say where the keys go: without them nobody can read a backup, and beside the data everybody can.",
            remedy="--keys-to ANOTHER_FOLDER, or --keys-with-data, or --no-keys if you keep secret.key and master.key.",
            parameter="keys_to",
        )
    if keys.nowhere:
        return None
    if keys.folder is None:
        return folder / "keys"
    place = keys.folder.expanduser().absolute()
    ours, theirs = folder.resolve(), place.resolve()
    if ours == theirs or ours in theirs.parents or theirs in ours.parents:
        raise InvalidRequest(
            f"{place} is beside the data: who steals the backup would have its keys too.",
            remedy="Name a folder apart, best on another machine, or say --keys-with-data.",
            parameter="keys_to",
        )
    return place


@dataclass(kw_only=True)
class _Backup:
    """One run."""

    settings: Settings
    folder: Path
    progress: Progress
    copied: int = 0
    bytes_copied: int = 0
    blobs: Blobs = field(init=False)

    def __post_init__(self) -> None:
        self.blobs = Blobs(self.folder)

    def run(self, place: Path | None) -> Made:
        settings = self.settings
        before = manifests.names(self.folder)
        earlier = manifests.read(self.folder, before[-1]) if before else None
        # Before the snapshot: an anchor must not be ahead of the seals that are restored with it.
        anchors = {f"audit/{path.name}": self._file(path) for path in sorted(settings.state_dir.glob("audit/*.json"))}
        at = datetime.now(UTC)
        name = f"{at:%Y%m%dT%H%M%SZ}"
        if name in before:
            raise Conflict("A backup was made within this second.", remedy="Run it again.")
        try:
            with owner(settings) as engine, dump.snapshot(engine) as snapshot:
                tables = self._tables(snapshot)
                sequences = tuple((s.schema, s.name, s.last, s.called) for s in snapshot.sequences())
                revisions = dict(snapshot.revisions)
                wanted = {tenant: set(snapshot.object_keys(tenant)) for tenant in snapshot.tenants}
                masters = self._check_keys(snapshot)
        except psycopg.OperationalError as error:
            raise StoreUnavailable("The database went away during the backup.", remedy="Run it again.") from error
        stored = open_objects(settings.objects_url, settings.state_dir / "objects")
        objects = tuple(self._objects(stored, tenant, keys, earlier) for tenant, keys in wanted.items())
        models = self._models()
        configuration = anchors | {"settings.json": self.blobs.put([_settings_json(settings)])}
        lack = self._write_keys(place) if place is not None else ""
        self.progress("to the disk", 0, 1)
        self.blobs.settle()
        made = Manifest(
            name=name,
            version=__version__,
            at=at,
            revisions=revisions,
            tables=tables,
            sequences=sequences,
            objects=objects,
            models=models,
            configuration=configuration,
            secret=secret_mark(settings.secret()),
            master_keys=masters,
        )
        manifests.write(self.folder, made, settings.secret())
        missing = sum(len(index.missing) for index in objects)
        remember(settings.state_dir, LastBackup(folder=str(self.folder), name=name, at=at, missing=missing))
        return Made(
            manifest=made,
            objects=sum(index.count for index in objects),
            copied=self.copied,
            bytes_copied=self.bytes_copied,
            missing=missing,
            keys=place,
            keys_lack=lack,
        )

    def _tables(self, snapshot: dump.Snapshot) -> tuple[TableDump, ...]:
        made = []
        for number, table in enumerate(snapshot.tables):
            self.progress("database", number, len(snapshot.tables))
            counted: list[int] = []
            blob = self.blobs.put_packed(snapshot.rows(table, counted.append))
            made.append(
                TableDump(schema=table.schema, table=table.name, columns=table.columns, rows=counted[-1], blob=blob)
            )
        self.progress("database", len(made), len(made))
        return tuple(made)

    def _check_keys(self, snapshot: dump.Snapshot) -> tuple[str, ...]:
        """A backup whose keys do not open is none. Raises `KeyUnavailable`."""
        keys = bootstrap.master_keys(self.settings)
        used = set()
        for slug, purpose, version, master, wrapped in snapshot.wrapped_keys():
            keys.unwrap(wrapped, master, context(TenantId(slug=slug), purpose, version))
            used.add(master)
        return tuple(sorted(used))

    def _objects(self, stored: PieceStore, tenant: TenantId, wanted: set[str], earlier: Manifest | None) -> ObjectIndex:
        known = self._known(tenant, earlier)
        listed = list(stored.list(tenant))
        entries: list[bytes] = []
        seen, total = set(), 0
        for number, item in enumerate(listed):
            if number % 50 == 0:
                self.progress(f"objects of {tenant}", number, len(listed))
            old = known.get(item.key)
            if old is not None and old[1:] == (item.size, item.tag) and self.blobs.has(_blob(old)):
                blob = _blob(old)
            else:
                copy = self._copy(stored, tenant, item.key)
                if copy is None:
                    continue  # deleted meanwhile
                blob = copy
            seen.add(item.key)
            total += blob.size
            entry = {"k": item.key, "s": blob.sha256, "n": blob.size, "t": item.tag}
            entries.append(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
        self.progress(f"objects of {tenant}", len(listed), len(listed))
        return ObjectIndex(
            tenant=tenant.slug,
            count=len(entries),
            bytes=total,
            blob=self.blobs.put_packed(entries),
            missing=tuple(sorted(wanted - seen)),
        )

    def _copy(self, stored: PieceStore, tenant: TenantId, key: str) -> Blob | None:
        try:
            with stored.reader(tenant, key) as stream:
                blob = self.blobs.put(iter(lambda: stream.read(_PIECE), b""))
        except ObjectMissing:
            return None
        self.copied += 1
        self.bytes_copied += blob.size
        return blob

    def _known(self, tenant: TenantId, earlier: Manifest | None) -> dict[str, tuple[str, int, str]]:
        """key -> (sha256, bytes, tag) of an earlier backup."""
        found: dict[str, tuple[str, int, str]] = {}
        for index in earlier.objects if earlier is not None else ():
            if index.tenant == tenant.slug and self.blobs.has(index.blob):
                for line in lines(self.blobs.packed_pieces(index.blob)):
                    entry = orjson.loads(line)
                    found[entry["k"]] = (entry["s"], entry["n"], entry["t"])
        return found

    def _models(self) -> dict[str, Blob]:
        root = self.settings.models_dir
        files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else []
        return {path.relative_to(root).as_posix(): self._file(path) for path in files}

    def _file(self, path: Path) -> Blob:
        with path.open("rb") as handle:
            return self.blobs.put(iter(lambda: handle.read(_PIECE), b""))

    def _write_keys(self, place: Path) -> str:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.chmod(0o700)
        _write_key(place / "secret.key", (self.settings.state_dir / "secret.key").read_bytes())
        master = bootstrap.master_key_file(self.settings)
        if master is None:
            return "the master key, which is in OVERREAD_MASTER_KEY: keep it yourself"
        _write_key(place / "master.key", master.read_bytes())
        return ""


def _blob(old: tuple[str, int, str]) -> Blob:
    return Blob(sha256=old[0], size=old[1])


def _settings_json(settings: Settings) -> bytes:
    values: dict[str, Any] = settings.model_dump(mode="json", exclude=set(SECRET_SETTINGS))
    return orjson.dumps(values, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


def _write_key(path: Path, content: bytes) -> None:
    """Replaces an older one only by one that holds it: keys of earlier backups stay readable."""
    if path.exists() and path.name == "secret.key" and path.read_bytes().strip() != content.strip():
        raise InvalidRequest(
            f"{path} is another installation's.", remedy="Name another folder for the keys.", parameter="keys_to"
        )
    if path.exists():
        known = content.decode().split()
        kept = [key for key in path.read_text().split() if key not in known]
        content = "\n".join([*known, *kept]).encode() + b"\n"
    write_durably(path, content)
