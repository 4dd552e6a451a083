"""Folders and ZIPs: what comes out, what is refused, and that one bad file does not stop the others."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.odd_files import radiograph, zip_of

from overread.domain.errors import OverreadError, TooLarge, UnsafeArchive, UnsupportedFile
from overread.services.unpack import Limits, clean_name, is_archive, members, unpack

DICOM = radiograph()


def outcome(source: bytes | Path, limits: Limits | None = None) -> dict[str, bytes | str]:
    """By name: the bytes, or the code of the error."""
    found: dict[str, bytes | str] = {}
    files = unpack(source, limits=limits) if isinstance(source, Path) else members(source, name="a.zip", limits=limits)
    for member in files:
        try:
            found[member.name] = member.read()
        except OverreadError as error:
            assert member.name in error.message
            assert error.remedy
            found[member.name] = error.code
    return found


def test_files_of_an_archive_in_order() -> None:
    data = zip_of(("b/1.dcm", DICOM), ("a/2", DICOM), ("folder/", b""))
    assert is_archive(data)
    assert outcome(data) == {"a.zip/b/1.dcm": DICOM, "a.zip/a/2": DICOM}


def test_stream_is_left_where_it_was() -> None:
    stream = io.BytesIO(b"xx" + zip_of(("1", DICOM)))
    stream.seek(2)
    assert is_archive(stream)
    assert stream.tell() == 2
    assert not is_archive(DICOM)


def test_large_members_come_whole() -> None:
    large = DICOM + os.urandom(3 << 20)
    assert outcome(zip_of(("1.dcm", large))) == {"a.zip/1.dcm": large}


def test_junk_is_reported_and_the_rest_goes_on() -> None:
    data = zip_of(
        ("Thumbs.db", b"\xd0\xcf\x11\xe0"),
        ("README.TXT", b"Dear colleague"),
        ("__MACOSX/._1.dcm", b"Mac OS X"),
        ("viewer/autorun.inf", b"[autorun]"),
        ("DICOMDIR", DICOM),
        ("inner.zip", zip_of(("1", DICOM))),
        # What is DICOM inside is DICOM, whatever its name; and what has no telling name is for the parser.
        ("image.txt", DICOM),
        ("IM000001", b"?"),
    )
    assert outcome(data) == {
        "a.zip/Thumbs.db": "UNSUPPORTED_FILE",
        "a.zip/README.TXT": "UNSUPPORTED_FILE",
        "a.zip/__MACOSX/._1.dcm": "UNSUPPORTED_FILE",
        "a.zip/viewer/autorun.inf": "UNSUPPORTED_FILE",
        "a.zip/inner.zip": "UNSUPPORTED_FILE",
        "a.zip/image.txt": DICOM,
        "a.zip/IM000001": b"?",
    }


@pytest.mark.parametrize(
    "name",
    [
        "../1.dcm",
        "a/../../1.dcm",
        "/etc/1.dcm",
        "..\\1.dcm",
        "a\\..\\..\\1.dcm",
        "C:\\1.dcm",
        "C:/1.dcm",
        "//host/1",
        "..",
    ],
)
def test_names_that_lead_outside(name: str) -> None:
    found = outcome(zip_of((name, DICOM), ("good.dcm", DICOM)))
    assert list(found.values()) == ["UNSAFE_ARCHIVE", DICOM]


def test_hostile_names_are_shown_harmlessly() -> None:
    found = outcome(zip_of(("a\x1b[31m\nb\u202ec.dcm", DICOM), ("n" * 5000, DICOM)))
    assert list(found.values()) == [DICOM, DICOM]
    assert all(name.isprintable() and len(name) < 400 for name in found)
    assert clean_name("\x00a\r\n") == "�a��"


def test_symbolic_link_in_an_archive() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("1.dcm", DICOM)
    assert outcome(out.getvalue()) == {"a.zip/link": "UNSAFE_ARCHIVE", "a.zip/1.dcm": DICOM}


def test_encrypted_member() -> None:
    data = bytearray(zip_of(("1.dcm", DICOM), ("2.dcm", DICOM)))
    # The flag, in the local header and in the directory.
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert outcome(bytes(data)) == {"a.zip/1.dcm": "UNSUPPORTED_FILE", "a.zip/2.dcm": DICOM}


def test_damaged_member() -> None:
    data = bytearray(zip_of(("1.dcm", DICOM), ("2.dcm", DICOM), method=zipfile.ZIP_STORED))
    data[200] ^= 0xFF
    assert outcome(bytes(data)) == {"a.zip/1.dcm": "INVALID_DICOM", "a.zip/2.dcm": DICOM}


def test_unknown_packing_method() -> None:
    data = bytearray(zip_of(("1.dcm", DICOM)))
    data[8:10] = b"\x63\x00"
    at = data.index(b"PK\x01\x02")
    data[at + 10 : at + 12] = b"\x63\x00"
    assert outcome(bytes(data)) == {"a.zip/1.dcm": "UNSUPPORTED_FILE"}


# --- too much ----------------------------------------------------------------------------------------------


def test_bomb_is_refused_before_anything_is_read() -> None:
    bomb = zip_of(("1.dcm", bytes(40 << 20)))
    assert len(bomb) < 50_000
    with pytest.raises(UnsafeArchive, match=r"^a\.zip would unpack .* as a ZIP bomb does"):
        next(members(bomb, name="a.zip"))


def test_bomb_of_many_files() -> None:
    bomb = zip_of(*((f"{n}.dcm", bytes(1 << 20)) for n in range(40)))
    with pytest.raises(UnsafeArchive):
        next(members(bomb, name="a.zip"))


def test_one_bomb_among_much_else_is_refused_alone() -> None:
    noise = os.urandom(500_000)
    data = zip_of(("1.dcm", bytes(33 << 20)), ("2.dcm", noise))
    assert outcome(data) == {"a.zip/1.dcm": "UNSAFE_ARCHIVE", "a.zip/2.dcm": noise}


def test_a_member_never_yields_more_than_it_says() -> None:
    """The directory says 100 bytes; the packed data hold 1 MB."""
    data = bytearray(zip_of(("1.dcm", DICOM + bytes(1 << 20))))
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 100)
    found = outcome(bytes(data))["a.zip/1.dcm"]
    assert found == "INVALID_DICOM" or len(found) <= 100


@pytest.mark.parametrize(
    "limits", [Limits(members=1), Limits(total_bytes=1000), Limits(members=0)], ids=["members", "bytes", "none"]
)
def test_limits_of_an_archive(limits: Limits) -> None:
    with pytest.raises(TooLarge, match=r"^a\.zip "):
        next(members(zip_of(("1", DICOM), ("2", DICOM)), name="a.zip", limits=limits))


def test_limit_of_a_member() -> None:
    data = zip_of(("1", DICOM), ("2", DICOM + bytes(9)))
    assert outcome(data, Limits(member_bytes=len(DICOM))) == {"a.zip/1": DICOM, "a.zip/2": "TOO_LARGE"}


def test_directory_too_long_to_be_read() -> None:
    """A list of members that would itself fill the memory is refused by its length, not by reading it."""
    data = bytearray(zip_of(("1", DICOM)))
    at = data.index(b"PK\x05\x06")
    data[at + 12 : at + 16] = struct.pack("<I", 0x7FFFFFFF)
    with pytest.raises(TooLarge):
        next(members(bytes(data), name="a.zip"))


@pytest.mark.parametrize("data", [b"PK\x03\x04 no archive", zip_of(("1", DICOM))[:-30], b""])
def test_damaged_archive(data: bytes) -> None:
    with pytest.raises(UnsupportedFile, match=r"^a\.zip is a damaged or cut off ZIP archive"):
        next(members(data, name="a.zip"))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6))
def test_damage_never_raises_anything_else(flips: list[tuple[int, int]]) -> None:
    data = bytearray(zip_of(("a/1.dcm", DICOM), ("b/2.dcm", DICOM)))
    for at, value in flips:
        data[at % len(data)] = value
    try:
        outcome(bytes(data))
    except OverreadError as error:
        assert "a.zip" in error.message


# --- folders -----------------------------------------------------------------------------------------------


def test_folder(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "2.dcm").write_bytes(DICOM)
    (tmp_path / "study" / "1.dcm").write_bytes(DICOM)
    (tmp_path / "study" / "DICOMDIR").write_bytes(DICOM)
    (tmp_path / "more.zip").write_bytes(zip_of(("3.dcm", DICOM), ("notes.txt", b"x")))
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04")
    (tmp_path / "notes.txt").write_bytes(b"x")
    assert outcome(tmp_path) == {
        "broken.zip": "UNSUPPORTED_FILE",
        "more.zip/3.dcm": DICOM,
        "more.zip/notes.txt": "UNSUPPORTED_FILE",
        "notes.txt": "UNSUPPORTED_FILE",
        "study/1.dcm": DICOM,
        "study/2.dcm": DICOM,
    }


def test_links_and_pipes_in_a_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside.dcm"
    inside.mkdir()
    outside.write_bytes(DICOM)
    (inside / "real.dcm").write_bytes(DICOM)
    (inside / "to_real.dcm").symlink_to(inside / "real.dcm")
    (inside / "to_outside.dcm").symlink_to(outside)
    (inside / "to_nothing.dcm").symlink_to(inside / "missing")
    os.mkfifo(inside / "pipe")
    assert outcome(inside) == {
        "pipe": "UNSUPPORTED_FILE",
        "real.dcm": DICOM,
        "to_nothing.dcm": "UNSUPPORTED_FILE",
        "to_outside.dcm": "UNSAFE_ARCHIVE",
        "to_real.dcm": DICOM,
    }


def test_single_paths(tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(DICOM)
    (tmp_path / "a.zip").write_bytes(zip_of(("1.dcm", DICOM)))
    (tmp_path / "link").symlink_to(tmp_path / "1.dcm")
    assert outcome(tmp_path / "1.dcm") == {"1.dcm": DICOM}
    assert outcome(tmp_path / "a.zip") == {"a.zip/1.dcm": DICOM}
    assert outcome(tmp_path / "link") == {"link": DICOM}
    assert outcome(tmp_path / "1.dcm", Limits(member_bytes=10)) == {"1.dcm": "TOO_LARGE"}
    with pytest.raises(UnsupportedFile, match="There is no file or folder"):
        next(unpack(tmp_path / "nowhere"))


def test_file_that_vanishes(tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(DICOM)
    member = next(unpack(tmp_path))
    (tmp_path / "1.dcm").unlink()
    with pytest.raises(UnsupportedFile, match=r"^1\.dcm cannot be read"):
        member.read()
