"""Typed values of the elements that `scan` found. A value that cannot be read is None or empty, never an error."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone

from overread.dicom import text
from overread.dicom.scan import ScannedFile, Span, Syntax, scan_items

_BINARY = {
    b"US": ("H", 2),
    b"SS": ("h", 2),
    b"UL": ("I", 4),
    b"SL": ("i", 4),
    b"FL": ("f", 4),
    b"FD": ("d", 8),
    b"UV": ("Q", 8),
    b"SV": ("q", 8),
}
_TEXT_NUMBERS = frozenset({b"IS", b"DS", b"LO", b"SH", b"CS"})
_TIME = re.compile(r"(\d{2}):?(\d{2})?:?(\d{2})?(?:\.(\d{1,6}))?")
_OFFSET = re.compile(r"([+-])(\d{2})(\d{2})")
#: DICOM allows 64 characters a component of what is read here. A longer value is cut, so that none is too long for a
#: database's index.
_MAX_TEXT = 256
_MAX_TEXT_BYTES = 16 * _MAX_TEXT


class Attributes:
    """The attributes of a file, or of one item of a sequence in it."""

    def __init__(
        self, file: ScannedFile, elements: Mapping[int, Span] | None = None, syntax: Syntax | None = None
    ) -> None:
        self._file = file
        self._elements = file.elements if elements is None else elements
        self._syntax = syntax or file.syntax
        charset = file.elements.get(0x00080005)
        names = (
            bytes(file.body[charset[1] : charset[2]]).decode("ascii", "replace").strip("\x00 ").split("\\")
            if charset
            else []
        )
        self._encodings = text.encodings_of(names)

    def __contains__(self, tag: int) -> bool:
        return tag in self._elements

    def vr(self, tag: int) -> bytes | None:
        """The VR as written; None where the transfer syntax is implicit or the element missing."""
        span = self._elements.get(tag)
        return span[0] if span else None

    @property
    def little(self) -> bool:
        """Whether numbers are little endian."""
        return self._syntax.little

    def raw(self, tag: int) -> bytes:
        """The value's bytes; empty if missing."""
        span = self._elements.get(tag)
        return bytes(self._file.body[span[1] : span[2]]) if span else b""

    def view(self, tag: int) -> memoryview:
        """The value's bytes without a copy; empty if missing."""
        span = self._elements.get(tag)
        return memoryview(self._file.body)[span[1] : span[2]] if span else memoryview(b"")

    def text(self, tag: int) -> str:
        """The whole value as clean text of at most 256 characters; "" if missing."""
        raw = self.raw(tag)
        return text.clean(text.decode(raw[:_MAX_TEXT_BYTES], self._encodings))[:_MAX_TEXT].rstrip() if raw else ""

    def texts(self, tag: int) -> tuple[str, ...]:
        """The backslash-separated values as clean text, upper case as code strings are."""
        whole = self.text(tag)
        return tuple(value.strip().upper() for value in whole.split("\\")) if whole else ()

    def numbers(self, tag: int, kind: bytes = b"US") -> tuple[float, ...]:
        """All finite numbers of the value. `kind` is the VR to assume where none with numbers is written."""
        span = self._elements.get(tag)
        if span is None:
            return ()
        vr = span[0] if span[0] in _BINARY or span[0] in _TEXT_NUMBERS else kind
        raw = self.raw(tag)
        if vr in _BINARY:
            code, size = _BINARY[vr]
            count = min(len(raw) // size, 4096)
            values = struct.unpack(f"{'<' if self.little else '>'}{count}{code}", raw[: count * size])
        else:
            values = tuple(_number(part) for part in raw[:_MAX_TEXT_BYTES].decode("latin-1").split("\\"))
        return tuple(value for value in values if value is not None and math.isfinite(value))

    def number(self, tag: int, kind: bytes = b"DS") -> float | None:
        """The first number, or None."""
        values = self.numbers(tag, kind)
        return values[0] if values else None

    def integer(self, tag: int, kind: bytes = b"US") -> int | None:
        """The first number as an integer, or None; also where it exceeds 32 bits."""
        value = self.number(tag, kind)
        return int(value) if value is not None and abs(value) < 2**31 else None

    def date(self, tag: int) -> date | None:
        """A DA: YYYYMMDD, or the old YYYY.MM.DD."""
        digits = self.text(tag).replace(".", "").replace("-", "")[:8]
        if len(digits) != 8 or not (digits.isascii() and digits.isdigit()):
            return None
        try:
            return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
        except ValueError:
            return None

    def moment(self, date_tag: int, time_tag: int) -> datetime | None:
        """A DA and a TM as one aware moment in UTC. Without TimezoneOffsetFromUTC (0008,0201), UTC is assumed."""
        day = self.date(date_tag)
        if day is None:
            return None
        clock = _TIME.match(self.text(time_tag))
        hour, minute, second, fraction = clock.groups() if clock else (None, None, None, None)
        offset = _OFFSET.fullmatch(self.text(0x00080201))
        zone = UTC
        try:
            if offset:
                shift = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
                zone = timezone(-shift if offset[1] == "-" else shift)
            return datetime(
                day.year,
                day.month,
                day.day,
                int(hour or 0),
                int(minute or 0),
                min(int(second or 0), 59),
                int((fraction or "0").ljust(6, "0")),
                tzinfo=zone,
            ).astimezone(UTC)
        except (ValueError, OverflowError):
            return datetime(day.year, day.month, day.day, tzinfo=UTC)

    def items(self, tag: int, limit: int = 1) -> list[Attributes]:
        """The first `limit` items of a sequence; empty if there are none."""
        span = self._elements.get(tag)
        if span is None:
            return []
        return [Attributes(self._file, found, syntax) for found, syntax in scan_items(self._file, span, limit)]


def _number(part: str) -> float | None:
    try:
        return float(part.strip("\x00 \t").replace(",", "."))
    except ValueError:
        return None
