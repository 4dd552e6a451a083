"""Look-up tables as files carry them: modality LUT, VOI LUT, palettes (PS3.3 C.11.1, C.11.2, C.7.6.3.1.5, C.7.9.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.dicom.attributes import Attributes

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LookupTable:
    """A table of `len(entries)` outputs for the inputs from `first`; inputs outside get the nearest entry."""

    first: int
    #: As stored, 0..`top`.
    entries: Floats
    #: The largest output that the declared bits allow.
    top: float

    def __call__(self, values: NDArray[Any]) -> Floats:
        """The outputs of `values`, same shape, float64."""
        indices = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.intp)
        found: Floats = self.entries[indices]
        return found


def read_table(
    a: Attributes, descriptor_tag: int, data_tag: int, *, signed: bool, segmented_tag: int | None = None
) -> LookupTable | None:
    """The table of a descriptor and its data; None if either is missing or makes no sense.

    `signed`: whether the inputs can be negative, so that the descriptor's first input reads as a signed number.
    """
    descriptor = a.numbers(descriptor_tag, b"US")
    if len(descriptor) < 3:
        return None
    count = int(descriptor[0]) & 0xFFFF or 1 << 16
    first = int(descriptor[1])
    bits = int(descriptor[2])
    if signed and first >= 1 << 15:
        first -= 1 << 16
    if data_tag in a:
        entries = _plain(a, data_tag, count)
    elif segmented_tag is not None and segmented_tag in a:
        entries = _segmented(a, segmented_tag, bits, count)
    else:
        return None
    if entries is None or not len(entries):
        return None
    largest = int(entries.max())
    if not 8 <= bits <= 16 or largest >= 1 << bits or (largest and largest < 1 << (bits - 2)):
        # A descriptor that says 16 bits over 12-bit data is common; believed, it would show a nearly black image.
        bits = max(largest.bit_length(), 8)
    return LookupTable(first=first, entries=entries, top=float((1 << bits) - 1))


def _plain(a: Attributes, tag: int, count: int) -> Floats | None:
    raw = a.raw(tag)
    if len(raw) >= 2 * count:
        return np.frombuffer(raw, _word(a), count).astype(np.float64)
    if len(raw) >= count:
        return np.frombuffer(raw, np.uint8, count).astype(np.float64)
    return None


def _segmented(a: Attributes, tag: int, bits: int, count: int) -> Floats | None:
    """Discrete and linear segments (PS3.3 C.7.9.2.1, .2); None for indirect ones, which nobody was seen to write."""
    raw = a.raw(tag)
    words = np.frombuffer(raw[: len(raw) // 2 * 2], _word(a)).tolist() if bits > 8 else list(raw)
    out: list[float] = []
    position = 0
    while position + 2 <= len(words) and len(out) < count:
        kind, length = words[position], words[position + 1]
        if kind == 0:
            out += words[position + 2 : position + 2 + length]
            position += 2 + length
        elif kind == 1 and out and position + 3 <= len(words):
            target = words[position + 2]
            out += np.linspace(out[-1], target, length + 1)[1:].round().tolist()
            position += 3
        else:
            return None
    return np.asarray(out[:count], np.float64) if len(out) >= count else None


def _word(a: Attributes) -> np.dtype[Any]:
    return np.dtype("<u2" if a.little else ">u2")
