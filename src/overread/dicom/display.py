"""From stored values to what a person would see (PS3.4 N.2): modality LUT, VOI LUT or window, polarity, colour to grey.

Grey values of up to 16 bits go through one table with an entry for each possible stored value: the arithmetic is done
in double precision and still costs a single look-up per pixel (20 ms for 2048 x 2048).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.dicom.attributes import Attributes
from overread.dicom.lut import Floats, LookupTable, read_table
from overread.dicom.rules import PixelRules
from overread.domain.errors import UnsupportedPixels
from overread.domain.image import FloatImage, GreyImage, cast_pixels
from overread.services.values import DisplayWindow

Transform = Callable[[Floats], Floats]

#: Without a window: these percentiles of the pixels that are no padding become black and white.
PERCENTILES = (0.5, 99.5)
#: Rec. 601, as PS3.3 C.7.6.3.1.2 uses it for YBR.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
#: Lossy compression moves the channels of a grey image this far apart (of 255).
_GREY_TOLERANCE = 4
_SHARED_GROUPS, _PER_FRAME_GROUPS = 0x52009229, 0x52009230
_CENTER, _WIDTH, _FUNCTION = 0x00281050, 0x00281051, 0x00281056
_SLOPE, _INTERCEPT = 0x00281053, 0x00281052
_LUT_DESCRIPTOR, _LUT_DATA = 0x00283002, 0x00283006


def to_grey(
    stored: NDArray[Any],
    rules: PixelRules,
    a: Attributes,
    name: str,
    *,
    frame: int = 0,
    chosen: DisplayWindow | None = None,
) -> GreyImage:
    """Stored values of one frame (from 0) as a display would show them: 0..1, bright = dense.

    Modality LUT before rescale; VOI LUT before the first window (LINEAR, LINEAR_EXACT, SIGMOID; one that leaves nothing
    to see is taken for a mistake). Without either, values of up to 8 bits stand as they are and deeper ones are
    stretched over `PERCENTILES`. MONOCHROME1 and a PresentationLUTShape (2050,0020) of INVERSE both say that low values
    are bright: one inversion, not two. Padding (0028,0120) is black. Raises `UnsupportedPixels` for a constant image.

    A `chosen` window, in units, takes the place of the file's, whatever it leaves to see; it says nothing to colour.
    """
    if rules.photometric == "PALETTE COLOR" and rules.samples == 1:
        pixels, was_colour = _from_palette(stored, rules, a, name)
    elif rules.samples == 3:
        pixels, was_colour = _from_channels(stored, rules)
    else:
        pixels, was_colour = _from_grey(stored, rules, a, frame, chosen), False
    if chosen is None and pixels.min() == pixels.max():
        raise UnsupportedPixels(
            f"{name} shows nothing: all its pixels are the same.",
            remedy="Check the detector and send the original image.",
            file=name,
        )
    return GreyImage(pixels=pixels, spacing_mm=_spacing(a, frame), was_colour=was_colour)


def _spacing(a: Attributes, frame: int) -> tuple[float, float] | None:
    """The frame's PixelMeasuresSequence, PixelSpacing, ImagerPixelSpacing, NominalScannedPixelSpacing."""
    measures = _functional_group(a, 0x00289110, frame)
    candidates = [measures.numbers(0x00280030, b"DS")] if measures else []
    candidates += [a.numbers(tag, b"DS") for tag in (0x00280030, 0x00181164, 0x00182010)]
    for values in candidates:
        if len(values) >= 2 and all(0 < value < 100 for value in values[:2]):
            return float(values[0]), float(values[1])
    return None


def _functional_group(a: Attributes, tag: int, frame: int) -> Attributes | None:
    """An item of an enhanced image's functional groups: the frame's own, else the shared one."""
    for items in (a.items(_PER_FRAME_GROUPS, frame + 1)[frame:], a.items(_SHARED_GROUPS)):
        for item in items:
            for found in item.items(tag):
                return found
    return None


# --- grey --------------------------------------------------------------------------------------------------


