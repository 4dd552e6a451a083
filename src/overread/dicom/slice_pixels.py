"""The pixels of one CT slice: stored values of any frame, then Hounsfield units.

Compressed frames are decoded by `decoder.pool`, in processes of their own.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import get_frame

from overread.dicom.attributes import Attributes
from overread.dicom.codestream import frame_size
from overread.dicom.decode_child import PREFERRED
from overread.dicom.decoder import DecodeError, pool
from overread.dicom.pixels import MAX_FRAME_BYTES, without_unused_bits
from overread.dicom.quiet import quiet
from overread.dicom.rules import read_rules
from overread.dicom.scan import EXPLICIT_BIG, PIXEL_DATA, ScannedFile
from overread.dicom.slice_header import SliceHeader
from overread.domain.errors import (
    NoPixelData,
    PixelDataMismatch,
    TooLarge,
    UnsupportedPixels,
    UnsupportedTransferSyntax,
)
from overread.domain.volume import AIR_HU

_RLE = "1.2.840.10008.1.2.5"
_SEND_AGAIN = "Export or send it again from its source."
#: The least that a scanner says. Lower values mark what it did not see.
MIN_HU = -1024
#: Padding that would be tissue is none; see `padding_of`.
_TISSUE_HU = (-900, 3071)


class SlicePixels:
    """The pixels of one file, ready to be read frame by frame.

    Raises `NoPixelData`, `UnsupportedPixels` (float, colour, 1 bit), `PixelDataMismatch` (too short, no Rows),
    `UnsupportedTransferSyntax` and `TooLarge`.
    """

    def __init__(self, file: ScannedFile) -> None:
        if file.pixel_tag is None:
            raise NoPixelData(f"{file.name} has no PixelData (7FE0,0010).", remedy=_SEND_AGAIN, file=file.name)
        self._file = file
        self._a = Attributes(file)
        frames = max(self._a.integer(0x00280008, b"IS") or 1, 1)
        self._rules = rules = read_rules(file, self._a, frames)
        if file.pixel_tag != PIXEL_DATA or rules.samples != 1 or rules.bits_allocated not in (8, 16, 32):
            raise UnsupportedPixels(
                f"{file.name} has no grey pixels of 8, 16 or 32 bits, as CT has.", remedy=_SEND_AGAIN, file=file.name
            )
        if rules.decoded_bytes > MAX_FRAME_BYTES:
            raise TooLarge(
                f"{file.name} declares {rules.rows} x {rules.columns} pixels; at most {MAX_FRAME_BYTES:,} bytes are "
                "decoded of a frame.",
                file=file.name,
                limitBytes=MAX_FRAME_BYTES,
            )
        start = file.elements[PIXEL_DATA][1]
        self.compressed = bytes(file.body[start : start + 4]) == b"\xfe\xff\x00\xe0"
        if self.compressed and file.transfer_syntax_uid not in PREFERRED:
            raise UnsupportedTransferSyntax(
                f"{file.name} has the transfer syntax {file.transfer_syntax_uid}, which no installed decoder reads.",
                remedy="Have the sender offer an uncompressed or JPEG 2000 transfer syntax.",
                file=file.name,
                transfer_syntax_uid=file.transfer_syntax_uid,
            )

    def stored(self, frame: int) -> NDArray[Any]:
        """Stored values of a frame, from 0: (rows, columns), signed as PixelRepresentation (0028,0103) says."""
        return self._compressed(frame) if self.compressed else self._native(frame)

    def hounsfield(self, frame: int, header: SliceHeader) -> NDArray[np.int16]:
        """Hounsfield units of a frame, int16 (rows, columns), rounded to whole units.

        Stored value times RescaleSlope plus RescaleIntercept, never below `MIN_HU`; padding is air. MONOCHROME1 changes
        nothing: polarity comes after the rescale (PS3.3 C.7.6.3.1.2). Whoever calls checked that slope and intercept
        are there.
        """
        stored = self.stored(frame)
        slope, intercept = header.slope or 1.0, header.intercept or 0.0
        padding, _ = self.padding_of(header)
        # float32 is exact for what 16 bits hold.
        values: NDArray[Any] = stored.astype(np.float32 if stored.dtype.itemsize <= 2 else np.float64)
        outside = None if padding is None else (values >= padding[0]) & (values <= padding[1])
        values *= slope
        values += intercept
        np.rint(values, out=values)
        np.clip(values, MIN_HU, 32767, out=values)
        if outside is not None:
            values[outside] = AIR_HU
        return values.astype(np.int16)

    def padding_of(self, header: SliceHeader) -> tuple[tuple[float, float] | None, bool]:
        """Stored values that mean "no pixel" (PixelPaddingValue (0028,0120), PixelPaddingRangeLimit (0028,0121)).

        Second, whether a declared padding was ignored because tissue has these values: some files declare 0 without
        meaning it, and all water would turn to air.
        """
        a, rules = self._a, self._rules
        kind = b"SS" if rules.signed else b"US"
        bounds = [value for tag in (0x00280120, 0x00280121) for value in a.numbers(tag, kind)[:1]]
        if not bounds or 0x00280120 not in a:
            return None, False
        # Written with the wrong VR: 63536 for -2000, and the other way round.
        span = float(1 << rules.bits_allocated)
        if rules.signed:
            bounds = [value - span if value >= span / 2 else value for value in bounds]
        else:
            bounds = [value + span if value < 0 else value for value in bounds]
        low, high = min(bounds), max(bounds)
        slope, intercept = header.slope or 1.0, header.intercept or 0.0
        units = sorted((low * slope + intercept, high * slope + intercept))
        if units[1] > _TISSUE_HU[0] and units[0] < _TISSUE_HU[1]:
            return None, True
        return (low, high), False

    def _native(self, frame: int) -> NDArray[Any]:
        rules, file = self._rules, self._file
        value = self._a.view(PIXEL_DATA)
        size = rules.frame_bits // 8
        if len(value) < size * rules.frames:
            raise PixelDataMismatch(
                f"{file.name} has {len(value):,} bytes of PixelData (7FE0,0010); {rules.frames} frame(s) of "
                f"{rules.rows} x {rules.columns} pixels of {rules.bits_allocated} bits need {size * rules.frames:,}.",
                remedy=_SEND_AGAIN,
                file=file.name,
            )
        order = ">" if file.transfer_syntax_uid == EXPLICIT_BIG else "<"
        words = np.frombuffer(value[size * frame : size * (frame + 1)], f"{order}u{rules.bits_allocated // 8}")
        return without_unused_bits(words, rules).reshape(rules.rows, rules.columns)

    def _compressed(self, frame: int) -> NDArray[Any]:
        rules, file = self._rules, self._file
        stream = io.BytesIO(file.body)
        stream.seek(file.elements[PIXEL_DATA][1])
        try:
            with quiet:
                encoded = get_frame(stream, frame, number_of_frames=rules.frames)
        except (ValueError, LookupError, RuntimeError, EOFError, struct.error) as error:
            raise self._damaged(str(error)) from error
        size = frame_size(encoded)
        if not encoded or size not in (None, (rules.rows, rules.columns)):
            raise self._damaged(f"frame {frame + 1} is empty" if not encoded else f"it has {size} pixels")
        options = {
            "rows": rules.rows,
            "columns": rules.columns,
            "samples_per_pixel": 1,
            "photometric_interpretation": rules.photometric,
            "planar_configuration": 0,
            "bits_allocated": rules.bits_allocated,
            "bits_stored": rules.bits_stored,
            "pixel_representation": int(rules.signed),
            "number_of_frames": 1,
            "pixel_keyword": "PixelData",
        }
        try:
            stored, _ = pool.decode(file.transfer_syntax_uid, encoded, options, limit=4 * rules.rows * rules.columns)
        except DecodeError as error:
            raise self._damaged(str(error)) from error
        if stored.shape != (rules.rows, rules.columns) or stored.dtype.kind not in "iu":
            raise self._damaged(f"it decodes to {stored.dtype} {stored.shape}")
        if file.transfer_syntax_uid == _RLE:
            stored = without_unused_bits(stored.view(f"=u{stored.dtype.itemsize}"), rules)
        return stored

    def _damaged(self, why: str) -> PixelDataMismatch:
        first_line = (why.strip().splitlines() or ["no reason given"])[0]
        return PixelDataMismatch(
            f"{self._file.name} has compressed pixels that cannot be decoded ({first_line[:200]}).",
            remedy=_SEND_AGAIN,
            file=self._file.name,
        )
