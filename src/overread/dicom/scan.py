"""Where the elements of a DICOM file lie: a bounded walk over its bytes that converts nothing.

Why not `pydicom.dcmread` here: it inflates without a limit, follows nested sequences by recursion, takes a header that
is cut off in mid-element for a short one, and its warnings are global. Every byte of a stranger goes through this walk
first; it touches each element once (about 0.1 ms for a CT header), allocates nothing that a length field asks for,
and names what is wrong. Text is left to `text`, pixels to `pixels`, both on pydicom.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from overread.dicom.text import clean
from overread.domain.errors import InvalidDicom, PixelDataMismatch, TooLarge

#: A deflated data set that inflates to more than this is refused.
MAX_INFLATED_BYTES = 1 << 29
#: Sequences within sequences; real files stay below ten.
MAX_DEPTH = 64

DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95"})
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

PIXEL_DATA = 0x7FE00010
#: FloatPixelData, DoubleFloatPixelData, PixelData.
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, PIXEL_DATA})

_UNDEFINED = 0xFFFFFFFF
_SOP_CLASS = 0x00080016
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VR = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SEND_AGAIN = "Export or send it again from its source."
_OTHER_KINDS = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"%PDF", "a PDF document"),
    (b"GIF8", "a GIF picture"),
    (b"\x1f\x8b", "a gzip file"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
)


@dataclass(frozen=True, slots=True)
class Syntax:
    """How the bytes of a data set read."""

    explicit: bool
    little: bool


#: VR (None where implicit), first byte of the value, byte after it; of an undefined length, after its delimiter.
Span = tuple[bytes | None, int, int]


@dataclass(frozen=True, kw_only=True)
class ScannedFile:
    """The elements of one file. Offsets are into `body`: the file, or the inflated data set of a deflated one."""

    name: str
    body: bytes | memoryview
    syntax: Syntax
    #: (0002,0010), or what the data set reads like where there is none.
    transfer_syntax_uid: str
    meta: dict[int, Span]
    #: The file's own bytes, where `meta` lies.
    file: bytes | memoryview
    elements: dict[int, Span]
    #: First byte of the data set.
    start: int
    pixel_tag: int | None


def scan(data: bytes | memoryview, name: str) -> ScannedFile:
    """Find the elements of a DICOM file, up to and including its pixels.

    Raises `InvalidDicom` (empty, not DICOM, cut off, broken sequence), `PixelDataMismatch` (the pixels are cut off) and
    `TooLarge` (inflates beyond `MAX_INFLATED_BYTES`).
    """
    if len(data) == 0:
        raise InvalidDicom(f"{name} is empty (0 bytes).", remedy=_SEND_AGAIN, file=name)
    has_preamble = bytes(data[128:132]) == b"DICM"
    walker = _Walker(data, name, has_preamble)
    start = 132 if has_preamble else 4 if bytes(data[:4]) == b"DICM" else 0
    if not has_preamble and start == 0:
        _refuse_other_kinds(bytes(data[:8]), name)
    meta: dict[int, Span] = {}
    if len(data) >= start + 8 and bytes(data[start : start + 2]) == b"\x02\x00":
        start = walker.walk(meta, start, Syntax(True, True), meta_only=True)
    certain = walker.certain = walker.certain or bool(meta)
    uid = _ascii(data, meta.get(0x00020010))
    body = data
    if uid in DEFLATED:
        body = _inflate(data, start, name)
        start = 0
        walker = _Walker(body, name, certain)
    syntax = _syntax_of(uid, body, start)
    elements: dict[int, Span] = {}
    walker.walk(elements, start, syntax)
    if not elements or (_SOP_CLASS not in elements and not certain):
        raise walker.error("has a DICOM head and no data set")
    if not uid:
        uid = (EXPLICIT_LITTLE if syntax.explicit else IMPLICIT_LITTLE) if syntax.little else EXPLICIT_BIG
    return ScannedFile(
        name=name,
        body=body,
        syntax=syntax,
        transfer_syntax_uid=uid,
        meta=meta,
        file=data,
        elements=elements,
        start=start,
        pixel_tag=next((tag for tag in PIXEL_TAGS if tag in elements), None),
    )


def meta_text(file: ScannedFile, tag: int) -> str:
    """A value of the file meta information (group 0002), "" if missing."""
    return _ascii(file.file, file.meta.get(tag))


def scan_items(file: ScannedFile, span: Span, limit: int) -> list[tuple[dict[int, Span], Syntax]]:
    """The first `limit` items of a sequence, each with its elements. What is broken ends the list, not the file."""
    vr, position, end = span
    syntax = file.syntax if vr != b"UN" else Syntax(False, True)
    order = "<" if syntax.little else ">"
    walker = _Walker(file.body, file.name, True)
    items: list[tuple[dict[int, Span], Syntax]] = []
    while position + 8 <= end and len(items) < limit:
        tag, length = _tag_and_length(file.body, position, order)
        if tag != _ITEM:
            break
        try:
            stop = walker.skip_item(position, syntax) if length == _UNDEFINED else position + 8 + length
            if stop > end:
                break
            found: dict[int, Span] = {}
            walker.walk(found, position + 8, _syntax_of("", file.body, position + 8, syntax), end=stop)
        except InvalidDicom:
            break
        items.append((found, syntax))
        position = stop
    return items


class _Walker:
    """Walks over the elements of one buffer."""

    def __init__(self, buffer: bytes | memoryview, name: str, certain: bool) -> None:
        self.buffer = buffer
        self.name = name
        #: Whether we know already that this is DICOM: an error is then "cut off" or "broken", else "not DICOM".
        self.certain = certain

    def error(self, what: str, tag: int | None = None) -> InvalidDicom:
        if not self.certain:
            return InvalidDicom(
                f"{self.name} is not DICOM: no DICM at byte 128, and its first bytes are no data set.",
                remedy="Send a DICOM Part 10 file, a ZIP of such files, or a PNG or JPEG picture.",
                file=self.name,
            )
        where = "" if tag is None else f" at element {_tag_text(tag)}"
        return InvalidDicom(f"{self.name} {what}{where}.", remedy=_SEND_AGAIN, file=self.name)

    def walk(
        self,
        found: dict[int, Span],
        position: int,
        syntax: Syntax,
        *,
        end: int | None = None,
        meta_only: bool = False,
    ) -> int:
        """Collect elements into `found` until the pixels or the end; returns where it stopped."""
        buffer = self.buffer
        end = len(buffer) if end is None else min(end, len(buffer))
        while position + 8 <= end:
            tag, vr, value, length = self.element(position, syntax)
            if meta_only and tag >> 16 != 2:
                return position
            if tag in (_ITEM_END, _SEQUENCE_END):
                position += 8
                continue
            if length == _UNDEFINED:
                stop = self.skip_undefined(value, tag, Syntax(False, True) if vr == b"UN" else syntax)
            else:
                stop = value + length
                if stop > end:
                    raise self.cut_off(tag, length, end - value)
            if tag == _SOP_CLASS:
                self.certain = True
            found[tag] = (vr, value, stop)
            position = stop
            if tag in PIXEL_TAGS:
                return position
        if 0 < end - position < 8 and any(buffer[position:end]):
            raise self.error(f"is cut off: {end - position} bytes remain after its last element")
        return position

    def cut_off(self, tag: int, length: int, there: int) -> InvalidDicom:
        """The error for an element that declares more bytes than the file still has."""
        if tag in PIXEL_TAGS and self.certain:
            return PixelDataMismatch(
                f"{self.name} is cut off in its pixels: PixelData (7FE0,0010) declares {length:,} bytes and the file "
                f"holds {max(there, 0):,} of them.",
                remedy=_SEND_AGAIN,
                file=self.name,
                declared_bytes=length,
                actual_bytes=max(there, 0),
            )
        return self.error(f"is cut off or damaged: {length:,} bytes declared and {max(there, 0):,} left", tag)

    def element(self, position: int, syntax: Syntax) -> tuple[int, bytes | None, int, int]:
        """(tag, VR or None, first byte of the value, length) of the element at `position`."""
        buffer = self.buffer
        order = "<" if syntax.little else ">"
        tag, length = _tag_and_length(buffer, position, order)
        if not syntax.explicit or tag >> 16 == 0xFFFE:
            return tag, None, position + 8, length
        vr = bytes(buffer[position + 4 : position + 6])
        if not (vr.isalpha() and vr.isupper()):
            return tag, None, position + 8, length
        if vr in _LONG_VR:
            if position + 12 > len(buffer):
                raise self.error("is cut off", tag)
            (length,) = struct.unpack_from(order + "I", buffer, position + 8)
            return tag, vr, position + 12, length
        (length,) = struct.unpack_from(order + "H", buffer, position + 6)
        return tag, vr, position + 8, length

    def skip_item(self, position: int, syntax: Syntax) -> int:
        """Where the item of undefined length at `position` ends, after its delimiter."""
        return self._skip(position + 8, _ITEM, [("item", syntax)])

    def skip_undefined(self, position: int, tag: int, syntax: Syntax) -> int:
        """Where a sequence or encapsulated pixels of undefined length end, after their delimiter."""
        return self._skip(position, tag, [("sequence", syntax)])

    def _skip(self, position: int, tag: int, open_: list[tuple[str, Syntax]]) -> int:
        buffer, end = self.buffer, len(self.buffer)
        while open_:
            kind, syntax = open_[-1]
            if position + 8 > end:
                if tag in PIXEL_TAGS and self.certain:
                    raise PixelDataMismatch(
                        f"{self.name} is cut off in its pixels: the end of the compressed PixelData (7FE0,0010) is "
                        "missing.",
                        remedy=_SEND_AGAIN,
                        file=self.name,
                    )
                raise self.error("is cut off in a sequence", tag)
            if kind == "sequence":
                inner, length = _tag_and_length(buffer, position, "<" if syntax.little else ">")
                value, vr = position + 8, None
                if inner == _SEQUENCE_END:
                    open_.pop()
                elif inner == _ITEM and length == _UNDEFINED:
                    open_.append(("item", syntax))
                elif inner not in (_ITEM, _ITEM_END):
                    raise self.error(f"has a broken sequence ({_tag_text(inner)} where an item is expected)", tag)
            else:
                inner, vr, value, length = self.element(position, syntax)
                if inner == _ITEM_END:
                    open_.pop()
                elif inner == _SEQUENCE_END:
                    # A sequence that forgot to close its last item.
                    open_[-2:] = []
                elif length == _UNDEFINED:
                    open_.append(("sequence", Syntax(False, True) if vr == b"UN" else syntax))
            if inner in (_ITEM_END, _SEQUENCE_END) or length == _UNDEFINED:
                position = value
            elif value + length > end:
                raise self.cut_off(tag if tag in PIXEL_TAGS else inner, length, end - value)
            else:
                position = value + length
            if len(open_) > 2 * MAX_DEPTH:
                raise self.error(f"has sequences nested more than {MAX_DEPTH} deep", tag)
        return position


def _tag_and_length(buffer: bytes | memoryview, position: int, order: str) -> tuple[int, int]:
    group, element, length = struct.unpack_from(order + "HHI", buffer, position)
    return group << 16 | element, length


def _tag_text(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _ascii(data: bytes | memoryview, span: Span | None) -> str:
    if span is None:
        return ""
    return clean(bytes(data[span[1] : span[2]]).decode("ascii", "replace"))


def _syntax_of(uid: str, body: bytes | memoryview, start: int, default: Syntax | None = None) -> Syntax:
    """How the data set reads: as its transfer syntax says, unless its first element visibly says otherwise."""
    declared = default or Syntax(uid != IMPLICIT_LITTLE, uid != EXPLICIT_BIG)
    if len(body) < start + 8:
        return declared
    head = bytes(body[start : start + 8])
    vr = head[4:6]
    explicit = vr.isalpha() and vr.isupper()
    if default is not None:
        return Syntax(explicit, default.little)
    little = declared.little
    # Group numbers of a first element are small: 0008 read with the wrong byte order is 0800.
    if explicit or not uid:
        as_little, as_big = struct.unpack("<H", head[:2])[0], struct.unpack(">H", head[:2])[0]
        if as_little > 0xFF >= as_big and as_big > 0:
            little = False
        elif as_big > 0xFF >= as_little:
            little = True
    return Syntax(explicit, little)


def _inflate(data: bytes | memoryview, start: int, name: str) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = inflater.decompress(data[start:], MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise InvalidDicom(
            f"{name} is damaged: its deflated data set cannot be inflated ({error}).", remedy=_SEND_AGAIN, file=name
        ) from error
    if inflater.unconsumed_tail:
        raise TooLarge(
            f"{name} inflates to more than {MAX_INFLATED_BYTES:,} bytes.",
            remedy="Send it uncompressed, or in several instances.",
            file=name,
        )
    if not inflater.eof:
        raise InvalidDicom(f"{name} is cut off in its deflated data set.", remedy=_SEND_AGAIN, file=name)
    return body


def _refuse_other_kinds(head: bytes, name: str) -> None:
    for magic, kind in _OTHER_KINDS:
        if head.startswith(magic):
            raise InvalidDicom(
                f"{name} is {kind}, not DICOM.", remedy="Send the study's DICOM files, or a ZIP of them.", file=name
            )
