"""Decoding: from the bytes of PixelData (7FE0,0010) to the stored values of one frame.

What one sees of them is `display`'s. Native pixels are read in place; compressed ones go through pydicom's decoders
(openjpeg, CharLS, GDCM, Pillow) in a process of their own (`decoder`), after their own header was held against Rows and
Columns, so that no codestream can make a decoder allocate more than the instance declares.
"""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom._uid_dict import UID_dictionary
from pydicom.encaps import get_frame

from overread.dicom.attributes import Attributes
from overread.dicom.codestream import frame_size
from overread.dicom.decoder import DecodeError, pool
from overread.dicom.display import to_grey
from overread.dicom.quiet import quiet
from overread.dicom.rules import PixelRules, read_rules
from overread.dicom.scan import PIXEL_DATA, ScannedFile
from overread.domain.errors import (
    FrameNotFound,
    NoPixelData,
    PixelDataMismatch,
    TooLarge,
    UnsupportedPixels,
    UnsupportedTransferSyntax,
)
from overread.domain.image import GreyImage
from overread.services.values import DisplayWindow

#: One decoded frame as stored: 16 bits of 11,500 x 11,500 pixels. A mammogram takes 25 MB, a film scan 40 MB.
MAX_FRAME_BYTES = 256 << 20

_NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"})
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_RLE = "1.2.840.10008.1.2.5"
#: JPEG, JPEG-LS, JPEG 2000, HTJ2K, RLE: what `decode_child` has a decoder for.
_COMPRESSED = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)) | {_RLE}
_SEND_AGAIN = "Export or send it again from its source."


def frame_image(
    file: ScannedFile, a: Attributes, frames: int, *, frame: int = 0, window: DisplayWindow | None = None
) -> GreyImage:
    """One of `frames` frames, from 0, decoded and shown (see `display.to_grey`).

    Raises `NoPixelData`, `PixelDataMismatch` (too short, or more than one row too long), `UnsupportedTransferSyntax`,
    `UnsupportedPixels` (float, smaller than 16 pixels, constant, odd bit depths), `TooLarge` and `FrameNotFound`.

    Float pixels (FloatPixelData (7FE0,0008), DoubleFloatPixelData) are refused: they belong to parametric maps, which
    are computed from images and are none that a scanner made.
    """
    stored, rules = stored_frame(file, a, frames, frame)
    return to_grey(stored, rules, a, file.name, frame=frame, chosen=window)


def stored_frame(file: ScannedFile, a: Attributes, frames: int, frame: int) -> tuple[NDArray[Any], PixelRules]:
    """One of `frames` frames, from 0, as stored: (rows, columns[, samples]) without unused bits, and how it reads.

    Compressed colour comes as RGB. Raises what `frame_image` raises, but for a constant image.
    """
    if file.pixel_tag is None:
        raise NoPixelData(
            f"{file.name} has no PixelData (7FE0,0010).",
            remedy="Reports and presentation states are filed without it; an image has to be sent again.",
            file=file.name,
        )
    if file.pixel_tag != PIXEL_DATA:
        raise UnsupportedPixels(
            f"{file.name} has float pixels, as parametric maps have; they are filed, not analysed.",
            remedy="Send the images that it was computed from.",
            file=file.name,
        )
    if not 0 <= frame < frames:
        raise FrameNotFound(
            f"{file.name} has {frames} frame(s); there is no frame {frame + 1}.", parameter="frame", file=file.name
        )
    rules = read_rules(file, a, frames)
    if file.transfer_syntax_uid in _NATIVE or (file.transfer_syntax_uid in _COMPRESSED and not _encapsulated(file)):
        # The second: archives that decompressed an image and left the transfer syntax as it was.
        return _native(file, a, rules, frame), rules
    return _compressed(file, rules, frame)


