"""Files out of what somebody handed in: a folder, a ZIP, or one file, each named for messages.

Nothing is ever written to disk, so no name can lead outside a folder; names that try are refused all the same, since an
archive that holds one was not made by an archive program. One file is in memory at a time. What is wrong with one file
is raised by its `read`, and the others go on.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from overread.domain.errors import InvalidDicom, OverreadError, TooLarge, UnsafeArchive, UnsupportedFile


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much one archive may unpack into."""

    members: int = 50_000
    #: Of one file, unpacked.
    member_bytes: int = 1 << 30
    #: Of all files of an archive, unpacked.
    total_bytes: int = 16 << 30
    #: Unpacked bytes for each packed one, where more than `ratio_from_bytes` come out. DICOM has 1 to 5, blank film 50.
    ratio: int = 100
    ratio_from_bytes: int = 32 << 20


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file. `read` returns its bytes or raises the `OverreadError` that says why there are none."""

    #: archive/folder/file, without control characters: for messages, never for opening.
    name: str
    read: Callable[[], bytes]


_LITTER = frozenset({"thumbs.db", ".ds_store", "desktop.ini", "autorun.inf"})
#: What image media carry beside the images: viewers, read-me files.
_OTHER_SUFFIX = re.compile(
    r"\.(7z|bat|bmp|bz2|cfg|chm|css|csv|db|dll|docx?|exe|gif|gz|html?|ico|inf|ini|jar|js|json|lnk|log|md|msi|pdf|plist"
    r"|pptx?|py|rar|rtf|sh|svg|tar|tiff?|toml|txt|url|xlsx?|xml|xsl|ya?ml)"
)
_PICTURE_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_ARCHIVE_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_CHUNK = 1 << 20


def is_archive(source: bytes | memoryview | IO[bytes]) -> bool:
    """Whether `source` begins as a ZIP does. A stream is left where it was."""
    if isinstance(source, bytes | memoryview):
        return bytes(source[:4]) in _ARCHIVE_MAGIC
    position = source.tell()
    head = source.read(4)
    source.seek(position)
    return head in _ARCHIVE_MAGIC


def unpack(path: Path, *, limits: Limits | None = None) -> Iterator[Member]:
    """The files under a folder (by name, ZIPs in it opened), in a ZIP, or the one file.

    DICOMDIR files are left out. Raises `UnsupportedFile` if there is no such path; what is wrong with an
    archive or a file is raised by `Member.read`.
    """
    limits = limits or Limits()
    if path.is_dir():
        yield from _folder(path, limits)
    elif path.exists():
        real = path.resolve()
        yield from _file(real, real.parent, path.name, limits)
    else:
        raise UnsupportedFile(f"There is no file or folder {clean_name(str(path))}.", remedy="Check the path.")


def members(source: bytes | IO[bytes], *, name: str, limits: Limits | None = None) -> Iterator[Member]:
    """The files of a ZIP. Folders and DICOMDIR are left out; an archive inside it is not opened.

    Raises `UnsafeArchive` for a bomb, `TooLarge` for more or larger files than allowed and `UnsupportedFile` for a ZIP
    that cannot be opened, all before the first member. Read each member before asking for the next.
    """
    limits = limits or Limits()
    name = clean_name(name)
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    size = stream.seek(0, io.SEEK_END)
    _check_directory(stream, size, name, limits)
    stream.seek(0)
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, ValueError, OSError, struct.error, NotImplementedError) as error:
        raise UnsupportedFile(
            f"{name} is a damaged or cut off ZIP archive ({error}).", remedy="Make the archive again.", file=name
        ) from error
    with archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        _check_sizes(infos, size, name, limits)
        for info in infos:
            if _base_name(info.filename) != "DICOMDIR":
                yield Member(
                    name=f"{name}/{clean_name(info.filename)}", read=partial(_read, archive, info, name, limits)
                )


def clean_name(name: str) -> str:
    """A file's name without control characters, at most 300 long: fit for a message, a log, a page."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return shown if len(shown) <= 300 else f"{shown[:140]}…{shown[-140:]}"


# --- archives ----------------------------------------------------------------------------------------------


def _check_directory(stream: IO[bytes], size: int, name: str, limits: Limits) -> None:
    """Refuse a list of members that would itself fill the memory, before zipfile reads it all."""
    tail_size = min(size, 65_557)
    stream.seek(size - tail_size)
    tail = stream.read(tail_size)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        return
    entries, directory_bytes = struct.unpack_from("<HI", tail, at + 10)
    zip64 = tail.rfind(b"PK\x06\x06", 0, at)
    if zip64 >= 0 and zip64 + 56 <= len(tail):
        entries, directory_bytes = struct.unpack_from("<QQ", tail, zip64 + 32)
    if entries > limits.members or directory_bytes > limits.members * 512:
        raise TooLarge(
            f"{name} holds {entries:,} files; at most {limits.members:,} are taken from one archive.",
            remedy="Send it in several archives.",
            file=name,
        )


