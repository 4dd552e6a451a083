"""Uploads on their way: nothing readable on the disk, nothing left behind."""

from __future__ import annotations

import io
import os
import zipfile
from base64 import b64encode
from contextlib import closing
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python_multipart.exceptions import FormParserError

from overread.http.spool import FormFiles, SealedFile, Spool, sealed_file

SECRET = b"Zzyzx^Planted" * 1000


def on_disk(file: SealedFile) -> bytes:
    return os.pread(file._descriptor, 1 << 24, 0)


@settings(max_examples=50, deadline=None)
@given(pieces=st.lists(st.binary(max_size=300), max_size=8), at=st.integers(0, 2500), size=st.integers(0, 400))
def test_any_part_reads_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], at: int, size: int
) -> None:
    whole = b"".join(pieces)
    with sealed_file(tmp_path_factory.getbasetemp()) as file:
        for piece in pieces:
            file.write(piece)
        assert file.seek(0, io.SEEK_END) == len(whole)
        file.seek(at)
        assert file.read(size) == whole[at : at + size]


def test_the_disk_holds_nothing_to_read_or_find(tmp_path: Path) -> None:
    with SealedFile(tmp_path) as file:
        file.write(SECRET)
        assert len(on_disk(file)) == len(SECRET)
        assert b"Planted" not in on_disk(file)
        assert list(tmp_path.iterdir()) == [], "it has no name"
        file.seek(0)
        assert file.read() == SECRET


def test_it_is_written_once(tmp_path: Path) -> None:
    with SealedFile(tmp_path) as file:
        file.write(b"first")
        file.seek(0)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"second")


@pytest.mark.parametrize("size", [100, 5000])
def test_a_raw_body(tmp_path: Path, size: int) -> None:
    with closing(Spool(tmp_path, 1000)) as spool:
        for at in range(0, size, 70):
            spool.write(SECRET[at : min(at + 70, size)])
        assert isinstance(spool.file, io.BytesIO) == (size <= 1000)
        spool.file.seek(0)
        assert spool.file.read() == SECRET[:size]
    assert list(tmp_path.iterdir()) == []


def form(*parts: tuple[bytes, bytes]) -> bytes:
    return b"".join(b"--b\r\n" + head + b"\r\n\r\n" + body + b"\r\n" for head, body in parts) + b"--b--\r\n"


def disposition(rest: bytes) -> bytes:
    return b"Content-Disposition: form-data; " + rest


def files_of(body: bytes, folder: Path, piece: int = 999, parts: int = 10) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []

    def take(name: bytes, file: IO[bytes]) -> None:
        assert list(folder.iterdir()) == []
        file.seek(0)
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                assert archive.testzip() is None
        file.seek(0)
        found.append((name, file.read()))

    with closing(FormFiles(b"b", folder, in_memory=100, parts=parts, on_file=take)) as reader:
        for at in range(0, len(body), piece):
            reader.write(body[at : at + piece])
        reader.finalize()
    return found


@pytest.mark.parametrize("piece", [1, 7, 999, 1_000_000])
def test_files_of_a_form(tmp_path: Path, piece: int) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.dcm", SECRET)
    body = form(
        (disposition(b'name="files"; filename="Zzyzx.zip"') + b"\r\nContent-Type: application/zip", packed.getvalue()),
        (disposition(b'name="note"'), b"a field"),
        (disposition(b'name="files"; filename="b"'), b"short"),
        (disposition(b'name="files"; filename=""'), b""),
        (
            disposition(b'name="files"; filename="c"') + b"\r\nContent-Transfer-Encoding: base64",
            b64encode(SECRET[:999]),
        ),
    )
    assert files_of(body, tmp_path, piece) == [
        (b"Zzyzx.zip", packed.getvalue()),
        (b"b", b"short"),
        (b"", b""),
        (b"c", SECRET[:999]),
    ]


@pytest.mark.parametrize(
    "body",
    [
        form((disposition(b'name="files"; filename="a"'), b"x"))[:-6],
        form((disposition(b'filename="a"'), b"x")),
        form((b"No: disposition", b"x")),
        form(*[(disposition(b'name="files"; filename="a"'), b"x")] * 11),
        b"",
        b"no form at all",
    ],
)
def test_what_is_no_form_is_refused(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(FormParserError):
        files_of(body, tmp_path)
