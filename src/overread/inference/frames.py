"""What goes through the pipe between a worker and its model host: a JSON header and arrays, length-prefixed.

Layout: magic (4 bytes), length of the header (uint32, little endian), header (UTF-8 JSON), then the bytes of each array
that the header lists, one after the other, C order, little endian.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PREFIX = struct.Struct("<4sI")
_MAGIC = b"ORM1"
_MOST_HEADER = 1 << 20
#: An array larger than this is a broken or hostile peer (float32, 1 GiB).
_MOST_ARRAY = 1 << 30
_DTYPES = frozenset({"float32", "uint8"})

Arrays = Mapping[str, NDArray[Any]]
#: Takes a number of bytes and returns exactly as many; raises EOFError at the end.
Read = Callable[[int], bytes]


class BrokenFrame(Exception):
    """The other side sent something that is no frame."""


def pack(header: Mapping[str, Any], arrays: Arrays) -> list[bytes | memoryview]:
    """The pieces to write for one frame."""
    listed, bodies = [], []
    for name, array in arrays.items():
        whole = np.ascontiguousarray(array)
        listed.append({"name": name, "dtype": whole.dtype.name, "shape": whole.shape})
        bodies.append(whole.reshape(-1).view(np.uint8).data)
    text = json.dumps({**header, "arrays": listed}).encode()
    return [_PREFIX.pack(_MAGIC, len(text)), text, *bodies]


def unpack(read: Read) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The next frame. Raises EOFError or `BrokenFrame`."""
    magic, length = _PREFIX.unpack(read(_PREFIX.size))
    if magic != _MAGIC or length > _MOST_HEADER:
        raise BrokenFrame("no frame")
    try:
        header = json.loads(read(length))
        arrays = {}
        for item in header.pop("arrays"):
            dtype, shape = str(item["dtype"]), tuple(int(n) for n in item["shape"])
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            if dtype not in _DTYPES or min(shape, default=0) < 0 or size > _MOST_ARRAY:
                raise BrokenFrame(f"an array of {dtype} {shape}")
            arrays[str(item["name"])] = np.frombuffer(read(size), dtype=dtype).reshape(shape)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise BrokenFrame(str(e)) from e
    return header, arrays
