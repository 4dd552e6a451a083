"""Put a backup into an empty machine. Interrupted, it goes on where it was when it is run again.

`restoring.json` in the state folder stands for "half restored": `overread serve` refuses while it is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import orjson
import sqlalchemy

from overread import bootstrap
from overread.backup import manifest as manifests
from overread.backup.blobs import Blob, Blobs, lines
from overread.backup.manifest import Manifest, ObjectIndex, secret_mark
from overread.backup.state import RESTORING, put
from overread.backup.write import Progress
from overread.config import Settings
from overread.domain.errors import BackupDamaged, Conflict, InvalidRequest, KeyUnavailable, StorageFull
from overread.domain.study import TenantId
from overread.store import dump, keys_master, migrate
from overread.store.durable import write_durably
from overread.store.objects import PieceStore, open_objects

#: Left by a restore for the operator to compare with: settings of the backup, without secrets.
SETTINGS_OF_BACKUP = "settings-of-backup.json"


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What was put back."""

    name: str
    at: datetime
    tenants: tuple[str, ...]
    rows: int
    objects: int
    bytes: int
    #: Objects that were already missing when the backup was made.
    missing: int


def _nothing(_what: str, _done: int, _all: int) -> None: ...


def check(folder: Path, name: str | None = None, progress: Progress = _nothing) -> Manifest:
    """Read every file of a backup and compare it with its hash. Raises `NotFound`, `BackupDamaged`. Needs no key."""
    folder = folder.expanduser().absolute()
    manifest = manifests.read(folder, name)
    blobs = Blobs(folder)
    for number, blob in enumerate(files := _files(manifest)):
        progress("database, models and settings", number, len(files))
        for _ in blobs.pieces(blob):
            pass
    for index in manifest.objects:
        for number, (_key, blob) in enumerate(entries(blobs, index)):
            progress(f"objects of {index.tenant}", number, index.count)
            for _ in blobs.pieces(blob):
                pass
    return manifest


def restore(
    settings: Settings, folder: Path, *, keys: Path | None, name: str | None = None, progress: Progress = _nothing
) -> Restored:
    """Keys, then database, objects, models, audit anchors. The machine must be empty.

    `keys`: folder of `secret.key` and `master.key`; None: `keys` in the backup, if it was made `--keys-with-data`.
    Raises `NotFound`, `BackupDamaged`, `Conflict` (there is an installation), `KeyUnavailable`, `SetupError`.
    """
    folder = folder.expanduser().absolute()
    place = (keys or folder / "keys").expanduser().absolute()
    secret = _secret(place)
    manifest = manifests.read(folder, name, secret=secret)
    if secret_mark(secret) != manifest.secret:
        raise KeyUnavailable(f"{place}/secret.key is not the one that this backup was made with.")
    blobs = Blobs(folder)
    for number, blob in enumerate(files := _files(manifest)):
        progress("checking", number, len(files))
        for _ in blobs.pieces(blob):
            pass
    with _restoring(settings, manifest):
        _put_keys(settings, place, secret, manifest)
        with _database(settings) as engine:
            _fill_database(settings, engine, blobs, manifest, progress)
        stored = open_objects(settings.objects_url, settings.state_dir / "objects")
        for index in manifest.objects:
            _fill_objects(stored, blobs, index, progress)
        _put_files(settings.models_dir, manifest.models, blobs)
        anchors = {p: b for p, b in manifest.configuration.items() if p.startswith("audit/")}
        _put_files(settings.state_dir, anchors, blobs)
        _put_files(settings.state_dir, {SETTINGS_OF_BACKUP: manifest.configuration["settings.json"]}, blobs)
    return Restored(
        name=manifest.name,
        at=manifest.at,
        tenants=tuple(index.tenant for index in manifest.objects),
        rows=manifest.rows,
        objects=sum(index.count for index in manifest.objects),
        bytes=sum(index.bytes for index in manifest.objects),
        missing=sum(len(index.missing) for index in manifest.objects),
    )


def _files(manifest: Manifest) -> list[Blob]:
    """All but the objects."""
    return [
        *(table.blob for table in manifest.tables),
        *(index.blob for index in manifest.objects),
        *manifest.models.values(),
        *manifest.configuration.values(),
    ]


def entries(blobs: Blobs, index: ObjectIndex) -> Iterator[tuple[str, Blob]]:
    """(key, content) of a tenant's objects."""
    for line in lines(blobs.packed_pieces(index.blob)):
        entry = orjson.loads(line)
        yield entry["k"], Blob(sha256=entry["s"], size=entry["n"])


def _secret(place: Path) -> bytes:
    path = place / "secret.key"
    try:
        return bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise KeyUnavailable(
            f"There is no usable {path}: without the installation's keys a backup cannot be read.",
            remedy="Name the folder of the keys with --keys-from.",
        ) from error