def _check_sizes(infos: list[zipfile.ZipInfo], size: int, name: str, limits: Limits) -> None:
    """Hold what the archive says that it unpacks into against the limits. zipfile never yields more than it says."""
    total = sum(info.file_size for info in infos)
    if len(infos) > limits.members:
        raise TooLarge(
            f"{name} holds {len(infos):,} files; at most {limits.members:,} are taken from one archive.",
            remedy="Send it in several archives.",
            file=name,
        )
    if total > limits.ratio_from_bytes and total > limits.ratio * max(size, 1):
        raise UnsafeArchive(
            f"{name} would unpack {size:,} bytes into {total:,}, as a ZIP bomb does; nothing of it was read.",
            remedy="Make the archive again from the original files.",
            file=name,
        )
    if total > limits.total_bytes:
        raise TooLarge(
            f"{name} would unpack into {total:,} bytes; at most {limits.total_bytes:,} are taken from one archive.",
            remedy="Send it in several archives.",
            file=name,
        )


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, archive_name: str, limits: Limits) -> bytes:
    name = f"{archive_name}/{clean_name(info.filename)}"
    if (problem := _member_problem(info, name, limits)) is not None:
        raise problem
    try:
        with archive.open(info) as stream:
            head = stream.read(_CHUNK)
            _check_kind(name, head)
            rest = stream.read(limits.member_bytes) if len(head) == _CHUNK else b""
            return head + rest
    except OverreadError:
        raise
    except NotImplementedError as error:
        raise UnsupportedFile(
            f"{name} is packed by a method that cannot be read ({error}).",
            remedy="Make the archive again with the usual method, deflate.",
            file=name,
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, struct.error) as error:
        raise InvalidDicom(
            f"{name} is damaged in its archive ({error}).", remedy="Make the archive again.", file=name
        ) from error


def _member_problem(info: zipfile.ZipInfo, name: str, limits: Limits) -> OverreadError | None:
    """Why a member is refused before a byte of it is read."""
    parts = info.filename.replace("\\", "/").split("/")
    mode = info.external_attr >> 16
    if ".." in parts or parts[0] == "" or (len(parts[0]) == 2 and parts[0][1] == ":"):
        return UnsafeArchive(
            f"{name} has a name that leads out of the archive's folder; it was not read.",
            remedy="Make the archive again with plain relative names.",
            file=name,
        )
    if stat.S_ISLNK(mode):
        return UnsafeArchive(
            f"{name} is a symbolic link; it was not followed.", remedy="Put the file itself in the archive.", file=name
        )
    if info.flag_bits & 0x1:
        return UnsupportedFile(
            f"{name} is encrypted in its archive.", remedy="Send it without a password, over TLS.", file=name
        )
    packed = max(info.compress_size, 1)
    if info.file_size > limits.ratio_from_bytes and info.file_size > limits.ratio * packed:
        return UnsafeArchive(
            f"{name} would unpack {packed:,} bytes into {info.file_size:,}, as a ZIP bomb does; it was not read.",
            remedy="Make the archive again from the original files.",
            file=name,
        )
    if info.file_size > limits.member_bytes:
        return _too_large(name, info.file_size, limits)
    return None


def _too_large(name: str, size: int, limits: Limits) -> TooLarge:
    return TooLarge(
        f"{name} has {size:,} bytes; a file may have {limits.member_bytes:,}.",
        remedy="Send it compressed, or in several instances.",
        file=name,
    )


# --- folders -----------------------------------------------------------------------------------------------


def _folder(root: Path, limits: Limits) -> Iterator[Member]:
    real_root = root.resolve()
    for folder, folders, files in os.walk(root):
        folders.sort()
        for file in sorted(files):
            path = Path(folder, file)
            yield from _file(path, real_root, clean_name(str(path.relative_to(root))), limits)


def _file(path: Path, root: Path, name: str, limits: Limits) -> Iterator[Member]:
    """The file at `path`, or what is in it if it is a ZIP."""
    if path.name == "DICOMDIR":
        return
    name = clean_name(name)
    problem = _file_problem(path, root, name, limits)
    if problem is None:
        try:
            with path.open("rb") as stream:
                if is_archive(stream):
                    yield from members(stream, name=name, limits=limits)
                    return
        except OSError as error:
            problem = UnsupportedFile(
                f"{name} cannot be read ({error.strerror}).", remedy="Check its permissions.", file=name
            )
        except OverreadError as error:
            problem = error
    yield Member(name=name, read=partial(_read_file, path, name, problem))


def _file_problem(path: Path, root: Path, name: str, limits: Limits) -> OverreadError | None:
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            return UnsafeArchive(
                f"{name} is a symbolic link to a file outside the folder; it was not followed.",
                remedy="Put the file itself in the folder.",
                file=name,
            )
        status = path.stat()
    except (OSError, RuntimeError) as error:
        return UnsupportedFile(f"{name} cannot be read ({error}).", remedy="Check the file.", file=name)
    if not stat.S_ISREG(status.st_mode):
        return UnsupportedFile(f"{name} is no regular file.", remedy="Leave it out.", file=name)
    return _too_large(name, status.st_size, limits) if status.st_size > limits.member_bytes else None


def _read_file(path: Path, name: str, problem: OverreadError | None) -> bytes:
    if problem is not None:
        raise problem
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnsupportedFile(
            f"{name} cannot be read ({error.strerror}).", remedy="Check its permissions.", file=name
        ) from error
    _check_kind(name, data)
    return data


def _check_kind(name: str, head: bytes) -> None:
    """Refuse what is surely no image, by its content first and its name second. The rest is for the DICOM parser."""
    if head[128:132] == b"DICM" or head.startswith(_PICTURE_MAGIC):
        return
    base = _base_name(name).lower()
    if head[:4] in _ARCHIVE_MAGIC:
        raise UnsupportedFile(
            f"{name} is an archive inside an archive; it was not opened.",
            remedy="Unpack it and send it by itself.",
            file=name,
        )
    is_other = _OTHER_SUFFIX.fullmatch(base, base.rfind(".")) if "." in base else None
    if base in _LITTER or base.startswith("._") or "__MACOSX/" in name or is_other:
        raise UnsupportedFile(
            f"{name} is no DICOM file and was left out.",
            remedy="Nothing needs to be done unless an image was expected under this name.",
            file=name,
            left_out=True,
        )


def _base_name(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]