def _check_size(file: ScannedFile, rules: PixelRules) -> None:
    if rules.decoded_bytes > MAX_FRAME_BYTES:
        raise TooLarge(
            f"{file.name} declares a frame of {rules.rows} x {rules.columns} pixels ({rules.decoded_bytes:,} bytes); "
            f"at most {MAX_FRAME_BYTES:,} bytes are decoded.",
            remedy="Send it at a smaller size.",
            file=file.name,
        )


def _encapsulated(file: ScannedFile) -> bool:
    """Whether the pixels begin with an item, as compressed ones do."""
    start = file.elements[PIXEL_DATA][1]
    return bytes(file.body[start : start + 4]) == b"\xfe\xff\x00\xe0"


def _native(file: ScannedFile, a: Attributes, rules: PixelRules, frame: int) -> NDArray[Any]:
    """A frame as (rows, columns) or (rows, columns, samples), without unused bits."""
    value = a.view(PIXEL_DATA)
    expected = (rules.frame_bits * rules.frames + 7) // 8
    row_bytes = max(rules.frame_bits // rules.rows // 8, 1)
    if len(value) < expected or len(value) > expected + max(expected % 2, row_bytes):
        raise PixelDataMismatch(
            f"{file.name} has {len(value):,} bytes of PixelData (7FE0,0010); {rules.frames} frame(s) of {rules.rows} x "
            f"{rules.columns} pixels with {rules.samples} sample(s) of {rules.bits_allocated} bits need {expected:,}.",
            remedy=_SEND_AGAIN,
            file=file.name,
            declared_bytes=expected,
            actual_bytes=len(value),
        )
    _check_size(file, rules)
    shape = (rules.rows, rules.columns)
    begin = rules.frame_bits * frame
    if rules.bits_allocated == 1:
        # Frames follow each other without a gap (PS3.5 8.1.1), so one may begin within a byte.
        bits = np.frombuffer(value[begin // 8 : (begin + rules.frame_bits + 7) // 8], np.uint8)
        flat_bits = np.unpackbits(bits, bitorder="little")[begin % 8 :]
        return flat_bits[: rules.rows * rules.columns].reshape(shape)
    begin //= 8
    order = ">" if file.transfer_syntax_uid == _BIG_ENDIAN else "<"
    count = rules.frame_bits // rules.bits_allocated
    if rules.bits_allocated == 8 and order == ">" and file.elements[PIXEL_DATA][0] == b"OW":
        # Bytes in big-endian words lie in swapped pairs.
        end = begin + count
        pairs = np.frombuffer(value[begin - begin % 2 : end + end % 2], np.uint8).reshape(-1, 2)
        flat: NDArray[Any] = pairs[:, ::-1].ravel()[begin % 2 :][:count]
    else:
        dtype = np.dtype(f"{order}u{rules.bits_allocated // 8}")
        flat = np.frombuffer(value[begin : begin + count * dtype.itemsize], dtype)
    flat = without_unused_bits(flat, rules)
    if rules.samples == 1:
        return flat.reshape(shape)
    if count < rules.rows * rules.columns * rules.samples:
        # YBR_FULL_422: Y1 Y2 Cb Cr for two pixels.
        quads = flat.reshape(-1, 4)
        full = np.repeat(quads[:, 2:], 2, axis=0)
        return np.column_stack([quads[:, :2].ravel(), full]).reshape(*shape, 3)
    if rules.planar == 1:
        return np.moveaxis(flat.reshape(rules.samples, *shape), 0, -1)
    return flat.reshape(*shape, rules.samples)


def without_unused_bits(values: NDArray[Any], rules: PixelRules) -> NDArray[Any]:
    """Unsigned words to the values in bits HighBit..HighBit-BitsStored+1 (overlays may live in the others).

    The result has the native byte order and is signed if PixelRepresentation (0028,0103) says so.
    """
    size = values.dtype.itemsize
    values = values.astype(f"=u{size}", copy=False)
    if rules.bits_stored == rules.bits_allocated:
        return values.view(f"=i{size}") if rules.signed else values
    shift = rules.high_bit + 1 - rules.bits_stored
    if rules.signed:
        up = rules.bits_allocated - rules.high_bit - 1
        signed: NDArray[Any] = np.left_shift(values, up).view(f"=i{size}") >> (up + shift)
        return signed
    unsigned: NDArray[Any] = np.bitwise_and(values >> shift if shift else values, (1 << rules.bits_stored) - 1)
    return unsigned


def _compressed(file: ScannedFile, rules: PixelRules, number: int) -> tuple[NDArray[Any], PixelRules]:
    """A frame of encapsulated pixels, colour as RGB."""
    _check_size(file, rules)
    if file.transfer_syntax_uid not in _COMPRESSED:
        raise _unsupported(file)
    # From where they lie: a cine of 300 MB is not copied for one frame.
    stream = io.BytesIO(file.body)
    stream.seek(file.elements[PIXEL_DATA][1])
    try:
        with quiet:
            frame = get_frame(stream, number, number_of_frames=rules.frames)
    except (ValueError, LookupError, RuntimeError, EOFError, struct.error) as error:
        raise _damaged(file, str(error)) from error
    if not frame:
        raise _damaged(file, f"frame {number + 1} is empty")
    size = frame_size(frame)
    if size is not None and size != (rules.rows, rules.columns):
        raise PixelDataMismatch(
            f"{file.name} declares {rules.rows} x {rules.columns} pixels, but its compressed frame has "
            f"{size[0]} x {size[1]}.",
            remedy=_SEND_AGAIN,
            file=file.name,
        )
    try:
        stored, photometric = pool.decode(
            file.transfer_syntax_uid, frame, _options(rules), limit=4 * rules.rows * rules.columns * rules.samples
        )
    except DecodeError as error:
        raise _damaged(file, str(error)) from error
    shape = (rules.rows, rules.columns, rules.samples)[: 2 if rules.samples == 1 else 3]
    if stored.shape != shape or stored.dtype.kind not in "iu":
        raise _damaged(file, f"it decodes to {stored.dtype} {stored.shape}")
    bits_allocated = stored.dtype.itemsize * 8
    rules = replace(
        rules,
        photometric=photometric,
        bits_allocated=bits_allocated,
        bits_stored=min(rules.bits_stored, bits_allocated),
        high_bit=min(rules.high_bit, bits_allocated - 1),
    )
    if file.transfer_syntax_uid == _RLE:
        stored = without_unused_bits(stored.view(f"=u{stored.dtype.itemsize}"), rules)
    return stored, rules


def _options(rules: PixelRules) -> dict[str, Any]:
    """As pydicom's decoders want them."""
    return {
        "rows": rules.rows,
        "columns": rules.columns,
        "samples_per_pixel": rules.samples,
        "photometric_interpretation": rules.photometric,
        "planar_configuration": rules.planar,
        "bits_allocated": rules.bits_allocated,
        "bits_stored": rules.bits_stored,
        "pixel_representation": int(rules.signed),
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }


def _unsupported(file: ScannedFile) -> UnsupportedTransferSyntax:
    uid = file.transfer_syntax_uid
    name = UID_dictionary[uid][0] + " " if uid in UID_dictionary else ""
    return UnsupportedTransferSyntax(
        f"{file.name} has the transfer syntax {name}({uid}), which no installed decoder reads.",
        remedy="It is kept as it came. Have the sender offer an uncompressed or JPEG 2000 transfer syntax.",
        file=file.name,
        transfer_syntax_uid=file.transfer_syntax_uid,
    )


def _damaged(file: ScannedFile, why: str) -> PixelDataMismatch:
    first_line = (why.strip().splitlines() or ["no reason given"])[0]
    return PixelDataMismatch(
        f"{file.name} has compressed pixels that cannot be decoded ({first_line[:200]}).",
        remedy=_SEND_AGAIN,
        file=file.name,
    )
