"""C-STORE messages as bytes: the request's command set, the answer to it, and the file meta information.

PS3.7 6.3 (a command set is Implicit VR Little Endian), 9.3.1 (C-STORE) and E.1; PS3.8 9.3.5 (P-DATA-TF);
PS3.10 7.1 (file meta information, Explicit VR Little Endian).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

#: Implementation Class UID (0002,0012): ours, made once from a random UUID (PS3.5 B.2).
IMPLEMENTATION_CLASS_UID: Final = "2.25.290377951625343778907467059638718447162"
#: Implementation Version Name (0002,0013), at most 16 characters.
IMPLEMENTATION_VERSION_NAME: Final = f"OVERREAD_{version('overread')}"[:16]

SUCCESS: Final = 0x0000

_C_STORE_RQ: Final = 0x0001
_NO_DATA_SET: Final = 0x0101
_ELEMENT: Final = struct.Struct("<HHL")


@dataclass(frozen=True, kw_only=True)
class StoreRequest:
    """What a C-STORE-RQ says besides its data set."""

    context_id: int
    #: Of the accepted presentation context: how the data set is encoded.
    transfer_syntax_uid: str
    #: MessageID (0000,0110).
    message_id: int
    #: AffectedSOPClassUID (0000,0002) and AffectedSOPInstanceUID (0000,1000).
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer to a C-STORE-RQ."""

    #: Status (0000,0900).
    status: int
    #: ErrorComment (0000,0902): at most 64 ASCII characters, never a patient's data.
    comment: str = ""


def command_of(command: bytes, *, context_id: int, transfer_syntax_uid: str) -> StoreRequest | None:
    """The request that a whole command set makes; None if it is not a well-formed C-STORE-RQ with a data set."""
    values: dict[int, bytes] = {}
    at = 0
    while at + 8 <= len(command):
        group, element, length = _ELEMENT.unpack_from(command, at)
        at += 8
        if group != 0 or at + length > len(command):
            return None
        values[element] = command[at : at + length]
        at += length
    if at != len(command) or any(len(values.get(e, b"")) != 2 for e in (0x0100, 0x0110, 0x0800)):
        return None
    if _us(values[0x0100]) != _C_STORE_RQ or _us(values[0x0800]) == _NO_DATA_SET:
        return None
    sop_class, sop_instance = _uid(values.get(0x0002, b"")), _uid(values.get(0x1000, b""))
    if not sop_class or not sop_instance:
        return None
    return StoreRequest(
        context_id=context_id,
        transfer_syntax_uid=transfer_syntax_uid,
        message_id=_us(values[0x0110]),
        sop_class_uid=sop_class,
        sop_instance_uid=sop_instance,
    )


def response(request: StoreRequest, verdict: Verdict, *, maximum: int) -> Iterator[bytes]:
    """The C-STORE-RSP as P-DATA-TF PDUs of at most `maximum` bytes (0: no limit) after their header."""
    elements = [
        _element(0x0002, _even(request.sop_class_uid, b"\0")),
        _element(0x0100, struct.pack("<H", 0x8001)),
        _element(0x0120, struct.pack("<H", request.message_id)),
        _element(0x0800, struct.pack("<H", _NO_DATA_SET)),
        _element(0x0900, struct.pack("<H", verdict.status)),
    ]
    if verdict.comment:
        comment = verdict.comment.replace("\\", "/").encode("ascii", "replace")[:64].decode()
        elements.append(_element(0x0902, _even(comment, b" ")))
    elements.append(_element(0x1000, _even(request.sop_instance_uid, b"\0")))
    body = b"".join(elements)
    command = _element(0x0000, struct.pack("<L", len(body))) + body
    step = max(maximum - 6, 1) if maximum else len(command)
    for at in range(0, len(command), step):
        part = command[at : at + step]
        control = 0b11 if at + step >= len(command) else 0b01
        yield struct.pack(">BBLLBB", 0x04, 0, len(part) + 6, len(part) + 2, request.context_id, control) + part


def file_meta(request: StoreRequest) -> bytes:
    """Preamble, prefix and file meta information of the file that the data set becomes.

    No AE titles (0002,0016-0018): the same instance from two senders makes the same file.
    """
    body = b"".join(
        (
            b"\x02\x00\x01\x00OB\0\0\x02\x00\x00\x00\x00\x01",
            _meta(0x0002, b"UI", _even(request.sop_class_uid, b"\0")),
            _meta(0x0003, b"UI", _even(request.sop_instance_uid, b"\0")),
            _meta(0x0010, b"UI", _even(request.transfer_syntax_uid, b"\0")),
            _meta(0x0012, b"UI", _even(IMPLEMENTATION_CLASS_UID, b"\0")),
            _meta(0x0013, b"SH", _even(IMPLEMENTATION_VERSION_NAME, b" ")),
        )
    )
    return bytes(128) + b"DICM" + _meta(0x0000, b"UL", struct.pack("<L", len(body))) + body


def _us(value: bytes) -> int:
    return int.from_bytes(value, "little")


def _uid(value: bytes) -> str | None:
    """A UID as text, padding removed; None if it is not one that can stand in a file name or a log line."""
    text = value.rstrip(b"\0 ")
    if not 0 < len(text) <= 64 or not set(text) <= _UID_BYTES:
        return None
    return text.decode("ascii")


_UID_BYTES: Final = frozenset(b"0123456789.")


def _even(text: str, padding: bytes) -> bytes:
    raw = text.encode("ascii")
    return raw + padding if len(raw) % 2 else raw


def _element(element: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, element, len(value)) + value


def _meta(element: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value
