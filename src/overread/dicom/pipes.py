"""Messages to and from a process that reads untrusted pixels: JSON and bytes, so that one taken over is harmless."""

from __future__ import annotations

import json
import os
import resource
import struct
import warnings
from collections.abc import Mapping
from typing import IO, Any

_HEAD = struct.Struct("<IQ")
_MAX_HEAD = 1 << 16


def become_child(memory_limit: int) -> IO[bytes]:
    """Take the memory limit (bytes of address space); where the replies go.

    What libraries print goes nowhere: it is neither asked for nor clean.
    """
    for limit, value in ((resource.RLIMIT_AS, memory_limit), (resource.RLIMIT_CORE, 0)):
        try:
            resource.setrlimit(limit, (value, value))
        except (ValueError, OSError):
            # A system without this limit, or with a lower one.
            continue
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    return replies


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
