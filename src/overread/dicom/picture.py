"""PNG and JPEG pictures as images without a header, for trying the pipeline without DICOM."""

from __future__ import annotations

import hashlib
import io
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from overread.dicom.quiet import quiet
from overread.dicom.rules import MIN_SIDE
from overread.domain.errors import InvalidDicom, TooLarge, UnsupportedFile, UnsupportedPixels
from overread.domain.ids import uid_from_uuid
from overread.domain.image import GreyImage, ImageHeader, ImageInstance, cast_pixels

#: Decoded pixels; as many as `pixels.MAX_FRAME_BYTES` allows of 16 bits.
MAX_PIXELS = 128 << 20
_LUMA = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)
#: Lossy compression moves the channels of a grey picture this far apart (of 255).
_GREY_TOLERANCE = 4


def is_picture(data: bytes) -> bool:
    """Whether `data` begins as a PNG or a JPEG does."""
    return data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))


def picture(data: bytes, *, name: str) -> ImageInstance:
    """A PNG (8 or 16 bit) or JPEG as it looks: grey values stand as they are, bright = dense is assumed.

    There is no modality, no spacing and no patient in it; SOPInstanceUID is derived from the bytes. Raises
    `UnsupportedFile` (neither PNG nor JPEG), `InvalidDicom` (damaged), `TooLarge` and `UnsupportedPixels` (smaller than
    16 pixels, constant).
    """
    if not is_picture(data):
        raise UnsupportedFile(
            f"{name} is neither DICOM nor a PNG or JPEG picture.", remedy="Convert it to one of these.", file=name
        )
    try:
        # A picture of many pixels only warns in Pillow; the limit here is ours, and before anything is decoded.
        with quiet, Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise TooLarge(
                    f"{name} has {opened.width} x {opened.height} pixels; at most {MAX_PIXELS:,} are decoded.",
                    remedy="Send it at a smaller size.",
                    file=name,
                )
            array, was_colour = _grey(ImageOps.exif_transpose(opened))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InvalidDicom(
            f"{name} is a damaged picture ({error}).", remedy="Export or send it again from its source.", file=name
        ) from error
    rows, columns = array.shape
    if min(rows, columns) < MIN_SIDE or array.min() == array.max():
        what = "shows nothing" if min(rows, columns) >= MIN_SIDE else f"has {rows} x {columns} pixels"
        raise UnsupportedPixels(
            f"{name} {what}; an image has different pixels and at least {MIN_SIDE} in each direction.",
            remedy="Send the original image.",
            file=name,
        )
    digest = hashlib.sha256(data).digest()
    header = ImageHeader(sop_instance_uid=uid_from_uuid(UUID(bytes=digest[:16])))
    return ImageInstance(header=header, image=GreyImage(pixels=cast_pixels(array), was_colour=was_colour))


def _grey(opened: Image.Image) -> tuple[NDArray[Any], bool]:
    """(rows, columns) as 0..1, and whether it was colour. Transparency is left out."""
    if opened.mode in ("1", "L", "LA"):
        return np.asarray(opened.convert("L"), np.float32) / np.float32(255), False
    if opened.mode.startswith("I"):
        return np.clip(np.asarray(opened, np.float32) / np.float32(65535), 0, 1), False
    channels = np.asarray(opened.convert("RGB"))
    spread = channels.max(axis=-1).astype(np.int16) - channels.min(axis=-1)
    return np.clip(channels.astype(np.float32) @ _LUMA, 0, 1), bool((spread > _GREY_TOLERANCE).any())