@contextmanager
def _restoring(settings: Settings, manifest: Manifest) -> Iterator[None]:
    """Refuse what is not empty; mark what is half done."""
    state = settings.state_dir
    mark = state / RESTORING
    if mark.exists():
        kept = orjson.loads(mark.read_bytes())
        if kept != {"backup": manifest.name, "secret": manifest.secret}:
            raise Conflict(
                f"Another backup ({kept.get('backup')}) is half restored in {state}.",
                remedy=f"Finish that one, or delete {state} and start again.",
            )
    else:
        there = [name for name in _OURS if _exists(state / name)]
        if there:
            raise Conflict(
                f"The state folder {state} is not empty: {', '.join(there)}.",
                remedy="A restore goes into an empty machine: set OVERREAD_STATE to a new folder.",
            )
        settings.prepare_state()
        put(mark, {"backup": manifest.name, "secret": manifest.secret})
    yield
    mark.unlink()


#: What an installation keeps in its state folder.
_OURS = ("secret.key", "master.key", "objects", "postgres", "audit", "models", "run", "backup.json")


def _exists(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _put_keys(settings: Settings, place: Path, secret: bytes, manifest: Manifest) -> None:
    write_durably(settings.state_dir / "secret.key", f"{secret.hex()}\n".encode())
    target = bootstrap.master_key_file(settings)
    if target is not None and not target.exists():
        source = place / "master.key"
        if not source.exists():
            raise KeyUnavailable(
                f"There is no {source}.", remedy="Set OVERREAD_MASTER_KEY or OVERREAD_MASTER_KEY_FILE to it."
            )
        text = source.read_text()
        keys_master.parse_keys(text, where=str(source))
        write_durably(target, text.encode())
    if target is not None:
        held = {keys_master.key_id_of(k) for k in keys_master.parse_keys(target.read_text(), where=str(target))}
        lacking = [key for key in manifest.master_keys if key.startswith("local:") and key not in held]
        if lacking:
            raise KeyUnavailable(f"{target} lacks the master key {lacking[0]}, which this backup needs.")


@contextmanager
def _database(settings: Settings) -> Iterator[sqlalchemy.Engine]:
    """The owner's engine; an embedded server runs inside the block."""
    server = None
    if not settings.database_url:
        server = bootstrap.embedded(settings)
        server.start()
        server.ensure_database()
    engine = migrate.owner_engine(bootstrap.owner_conninfo(settings))
    try:
        with migrate.reachable():
            yield engine
    finally:
        engine.dispose()
        if server is not None:
            server.stop()


def _fill_database(
    settings: Settings, engine: sqlalchemy.Engine, blobs: Blobs, manifest: Manifest, progress: Progress
) -> None:
    """All in one transaction, so that a filled database is a whole one."""
    done = settings.state_dir / "run" / "database-restored"
    if done.exists():
        return
    if not dump.is_empty(engine):
        raise Conflict(
            "The database is not empty: it has hospitals.", remedy="Name an empty one with OVERREAD_DATABASE_URL."
        )
    total = len(manifest.tables)

    def tables() -> Iterator[tuple[dump.Table, Callable[[], Iterable[bytes]]]]:
        for number, table in enumerate(manifest.tables):

            def pieces(blob: Blob = table.blob, number: int = number) -> Iterator[bytes]:
                progress("database", number, total)
                return blobs.packed_pieces(blob)

            yield dump.Table(schema=table.schema, name=table.table, columns=table.columns), pieces

    dump.load(
        engine,
        settings.secret(),
        revisions=manifest.revisions,
        tables=tables(),
        sequences=[dump.Sequence(schema=s, name=n, last=v, called=c) for s, n, v, c in manifest.sequences],
    )
    progress("database", total, total)
    done.parent.mkdir(mode=0o700, exist_ok=True)
    done.touch()


def _fill_objects(stored: PieceStore, blobs: Blobs, index: ObjectIndex, progress: Progress) -> None:
    tenant = TenantId(slug=index.tenant)
    there = {item.key: item.size for item in stored.list(tenant)}
    for number, (key, blob) in enumerate(entries(blobs, index)):
        if number % 50 == 0:
            progress(f"objects of {tenant}", number, index.count)
        if there.get(key) != blob.size:
            stored.put_pieces(tenant, key, lambda blob=blob: blobs.pieces(blob))  # type: ignore[misc]
    progress(f"objects of {tenant}", index.count, index.count)


def _put_files(root: Path, files: dict[str, Blob], blobs: Blobs) -> None:
    """Raises `BackupDamaged` for a path that would leave `root`."""
    for name, blob in files.items():
        path = (root / name).resolve()
        if root.resolve() not in path.parents:
            raise BackupDamaged("The manifest names a file outside its folder.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
                for piece in blobs.pieces(blob):
                    handle.write(piece)
        except OSError as error:
            raise StorageFull(f"{path} cannot be written: {error.strerror or error}.") from error


def check_keys_apart(folder: Path, keys: Path | None) -> None:
    """Raises `InvalidRequest` if nobody said where the keys are and they are not in the backup."""
    if keys is None and not (folder.expanduser() / "keys" / "secret.key").exists():
        raise InvalidRequest("The backup was made without its keys.", remedy="Name their folder with --keys-from.")