def _from_grey(
    stored: NDArray[Any], rules: PixelRules, a: Attributes, frame: int, chosen: DisplayWindow | None
) -> FloatImage:
    tabled = stored.dtype.itemsize <= 2
    if tabled:
        codes = stored.view(f"u{stored.dtype.itemsize}")
        values = np.arange(1 << 8 * stored.dtype.itemsize).astype(codes.dtype).view(stored.dtype).astype(np.float64)
    else:
        codes = stored
        values = stored.astype(np.float64)
    padded = _padding(values, rules, a)
    modality = _modality(rules, a, frame)
    units = modality(values) if modality else values
    inverted = rules.photometric == "MONOCHROME1" or a.text(0x20500020).upper() == "INVERSE"
    voi = window(chosen.center, chosen.width) if chosen else _voi(units, a, frame)
    while True:
        if voi is not None:
            shown = voi(units)
        elif rules.bits_stored <= 8 and modality is None:
            low = -float(1 << rules.bits_stored - 1) if rules.signed else 0.0
            shown = (units - low) / ((1 << rules.bits_stored) - 1)
        else:
            low, high = _spread(units, codes if tabled else None, padded)
            shown = (units - low) / max(high - low, 1e-12)
        shown = np.clip(1 - shown if inverted else shown, 0, 1)
        shown[padded] = 0
        pixels = cast_pixels(shown.astype(np.float32)[codes] if tabled else shown)
        if voi is None or chosen is not None or pixels.min() < pixels.max():
            return pixels
        voi = None


def _padding(values: Floats, rules: PixelRules, a: Attributes) -> NDArray[np.bool_]:
    """Which values mean "no pixel": PixelPaddingValue (0028,0120) to PixelPaddingRangeLimit (0028,0121)."""
    kind = b"SS" if rules.signed else b"US"
    bounds = [value for tag in (0x00280120, 0x00280121) for value in a.numbers(tag, kind)[:1]]
    if not bounds or 0x00280120 not in a:
        return np.zeros(values.shape, np.bool_)
    # Written with the wrong VR: 63536 for -2000.
    span = 1 << rules.bits_allocated
    if rules.signed:
        bounds = [value - span if value >= span // 2 else value for value in bounds]
    else:
        bounds = [value + span if value < 0 else value for value in bounds]
    return (values >= min(bounds)) & (values <= max(bounds))


def _modality(rules: PixelRules, a: Attributes, frame: int) -> Transform | None:
    """Stored values to units (HU, optical density); None where they are the same."""
    for item in a.items(0x00283000):
        table = read_table(item, _LUT_DESCRIPTOR, _LUT_DATA, signed=rules.signed)
        if table is not None:
            return table
    source = _functional_group(a, 0x00289145, frame) or a
    slope, intercept = source.number(_SLOPE), source.number(_INTERCEPT) or 0.0
    # A slope of 0 would make every image black; it is a template that nobody filled in.
    slope = 1.0 if slope is None or slope == 0 else slope
    if (slope, intercept) == (1.0, 0.0) or max(abs(slope), abs(intercept)) > 1e9:
        return None
    return lambda values: values * slope + intercept


def _voi(units: Floats, a: Attributes, frame: int) -> Transform | None:
    """Units to 0..1: the first VOI LUT, else the first window; None if there is none that can be used."""
    for item in a.items(0x00283010):
        signed = item.vr(_LUT_DESCRIPTOR) == b"SS" or bool(units.min() < 0)
        table = read_table(item, _LUT_DESCRIPTOR, _LUT_DATA, signed=signed)
        if table is not None:
            return _normalised(table)
    source = _functional_group(a, 0x00289132, frame) or a
    center, width = source.number(_CENTER), source.number(_WIDTH)
    if center is None or width is None or width <= 0 or max(abs(center), width) > 1e9:
        return None
    return window(center, width, source.text(_FUNCTION).upper())


def _normalised(table: LookupTable) -> Transform:
    return lambda values: table(values) / table.top


def window(center: float, width: float, function: str = "LINEAR") -> Transform:
    """The window of PS3.3 C.11.2.1.2 (LINEAR), C.11.2.1.3 (SIGMOID, LINEAR_EXACT), scaled to 0..1 and clipped."""
    if function == "SIGMOID":
        return lambda values: 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -60, 60)))
    if function == "LINEAR_EXACT" or width < 1:
        return lambda values: np.clip((values - center) / width + 0.5, 0, 1)
    if width == 1:
        return lambda values: (values > center - 0.5).astype(np.float64)
    return lambda values: np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _spread(units: Floats, codes: NDArray[Any] | None, padded: NDArray[np.bool_]) -> tuple[float, float]:
    """`PERCENTILES` of the units of all pixels but padding. `codes` index `units`; None if `units` are the pixels."""
    if codes is None:
        kept = units[~padded]
        if not kept.size:
            return 0.0, 1.0
        low, high = np.percentile(kept, PERCENTILES)
        return float(low), float(high)
    counts = np.bincount(codes.ravel(), minlength=len(units))
    counts[padded] = 0
    present = np.flatnonzero(counts)
    if not present.size:
        return 0.0, 1.0
    order = present[np.argsort(units[present], kind="stable")]
    total = np.cumsum(counts[order])
    low_at, high_at = np.searchsorted(total, np.array(PERCENTILES) / 100 * total[-1])
    low, high = units[order[low_at]], units[order[min(high_at, len(order) - 1)]]
    if low == high:
        # Almost all pixels are the same: show what there is.
        low, high = units[order[0]], units[order[-1]]
    return float(low), float(high)


