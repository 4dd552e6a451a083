"""Messages to and from a decoder process: JSON and raw bytes, so that a decoder taken over stays harmless."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import IO, Any

_HEAD = struct.Struct("<IQ")
_MAX_HEAD = 1 << 16


def write_message(stream: IO[bytes], head: Mapping[str, Any], body: bytes | memoryview) -> None:
    """A length of the head (4 bytes), a length of the body (8), the head as JSON, the body."""
    encoded = json.dumps(head).encode()
    stream.write(_HEAD.pack(len(encoded), len(body)) + encoded)
    stream.write(body)
    stream.flush()


def read_message(stream: IO[bytes], limit: int) -> tuple[dict[str, Any], bytes]:
    """The other side of `write_message`; at most `limit` bytes of body.

    Raises `EOFError` if the other side is gone or says more than that, `ValueError` if it makes no sense.
    """
    head_size, body_size = _HEAD.unpack(_exactly(stream, _HEAD.size))
    if head_size > _MAX_HEAD or body_size > limit:
        raise EOFError("the other side talks nonsense")
    head: dict[str, Any] = json.loads(_exactly(stream, head_size))
    return head, _exactly(stream, body_size)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError("the other side is gone")
    return data
