"""Uploads on their way: in memory while they are small, then in a file without a name, encrypted by a key that only
this process has, while the upload lasts. Whoever takes the disk finds nothing; nothing is left after a crash."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from python_multipart.decoders import Base64Decoder, QuotedPrintableDecoder
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from typing_extensions import Buffer

_BLOCK = 16
#: What file systems say that know no O_TMPFILE.
_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})


class SealedFile(io.RawIOBase):
    """A file of AES-256 in counter mode: any part can be read by itself. It is written once, from its start to its end.

    Nobody else can open the file, so it needs no tag: what could change it could change this process too.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._descriptor = _nameless(folder)
        self._algorithm = AES256(os.urandom(32))
        self._size = self._at = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("negative seek position")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        sealed = os.pread(self._descriptor, len(view), self._at)
        view[: len(sealed)] = self._cipher(self._at, sealed)
        self._at += len(sealed)
        return len(sealed)

    def write(self, data: Buffer, /) -> int:
        if self._at != self._size:
            raise io.UnsupportedOperation("a spooled upload is written from its start to its end")
        view = memoryview(self._cipher(self._at, bytes(data)))
        written = len(view)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._size = self._at = self._at + written
        return written

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    def _cipher(self, at: int, data: bytes) -> bytes:
        """The key is for this file alone, so counting may begin at 0. Both ways are the same."""
        counter, skip = divmod(at, _BLOCK)
        stream = Cipher(self._algorithm, CTR(counter.to_bytes(_BLOCK, "big"))).encryptor()
        stream.update(bytes(skip))
        return stream.update(data)


def _nameless(folder: Path) -> int:
    try:
        return os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
    descriptor, path = tempfile.mkstemp(dir=folder)
    os.unlink(path)  # noqa: PTH108 - a str from mkstemp
    return descriptor


class Spool:
    """A body that arrives in pieces: `write` them, then read `file`."""

    def __init__(self, folder: Path, in_memory: int) -> None:
        self._folder = folder
        self._in_memory = in_memory
        self.file: IO[bytes] = io.BytesIO()

    def write(self, data: bytes) -> int:
        if isinstance(self.file, io.BytesIO) and self.file.tell() + len(data) > self._in_memory:
            sealed = sealed_file(self._folder)
            sealed.write(self.file.getbuffer())
            self.file = sealed
        return self.file.write(data)

    def finalize(self) -> None:
        """All of it came: decoders call this."""

    def close(self) -> None:
        self.file.close()


class FormFiles:
    """The files of a multipart/form-data body (RFC 7578), each handed on as soon as it is whole; fields are left out.

    python-multipart's own parser spools to named files in the clear, so only its grammar is used here.
    """

    def __init__(
        self, boundary: bytes, folder: Path, *, in_memory: int, parts: int, on_file: Callable[[bytes, IO[bytes]], None]
    ) -> None:
        """`on_file` gets the file's name as it came and its content. Raises `FormParserError`."""
        self._folder, self._in_memory, self._parts, self._on_file = folder, in_memory, parts, on_file
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._file_name: bytes | None = None
        self._spool: Spool | None = None
        self._decoder: Spool | Base64Decoder | QuotedPrintableDecoder | None = None
        #: Whether the closing boundary came.
        self.ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._ended,
            },
        )

    def write(self, data: bytes) -> None:
        """The next piece of the body. Raises `FormParserError`, and what `on_file` raises."""
        self._parser.write(data)

    def finalize(self) -> None:
        """The body is over. Raises `FormParserError` if it ends within a part."""
        self._parser.finalize()
        if not self.ended:
            raise FormParserError("no closing boundary")

    def close(self) -> None:
        """Forget a part that never became whole."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _begin(self) -> None:
        self._parts -= 1
        if self._parts < 0:
            raise FormParserError("too many parts")
        self._headers = {}

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value.strip(b" \t")
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise FormParserError("a part without a name")
        self._file_name = options.get(b"filename")
        if self._file_name is None:
            return
        self._spool = self._decoder = Spool(self._folder, self._in_memory)
        encoding = self._headers.get(b"content-transfer-encoding", b"").lower()
        if encoding == b"base64":
            self._decoder = Base64Decoder(self._spool)
        elif encoding == b"quoted-printable":
            self._decoder = QuotedPrintableDecoder(self._spool)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._decoder is not None:
            self._decoder.write(data[start:end])

    def _end(self) -> None:
        spool, name = self._spool, self._file_name
        if self._decoder is None or spool is None or name is None:
            return
        try:
            self._decoder.finalize()
            self._on_file(name, spool.file)
        finally:
            self.close()
            self._decoder = None

    def _ended(self) -> None:
        self.ended = True


def sealed_file(folder: Path) -> io.BufferedRandom:
    """An empty one. Raises `OSError`."""
    return io.BufferedRandom(cast(io.RawIOBase, SealedFile(folder)), buffer_size=256 * 1024)
