"""The pixels of a copy: decoded and written anew, so that nothing hides in them but the image, and words blackened.

What may hide: text in unused bits (old overlays), bytes after the last frame, comments of a JPEG or JPEG 2000 stream.
So every frame is decoded and stored uncompressed; nothing is lost by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from overread.dicom.attributes import Attributes
from overread.dicom.deidentify.burned_in import Box, TextFinder, looks_at, may_stay, why_suspect
from overread.dicom.pixels import stored_frame
from overread.dicom.rules import PixelRules, read_rules
from overread.dicom.scan import PIXEL_DATA, ScannedFile
from overread.domain.errors import BurnedInText, PixelDataMismatch

_FLOAT_BYTES = {0x7FE00008: ("FloatPixelData", 4), 0x7FE00009: ("DoubleFloatPixelData", 8)}
#: Boxes grow by this many pixels, for the edges of letters.
_MARGIN = 3
#: So often is looked again whether a word is left.
_PASSES = 4
#: Confidence from which a word is one that somebody could read.
_LEGIBLE = 0.5


@dataclass(frozen=True, kw_only=True)
class CleanedPixels:
    """What was done."""

    #: Blackened in every frame.
    boxes: tuple[Box, ...] = ()
    #: Whether text was looked for.
    looked: bool = False


def clean_pixels(file: ScannedFile, a: Attributes, new: Dataset, finder: TextFinder | None) -> CleanedPixels:
    """Put the pixels of `file` into `new`, with the attributes that say how they read.

    Raises `BurnedInText` where words may be in the picture and nothing is installed that finds them, or some are left;
    and what `pixels.stored_frame` raises.
    """
    if file.pixel_tag is None:
        return CleanedPixels()
    frames = max(a.integer(0x00280008, b"IS") or 1, 1)
    if file.pixel_tag in _FLOAT_BYTES:
        _copy_floats(file, a, new, frames)
        return CleanedPixels()
    suspect = why_suspect(a, a.text(0x00080016))
    if suspect and finder is None:
        raise BurnedInText(
            f"{file.name} may have words in the picture ({suspect}), and nothing is installed that finds them.",
            remedy="Install overread[ocr], or leave this image out.",
            file=file.name,
        )
    rules = read_rules(file, a, frames)
    if rules.bits_allocated == 1:
        _copy_bits(file, a, new, rules)
        return CleanedPixels()
    decoded = [stored_frame(file, a, frames, number) for number in range(frames)]
    rules = decoded[0][1]
    pictures = [frame for frame, _ in decoded]
    looked = finder is not None and (suspect is not None or looks_at(a))
    boxes: tuple[Box, ...] = ()
    if looked and finder is not None:
        pictures, boxes = _blacken(pictures, rules, finder, file.name)
    _store(new, pictures, rules)
    if looked:
        new.BurnedInAnnotation = "NO"
    if boxes:
        new.DerivationDescription = "Text in the picture was blackened by Overread (PS3.15 E.3.1)."
    return CleanedPixels(boxes=boxes, looked=looked)


def _copy_floats(file: ScannedFile, a: Attributes, new: Dataset, frames: int) -> None:
    keyword, size = _FLOAT_BYTES[file.pixel_tag or 0]
    expected = (a.integer(0x00280010) or 0) * (a.integer(0x00280011) or 0) * frames * size
    value = a.view(file.pixel_tag or 0)
    if expected == 0 or len(value) < expected:
        raise PixelDataMismatch(f"{file.name} has fewer pixels than it declares.", file=file.name)
    setattr(new, keyword, bytes(value[:expected]))


def _copy_bits(file: ScannedFile, a: Attributes, new: Dataset, rules: PixelRules) -> None:
    """Of a binary segmentation, whose frames follow each other without a gap."""
    bits = rules.frame_bits * rules.frames
    value = bytearray(a.view(PIXEL_DATA)[: (bits + 7) // 8])
    if len(value) * 8 < bits:
        raise PixelDataMismatch(f"{file.name} has fewer pixels than it declares.", file=file.name)
    if bits % 8:
        value[-1] &= (1 << bits % 8) - 1
    _set_data(new, bytes(value), "OB")


def _store(new: Dataset, pictures: Sequence[NDArray[Any]], rules: PixelRules) -> None:
    size = pictures[0].dtype.itemsize
    new.Rows, new.Columns, new.SamplesPerPixel = rules.rows, rules.columns, rules.samples
    new.BitsAllocated, new.BitsStored, new.HighBit = size * 8, rules.bits_stored, rules.bits_stored - 1
    new.PixelRepresentation = int(rules.signed)
    # Decoding undid the sharing of chroma between pixels.
    full = {"YBR_FULL_422": "YBR_FULL"}
    new.PhotometricInterpretation = full.get(rules.photometric, rules.photometric)
    if rules.samples > 1:
        new.PlanarConfiguration = 0
    data = b"".join(np.ascontiguousarray(p).astype(p.dtype.newbyteorder("<"), copy=False).tobytes() for p in pictures)
    _set_data(new, data, "OW" if size > 1 else "OB")


def _set_data(new: Dataset, data: bytes, vr: str) -> None:
    new.add_new(PIXEL_DATA, vr, data + b"\x00" * (len(data) % 2))


# --- words in the picture -----------------------------------------------------------------------------------


def _blacken(
    pictures: list[NDArray[Any]], rules: PixelRules, finder: TextFinder, name: str
) -> tuple[list[NDArray[Any]], tuple[Box, ...]]:
    """Look, blacken, look again, frame by frame.

    A box of one frame is blackened in all, so a name that fades in is gone everywhere; and before the next frame is
    looked at, so that only what is new in it has to be read.
    """
    boxes: list[Box] = []
    seen: set[bytes] = set()
    for picture in pictures:
        painted = _painted(picture, rules, boxes)
        digest = hashlib.sha256(painted.tobytes()).digest()
        if digest in seen:
            continue
        seen.add(digest)
        for number in range(_PASSES + 1):
            # By the last look only what reads as text counts: the edges of black boxes look a little like letters.
            found = _words(painted, rules, finder, at_least=_LEGIBLE if number == _PASSES else 0.0)
            if not found:
                break
            if number == _PASSES:
                raise BurnedInText(
                    f"{name} still shows text after {len(boxes)} places were blackened.",
                    remedy="Leave this image out, or blacken it by hand.",
                    file=name,
                )
            boxes += sorted(found, key=lambda box: (box.top, box.left, box.bottom, box.right))
            painted = _painted(painted, rules, boxes)
    kept = tuple(dict.fromkeys(boxes))
    return [_painted(picture, rules, kept) for picture in pictures], kept


def _words(picture: NDArray[Any], rules: PixelRules, finder: TextFinder, *, at_least: float) -> set[Box]:
    seen = (word for shown in _as_seen(picture, rules) for word in finder.find(shown))
    return {_grown(word.box, rules) for word in seen if word.confidence >= at_least and not may_stay(word)}


def _grown(box: Box, rules: PixelRules) -> Box:
    return replace(
        box,
        top=max(box.top - _MARGIN, 0),
        left=max(box.left - _MARGIN, 0),
        bottom=min(box.bottom + _MARGIN, rules.rows),
        right=min(box.right + _MARGIN, rules.columns),
    )


def _as_seen(picture: NDArray[Any], rules: PixelRules) -> list[NDArray[np.uint8]]:
    """As uint8: over the whole range of values, and once more without the extremes where that shows more."""
    if rules.samples == 3:
        return [(picture >> max(rules.bits_stored - 8, 0)).astype(np.uint8)]
    low, high = float(picture.min()), float(picture.max())
    if high <= low:
        return []
    windows = [(low, high)]
    inner = np.percentile(picture, (1, 99))
    if inner[1] > inner[0] and inner[1] - inner[0] < 0.7 * (high - low):
        windows.append((float(inner[0]), float(inner[1])))
    seen = []
    for a, b in windows:
        grey = np.clip((picture.astype(np.float32) - a) * (255.0 / (b - a)), 0, 255).astype(np.uint8)
        seen.append(255 - grey if rules.photometric == "MONOCHROME1" else grey)
    return seen


def _painted(picture: NDArray[Any], rules: PixelRules, boxes: Sequence[Box]) -> NDArray[Any]:
    if not boxes:
        return picture
    painted = picture.copy()
    black: Any = picture.min()
    if rules.photometric == "MONOCHROME1":
        black = picture.max()
    elif rules.photometric.startswith("YBR") and rules.samples == 3:
        black = np.array([0, 128, 128], picture.dtype)
    elif rules.samples == 3:
        black = 0
    for box in boxes:
        painted[box.top : box.bottom, box.left : box.right] = black
    return painted