# --- colour ------------------------------------------------------------------------------------------------


def _from_palette(stored: NDArray[Any], rules: PixelRules, a: Attributes, name: str) -> tuple[FloatImage, bool]:
    channels = []
    for offset in range(3):
        table = read_table(
            a, 0x00281101 + offset, 0x00281201 + offset, signed=rules.signed, segmented_tag=0x00281221 + offset
        )
        if table is None:
            raise UnsupportedPixels(
                f"{name} is a palette image without a usable palette (0028,1101 and following).",
                remedy="Send the image as grey or RGB.",
                file=name,
            )
        channels.append((table, np.float64(table.top)))
    top = max(top for _, top in channels)
    if stored.dtype.itemsize <= 2:
        codes = stored.view(f"u{stored.dtype.itemsize}")
        values = np.arange(1 << 8 * stored.dtype.itemsize).astype(codes.dtype).view(stored.dtype)
        colours = np.stack([table(values) / top for table, _ in channels], axis=-1)
        was_colour = bool((np.ptp(colours[np.unique(codes)], axis=-1) * 255 > _GREY_TOLERANCE).any())
        return cast_pixels((colours.astype(np.float32) @ _LUMA)[codes]), was_colour
    raise UnsupportedPixels(f"{name} has a palette over 32-bit pixels.", remedy="Send it as grey or RGB.", file=name)


def _from_channels(stored: NDArray[Any], rules: PixelRules) -> tuple[FloatImage, bool]:
    """RGB or YBR, (rows, columns, 3), unsigned."""
    top = float((1 << rules.bits_stored) - 1)
    tolerance = _GREY_TOLERANCE * top / 255
    wide: NDArray[Any] = stored.astype(np.int32 if stored.dtype.itemsize < 4 else np.int64, copy=False)
    if rules.photometric.startswith("YBR"):
        middle = (int(top) + 1) // 2
        was_colour = bool((np.abs(wide[..., 1:] - middle) > tolerance).any())
        grey = stored[..., 0].astype(np.float32)
        grey = (grey - 16 / 255 * top) / (219 / 255 * top) if "PARTIAL" in rules.photometric else grey / top
    else:
        was_colour = any(bool((np.abs(wide[..., 0] - wide[..., channel]) > tolerance).any()) for channel in (1, 2))
        grey = stored.astype(np.float32) @ (_LUMA / np.float32(top))
    return cast_pixels(np.clip(grey, 0, 1)), was_colour
