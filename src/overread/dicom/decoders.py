"""Which compressed transfer syntaxes the installed decoders can read."""

from __future__ import annotations

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

#: What radiology sends.
EXPECTED: tuple[UID, ...] = (
    RLELossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
    HTJ2KLossless,
    HTJ2K,
)


def missing_decoders() -> tuple[str, ...]:
    """Names of the transfer syntaxes of `EXPECTED` that nothing installed can decode."""
    return tuple(uid.name for uid in EXPECTED if not get_decoder(uid).is_available)
