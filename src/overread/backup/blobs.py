"""Files named by the sha256 of what is in them: written once, shared by all backups of a folder, checked when read."""

from __future__ import annotations

import hashlib
import os
import secrets
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from overread.domain.errors import BackupDamaged, StorageFull

_PIECE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Blob:
    """What a manifest says of a file."""

    sha256: str
    size: int


class Blobs:
    """`folder/blobs/AB/ABCD...`, readable by this user only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "blobs"

    def path(self, blob: Blob) -> Path:
        return self.folder / blob.sha256[:2] / blob.sha256

    def has(self, blob: Blob) -> bool:
        """Whether it is there, as long as it should be."""
        try:
            return self.path(blob).stat().st_size == blob.size
        except OSError:
            return False

    def put(self, pieces: Iterable[bytes]) -> Blob:
        """Raises `StorageFull`. Durable only after `settle`."""
        digest, size = hashlib.sha256(), 0
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.folder / f".{secrets.token_hex(8)}"
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
                for piece in pieces:
                    digest.update(piece)
                    size += len(piece)
                    handle.write(piece)
            blob = Blob(sha256=digest.hexdigest(), size=size)
            target = self.path(blob)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            temporary.rename(target)
        except OSError as error:
            raise StorageFull(
                f"The backup cannot be written to {self.folder}: {error.strerror or error}.",
                remedy="Make room there, or name another folder. The next run goes on with what is there.",
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        return blob

    def put_packed(self, pieces: Iterable[bytes]) -> Blob:
        """Compressed (zlib), the same bytes for the same content."""
        packer = zlib.compressobj(6)

        def packed() -> Iterator[bytes]:
            for piece in pieces:
                if done := packer.compress(piece):
                    yield done
            yield packer.flush()

        return self.put(packed())

    def pieces(self, blob: Blob) -> Iterator[bytes]:
        """Raises `BackupDamaged`, at the latest at the end, if it is not what was written."""
        digest, size = hashlib.sha256(), 0
        try:
            with self.path(blob).open("rb") as handle:
                while piece := handle.read(_PIECE):
                    digest.update(piece)
                    size += len(piece)
                    yield piece
        except OSError as error:
            raise BackupDamaged(f"A file of the backup cannot be read: {blob.sha256} ({error.strerror}).") from error
        if (digest.hexdigest(), size) != (blob.sha256, blob.size):
            raise BackupDamaged(f"A file of the backup is not what was written: {blob.sha256}.")

    def packed_pieces(self, blob: Blob) -> Iterator[bytes]:
        """As `pieces`, of what `put_packed` was given."""
        unpacker = zlib.decompressobj()
        try:
            for piece in self.pieces(blob):
                yield unpacker.decompress(piece)
            yield unpacker.flush()
        except zlib.error as error:
            raise BackupDamaged(f"A file of the backup is not what was written: {blob.sha256}.") from error

    def settle(self) -> None:
        """Everything that was put is on the disk when it returns."""
        os.sync()


def lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Lines of a stream of pieces, without their ends."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
    if rest:
        yield rest
