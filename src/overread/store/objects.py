"""Bytes by key: a folder of this machine, or S3 by URL. Both implement `services.object_ports.ObjectStore`."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from overread.domain.errors import ObjectMissing, ObjectStoreUnavailable, SetupError, StorageFull
from overread.domain.study import TenantId
from overread.services.object_ports import KeptObject
from overread.store.durable import sync_folder
from overread.store.object_pieces import MAX_KEY_LENGTH, Pieces, PieceStore, Readable, check_key, move_pieces
from overread.store.objects_s3 import PATIENCE, S3Objects

__all__ = [
    "MAX_KEY_LENGTH",
    "PATIENCE",
    "LocalObjects",
    "PieceStore",
    "Pieces",
    "Readable",
    "S3Objects",
    "check_key",
    "open_objects",
]

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: What file systems say that know no O_TMPFILE (NFS, some FUSE).
_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})


class LocalObjects:
    """Objects as files of one folder: `root/tenant/SHARD/key`, with `/` in the key written as `~`.

    Why not obstore's `LocalStore`: its `put` writes and renames but never calls fsync (seen with strace, 0.12.1), so
    a power cut after the acknowledgement would lose the object. After our `put` the object survives a crash of the
    machine. A new object is written without a name (O_TMPFILE), linked to its key, and then file and folder are
    fsynced: one commit of the file system's journal, where fsync, rename, fsync needs two. So a killed process leaves
    nothing behind, and a power cut before `put` returned leaves nothing or a part under a key that nobody was told of.
    A key that exists is replaced by a temporary file that is fsynced before it is renamed: what was durable stays so.

    Files are 0600 and folders 0700. The shard is the first byte of sha256(key): a tenant's 256 folders are made at once
    and not with each study, as each would cost an fsync. Safe for many threads and processes.
    """

    def __init__(self, root: Path) -> None:
        """Raises `SetupError` if the folder cannot be made or written."""
        self.root = root.absolute()
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.root.chmod(0o700)
        except OSError as error:
            raise SetupError(
                f"Cannot write objects to {self.root}: {error.strerror or error}.",
                remedy="Free some space, give this user write rights, or set OVERREAD_OBJECTS_URL to another place.",
            ) from error
        self._made: set[TenantId] = set()
        self._lock = threading.Lock()

    def path(self, tenant: TenantId, key: str) -> Path:
        """Where the object lies, or would lie. Raises `InvalidRequest`."""
        shard = hashlib.sha256(check_key(key).encode()).hexdigest()[:2]
        return self.root / tenant.slug / shard / key.replace("/", "~")

    def put(self, tenant: TenantId, key: str, data: bytes | memoryview) -> None:
        """Store durably; again with the same bytes changes nothing. Raises `StorageFull`, `InvalidRequest`."""
        self.put_pieces(tenant, key, lambda: (data,))

    def put_pieces(self, tenant: TenantId, key: str, pieces: Pieces) -> None:
        """As `put`, from pieces."""
        target = self.path(tenant, key)
        try:
            self._folders(tenant)
            try:
                _create(target, pieces)
            except FileExistsError:
                _replace(target, pieces)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise StorageFull(
                    "No room for the object: nothing was kept.", remedy=f"Free space on the disk of {self.root}."
                ) from error
            raise _away(error) from error

    def get(self, tenant: TenantId, key: str) -> bytes:
        """Raises `ObjectMissing`, `InvalidRequest`."""
        try:
            return self.path(tenant, key).read_bytes()
        except OSError as error:
            raise self._unreadable(key, error) from error

    @contextlib.contextmanager
    def reader(self, tenant: TenantId, key: str) -> Iterator[Readable]:
        """Raises `ObjectMissing`, `InvalidRequest`."""
        try:
            stream = self.path(tenant, key).open("rb")
        except OSError as error:
            raise self._unreadable(key, error) from error
        with stream:
            yield stream

    def exists(self, tenant: TenantId, key: str) -> bool:
        return self.path(tenant, key).is_file()

    def delete(self, tenant: TenantId, key: str) -> None:
        """Gone for good when it returns; what is not there is fine. Raises `InvalidRequest`."""
        path = self.path(tenant, key)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            sync_folder(path.parent)

    def list(self, tenant: TenantId, prefix: str = "") -> Iterator[KeptObject]:
        """In any order; what is put or deleted meanwhile may be among them or not. Sizes are those on disk."""
        start = prefix.replace("/", "~")
        for shard in range(256):
            try:
                entries = os.scandir(self.root / tenant.slug / f"{shard:02x}")
            except FileNotFoundError:
                continue
            with entries:
                for entry in entries:
                    if entry.name.startswith(".") or not entry.name.startswith(start):
                        continue
                    with contextlib.suppress(FileNotFoundError):  # it went just now
                        found = entry.stat(follow_symlinks=False)
                        yield KeptObject(
                            key=entry.name.replace("~", "/"),
                            size=found.st_size,
                            modified=datetime.fromtimestamp(found.st_mtime, UTC),
                            tag=f"{found.st_mtime_ns}-{found.st_ino}",
                        )

    def move(self, tenant: TenantId, source: str, target: str) -> None:
        """Durable when it returns. Raises `ObjectMissing`, `StorageFull`, `InvalidRequest`."""
        move_pieces(self, tenant, source, target)

    def delete_all(self, tenant: TenantId) -> None:
        """Everything of a tenant, for good. Raises `ObjectStoreUnavailable`; it can be done again."""
        folder = self.root / tenant.slug
        try:
            if folder.exists():
                shutil.rmtree(folder)
                sync_folder(self.root)
        except OSError as error:
            raise ObjectStoreUnavailable(f"Objects could not be deleted: {error.strerror or error}.") from error

    def _unreadable(self, key: str, error: OSError) -> ObjectMissing | ObjectStoreUnavailable:
        """A folder that is gone (a share that is not mounted) is not an object that is missing."""
        if isinstance(error, FileNotFoundError) and self.root.is_dir():
            return ObjectMissing(f"The object {key} is not in the object store.")
        return _away(error)

    def _folders(self, tenant: TenantId) -> None:
        """Make a tenant's folders, durably, once in this process."""
        if tenant in self._made:
            return
        with self._lock:
            folder = self.root / tenant.slug
            for part in (folder, *(folder / f"{shard:02x}" for shard in range(256))):
                with contextlib.suppress(FileExistsError):
                    part.mkdir(mode=0o700)
            sync_folder(folder)
            sync_folder(self.root)
            self._made.add(tenant)


