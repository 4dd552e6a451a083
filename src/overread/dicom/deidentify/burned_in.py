"""Words in the picture: in which images they are looked for, and which words may stay."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from overread.dicom.attributes import Attributes

#: Cross-sections straight from the scanner: nothing is drawn into them unless they say so.
_CROSS_SECTIONS = frozenset({"CT", "MR", "PT", "NM", "SEG", "RTDOSE", "PR", "SR", "KO", "REG", "RWV"})
#: Radiographs: the console writes markers, now and then a name. Trusted only if BurnedInAnnotation says NO.
_RADIOGRAPHS = frozenset({"CR", "DX", "MG", "RG", "IO", "PX", "XA", "RF", "DXA", "BMD"})
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
#: Side and view markers, numbers, scales and settings without a word that could be a name.
_MARKER = re.compile(
    r"(R|L|RE|LI|A|P|H|F|S|I|AP|PA|LAT|LL|RCC|LCC|RMLO|LMLO|CC|MLO|ML|LM|RIGHT|LEFT|RECHTS|LINKS|ERECT|SUPINE|PORTABLE"
    r"|DROITE|GAUCHE|M?HZ|CM|MM|DB|FPS|B|M|PW|CF|MI|TIS|TIB|TIC)",
    re.IGNORECASE,
)
_SCALE = re.compile(r"[+-]?\d{1,3}([.,]\d{1,2})?\s?(cm|mm|dB|m?Hz|MHz|fps|%|°|s|ms|cm/s)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle of pixels: first and last row and column, from 0, the last one not in it."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True, kw_only=True)
class Word:
    """Text that was seen, and how sure the reader is of it (0 to 1)."""

    box: Box
    text: str
    confidence: float


class TextFinder(Protocol):
    """Sees text in pictures."""

    def find(self, picture: NDArray[Any]) -> Sequence[Word]:
        """Of uint8 (rows, columns) or (rows, columns, 3), RGB. Raises `BurnedInText`."""
        ...


def why_suspect(a: Attributes, sop_class: str) -> str | None:
    """Why words may be burned into an image, as a sentence's rest; None if nothing says so."""
    modality = a.text(0x00080060).upper()
    says = a.text(0x00280301).upper()
    image_type = a.texts(0x00080008)
    if says == "YES":
        return "BurnedInAnnotation (0028,0301) says so"
    if sop_class == _SECONDARY_CAPTURE or sop_class.startswith(_SECONDARY_CAPTURE + "."):
        return "it is a secondary capture"
    if modality in _CROSS_SECTIONS:
        if (a.integer(0x00280002) or 1) > 1:
            return "it is a colour picture of cross-sections"
        # The second value tells what was computed (a reformation) from what was captured (a screen).
        if {"SCREEN SAVE", "DOSE", "DOSE_INFO", "PROTOCOL", "REPORT"} & set(image_type):
            return "it is a page of the scanner's console"
        return None
    if modality in _RADIOGRAPHS:
        return None if says == "NO" else "its BurnedInAnnotation (0028,0301) does not say NO"
    return f"images of modality {modality[:16] or 'unknown'} often carry the patient's name"


def may_stay(word: Word) -> bool:
    """Whether a word is a known marker or scale, and surely read."""
    text = word.text.strip()
    return word.confidence >= 0.8 and (_MARKER.fullmatch(text) is not None or _SCALE.fullmatch(text) is not None)


def looks_at(a: Attributes) -> bool:
    """Whether words are looked for although the image says that there are none: radiographs say so out of habit."""
    return a.text(0x00080060).upper() in _RADIOGRAPHS
