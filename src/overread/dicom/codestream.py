"""The size that a compressed frame gives itself, from its first bytes."""

from __future__ import annotations

import struct

#: Start-of-frame markers of JPEG (ITU-T T.81 table B.1) and of JPEG-LS (T.87).
_SOF = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_J2K = b"\xff\x4f\xff\x51"


def frame_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K codestream; None if it does not say (RLE, damaged)."""
    if frame[:2] == b"\xff\xd8":
        return _jpeg_size(frame)
    if frame[:4] == _J2K:
        return _j2k_size(frame, 4)
    if frame[4:8] == b"jP  " and (at := frame.find(_J2K, 0, 4096)) >= 0:
        return _j2k_size(frame, at + 4)
    return None


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(frame):
        if frame[position] != 0xFF:
            return None
        marker = frame[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _STANDALONE:
            position += 2
        elif marker in _SOF:
            rows, columns = struct.unpack_from(">HH", frame, position + 5)
            return (rows, columns) if rows else None
        else:
            position += 2 + struct.unpack_from(">H", frame, position + 2)[0]
    return None


def _j2k_size(frame: bytes, at: int) -> tuple[int, int] | None:
    # Lsiz, Rsiz (2 bytes each), Xsiz, Ysiz, XOsiz, YOsiz (ITU-T T.800 A.5.1).
    if len(frame) < at + 20:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", frame, at + 4)
    return bottom - top, right - left
