"""The program that decodes compressed frames, in a process of its own: `python -m overread.dicom.decode_child`.

GDCM, openjpeg and CharLS are C and C++, and a damaged or hostile frame can end their process (it was seen: six of 660
damaged frames did). So they run here, without secrets, under a memory limit, and `decoder` starts another one after a
crash. Requests and replies go over stdin and stdout: see `pipes`.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.decoders.base import get_decoder

from overread.dicom import jpeg12
from overread.dicom.pipes import become_child, read_message, write_message
from overread.dicom.quiet import quiet

#: Of address space; the largest frame that is decoded takes 256 MB, a decoder a few times that.
MEMORY_LIMIT = 4 << 30
_RLE = "1.2.840.10008.1.2.5"
#: Which of pydicom's plugins to use; the others are tried after it.
PREFERRED = {
    "1.2.840.10008.1.2.4.50": "pillow",
    "1.2.840.10008.1.2.4.51": jpeg12.PLUGIN,
    "1.2.840.10008.1.2.4.57": "gdcm",
    "1.2.840.10008.1.2.4.70": "gdcm",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
    _RLE: "pylibjpeg",
}
#: What the decoders are known to raise on damaged input.
_ERRORS = (
    ValueError,
    RuntimeError,
    NotImplementedError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    OSError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
)


def decode(uid: str, frame: bytes, options: Mapping[str, Any]) -> tuple[NDArray[Any], str]:
    """One frame to (rows, columns[, samples]) and its photometric interpretation, YBR turned to RGB.

    `options` are pydicom's decoding options. Raises `ValueError` with the reason if no decoder can.
    """
    padded = frame + b"\x00" * (len(frame) % 2)
    # pydicom's decoders want encapsulated pixels: an empty offset table and one fragment.
    single = b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0" + struct.pack("<I", len(padded)) + padded
    jpeg12.install()
    reason = "no decoder is installed"
    with quiet:
        decoder = get_decoder(uid)
        preferred = PREFERRED.get(uid, "")
        for plugin in (preferred, *(p for p in decoder.available_plugins if p != preferred)):
            if plugin not in decoder.available_plugins:
                continue
            try:
                stored, found = decoder.as_array(single, index=0, decoding_plugin=plugin, **options)
            except _ERRORS as error:
                reason = str(error) or type(error).__name__
            except BaseException as error:
                # What a panic in Rust (pylibjpeg-rle) becomes; it cannot be named in an except clause.
                if type(error).__name__ != "PanicException":
                    raise
                reason = str(error)
            else:
                return stored, str(found.get("photometric_interpretation", options["photometric_interpretation"]))
    raise ValueError(reason)


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Decode until the other side is gone."""
    while True:
        try:
            head, frame = read_message(requests, MEMORY_LIMIT)
        except EOFError:
            return
        try:
            stored, photometric = decode(head["uid"], frame, head["options"])
        except ValueError as error:
            write_message(replies, {"error": str(error)[:500]}, b"")
            continue
        stored = np.ascontiguousarray(stored).astype(stored.dtype.newbyteorder("="), copy=False)
        found = {"shape": stored.shape, "dtype": stored.dtype.name, "photometric": photometric}
        write_message(replies, found, stored.tobytes())


def main() -> None:
    """Serve until the other side is gone."""
    replies = become_child(MEMORY_LIMIT)
    serve(sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
