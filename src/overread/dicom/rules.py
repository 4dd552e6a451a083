"""The Image Pixel module (PS3.3 C.7.6.3) of one instance: what decides how its pixels read."""

from __future__ import annotations

from dataclasses import dataclass

from overread.dicom.attributes import Attributes
from overread.dicom.scan import ScannedFile
from overread.domain.errors import PixelDataMismatch, UnsupportedPixels

#: Smaller than this in either direction is no medical image.
MIN_SIDE = 16
_SEND_AGAIN = "Export or send it again from its source."


@dataclass(frozen=True, kw_only=True)
class PixelRules:
    """The Image Pixel module (PS3.3 C.7.6.3) of one instance, checked."""

    rows: int
    columns: int
    samples: int
    #: Upper case. After decoding, what the values then are.
    photometric: str
    planar: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    frames: int

    @property
    def frame_bits(self) -> int:
        """Of one native frame. YBR_FULL_422 stores two chroma samples for two pixels (PS3.3 C.7.6.3.1.2)."""
        samples = 2 if self.photometric == "YBR_FULL_422" and self.samples == 3 else self.samples
        return self.rows * self.columns * samples * self.bits_allocated

    @property
    def decoded_bytes(self) -> int:
        """Of one decoded frame."""
        return self.rows * self.columns * self.samples * max(self.bits_allocated, 8) // 8


def read_rules(file: ScannedFile, a: Attributes, frames: int) -> PixelRules:
    """Raises `PixelDataMismatch` if one is missing, `UnsupportedPixels` if they cannot be an image."""

    def need(tag: int, keyword: str) -> int:
        value = a.integer(tag)
        if value is None:
            raise PixelDataMismatch(
                f"{file.name} has pixels but no {keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X}).",
                remedy=_SEND_AGAIN,
                file=file.name,
            )
        return value

    rows, columns = need(0x00280010, "Rows"), need(0x00280011, "Columns")
    bits_allocated = need(0x00280100, "BitsAllocated")
    bits_stored = a.integer(0x00280101) or bits_allocated
    high_bit = a.integer(0x00280102)
    samples = a.integer(0x00280002) or 1
    rules = PixelRules(
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=a.text(0x00280004).upper() or ("RGB" if samples == 3 else "MONOCHROME2"),
        planar=a.integer(0x00280006) or 0,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=bits_stored - 1 if high_bit is None else high_bit,
        signed=a.integer(0x00280103) == 1,
        frames=frames,
    )
    if rows < MIN_SIDE or columns < MIN_SIDE:
        raise UnsupportedPixels(
            f"{file.name} has {rows} x {columns} pixels; an image needs at least {MIN_SIDE} in each direction.",
            remedy="Send the original image.",
            file=file.name,
        )
    unusable = None
    if bits_allocated not in (1, 8, 16, 32):
        unusable = f"{bits_allocated} bits allocated"
    elif not 1 <= bits_stored <= bits_allocated or not bits_stored - 1 <= rules.high_bit < bits_allocated:
        unusable = f"{bits_stored} bits stored up to bit {rules.high_bit} of {bits_allocated}"
    elif samples not in (1, 3) or (samples > 1 and bits_allocated == 1):
        unusable = f"{samples} samples per pixel of {bits_allocated} bits"
    if unusable:
        raise UnsupportedPixels(
            f"{file.name} has {unusable}, which no image of a scanner has.", remedy=_SEND_AGAIN, file=file.name
        )
    return rules