def _away(error: OSError) -> ObjectStoreUnavailable:
    return ObjectStoreUnavailable(
        f"The object store cannot be used just now: {error.strerror or error}.", remedy="Try again shortly."
    )


def _create(target: Path, pieces: Pieces) -> None:
    """A new file under a name that is free. Raises `FileExistsError` if it is not."""
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            descriptor = os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=folder)
        except OSError as error:
            if error.errno in _NO_TMPFILE:
                _replace(target, pieces)
                return
            raise
        try:
            _write_all(descriptor, pieces)
            # With a folder's descriptor Python calls linkat(2), which alone follows this link to the nameless file.
            os.link(f"/proc/self/fd/{descriptor}", target.name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.fsync(folder)
    finally:
        os.close(folder)


def _replace(target: Path, pieces: Pieces) -> None:
    """The file under its name, whether that is free or not; leftovers of a crash start with `.put-`."""
    temporary = target.parent / f".put-{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            _write_all(descriptor, pieces)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def _write_all(descriptor: int, pieces: Pieces) -> None:
    for piece in pieces():
        left = memoryview(piece).cast("B")
        while left:
            left = left[os.write(descriptor, left) :]


def open_objects(url: str, default_folder: Path) -> LocalObjects | S3Objects:
    """The object store that a setting names: an address with `://`, a folder, or (empty) `default_folder`."""
    if "://" in url and not url.startswith("file://"):
        return S3Objects.from_url(url)
    return LocalObjects(Path(url.removeprefix("file://")) if url else default_folder)
