"""Figures of one grey image that grow or fall with one kind of degradation. Shared by all modalities.

Images are float32 (rows, columns), 0..1. All figures are taken on an image of at most `WORKING_SIDE` pixels a side:
what cannot be seen there (less than a millimetre on a chest radiograph) is not seen. Shares and percentiles are taken
at every `thinning`th row and column of that. So 1024 x 1024 pixels cost 5 ms of one core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.image import FloatImage
from overread.pipeline.quality.edges import thinning

#: Longest side after reduction: NIH's 512 stays as it is, and a detector's 3000 becomes 750.
WORKING_SIDE = 768
#: Images of at most this many pixels on the long side were made smaller before they came: their pixels, not the
#: scanner, limit the sharpness.
SMALL_SIDE = 256
#: Mean step from a line without content to one with content, in display values.
_BAND_STEP, _SCREEN_STEP = 0.04, 0.1
#: Black and white of a display: within half of an 8-bit step.
_BLACK, _WHITE = 0.5 / 255, 1 - 0.5 / 255


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """An image at working size."""

    pixels: FloatImage
    #: Pixels of the original in one of these.
    factor: int


def reduce(pixels: FloatImage, side: int = WORKING_SIDE) -> Reduced:
    """Means of blocks, so that no side is longer than `side`. Values that are no number count as black."""
    factor = max(1, -(-max(pixels.shape) // side))
    if factor == 1:
        small = pixels
    else:
        rows, columns = (max(1, count // factor) for count in pixels.shape)
        height, width = (min(factor, count) for count in pixels.shape)
        # Sums of every n-th line: ten times as fast as means over the axes of blocks.
        lines = _added([pixels[at : rows * height : height] for at in range(height)])
        small = _added([lines[:, at : columns * width : width] for at in range(width)])
        small *= np.float32(1 / (height * width))
    if not np.isfinite(small).all():
        small = np.nan_to_num(small, nan=0.0, posinf=1.0, neginf=0.0)
    return Reduced(pixels=np.ascontiguousarray(small, dtype=np.float32), factor=factor)


def _added(parts: Sequence[FloatImage]) -> FloatImage:
    total = parts[0].astype(np.float32)
    for part in parts[1:]:
        total += part
    return total


def contrast(image: FloatImage) -> float:
    """Between the 1st and the 99th percentile of the display values, 0..1."""
    low, high = np.percentile(_thin(image), (1.0, 99.0))
    return float(high - low)


def saturated(image: FloatImage) -> tuple[float, float]:
    """Shares of the pixels that are black and white, 0..1."""
    thin = _thin(image)
    return np.count_nonzero(thin <= _BLACK) / thin.size, np.count_nonzero(thin >= _WHITE) / thin.size


def percentiles(image: FloatImage, *percents: float) -> tuple[float, ...]:
    """Of the display values, without the outermost tenth on each side."""
    rows, columns = (count // 10 for count in image.shape)
    middle = image[rows : image.shape[0] - rows, columns : image.shape[1] - columns]
    return tuple(float(value) for value in np.percentile(_thin(middle, thinning(image)), percents))


def _thin(image: FloatImage, step: int | None = None) -> FloatImage:
    step = step or thinning(image)
    return np.ascontiguousarray(image[::step, ::step])


def noise(image: FloatImage) -> float:
    """Standard deviation of what differs from pixel to pixel, in display values.

    The diagonal detail of a 2 x 2 Haar transform holds noise and hardly any anatomy (Donoho and Johnstone 1994). Taken
    in blocks of 16 x 16 pixels, of every `thinning`th row of them; blocks that hold a single value are left out, and
    the 30th percentile of the others is an area without edges.
    """
    rows, columns = (count // 16 for count in image.shape)
    if not rows or not columns:
        return 0.0
    bands = image[: rows * 16, : columns * 16].reshape(rows, 16, columns * 16)[:: thinning(image)]
    steps = bands[:, ::2] - bands[:, 1::2]
    detail = steps[:, :, ::2] - steps[:, :, 1::2]
    power = np.square(detail, out=detail).sum(axis=1).reshape(-1, columns, 8).sum(axis=2) / np.float32(4 * 64)
    used = power[_varying(bands)]
    return float(np.sqrt(np.percentile(used, 30.0))) if used.size else 0.0


def _varying(bands: FloatImage) -> NDArray[np.bool_]:
    """Blocks of 16 x 16 that hold more than one value; `bands` are (rows of blocks, 16, columns)."""
    high = bands.max(axis=1).reshape(len(bands), -1, 16).max(axis=2)
    low = bands.min(axis=1).reshape(len(bands), -1, 16).min(axis=2)
    return np.asarray(high - low > _BLACK)


def constant_bands(image: FloatImage, *, screen: bool = False) -> float:
    """Share of the lines that hold a single value and end with a step, 0..1: a transfer that was cut short.

    Rows at one end, and rows or columns in between. Bands at both ends, and at the sides, are a collimator's, so that
    what both ends have in common does not count. The line beside a band differs by more than `_BAND_STEP` on average:
    a black background that ends at a head does not. Of a screen only the bottom counts, and more of a step is needed.
    """
    if screen:
        return _bands(image, _SCREEN_STEP)[2]
    rows, columns = _bands(image, _BAND_STEP), _bands(image.T, _BAND_STEP)
    return max(rows[1] + abs(rows[0] - rows[2]), columns[1])


def _bands(image: FloatImage, step: float) -> tuple[float, float, float]:
    """Shares of constant rows at the top, in between and at the bottom."""
    flat = np.ptp(image, axis=1) <= _BLACK
    if not flat.any() or flat.all():
        return 0.0, 0.0, 0.0
    labels, count = ndimage.label(flat)
    shares = [0.0, 0.0, 0.0]
    for index in range(1, count + 1):
        lines = np.flatnonzero(labels == index)
        beside = [line for line in (lines[0] - 1, lines[-1] + 1) if 0 <= line < len(image)]
        jump = max(float(np.mean(np.abs(image[line] - image[lines[0], 0]))) for line in beside)
        if jump > step:
            place = 0 if lines[0] == 0 else 2 if lines[-1] == len(image) - 1 else 1
            shares[place] += len(lines) / len(image)
    return shares[0], shares[1], shares[2]


def background_is_bright(image: FloatImage) -> float:
    """The smaller of two signs of exchanged values in a slice: a bright border and bright areas without detail."""
    return min(_border_brightness(image), smooth_brightness(image))


def smooth_brightness(image: FloatImage) -> float:
    """Median of the least varying blocks minus that of the most varying ones, -1..1: air and fluid hold no detail."""
    means, spreads = _blocks(image)
    order, count = np.argsort(spreads), max(1, means.size * 3 // 10)
    return float(np.median(means[order[:count]]) - np.median(means[order[-count:]]))


def smooth_is_bright(image: FloatImage) -> float:
    """How closely brightness goes with the lack of detail, -1..1: minus the correlation of both over blocks.

    Rank of the standard deviation of blocks of 16 x 16 against their mean. White areas outside a collimator do not
    turn it round, as they do with `smooth_brightness`.
    """
    means, spreads = _blocks(image)
    ranks = np.argsort(np.argsort(spreads))
    if means.size < 4 or float(np.std(means)) < 1e-4:
        return 0.0
    return -float(np.corrcoef(ranks, means)[0, 1])


def _blocks(image: FloatImage) -> tuple[FloatImage, FloatImage]:
    """Mean and standard deviation of blocks of 16 x 16 (of all, if there is no such block)."""
    rows, columns = (count // 16 for count in image.shape)
    if not rows or not columns:
        return np.array([image.mean()], np.float32), np.array([image.std()], np.float32)
    blocks = image[: rows * 16, : columns * 16].reshape(rows, 16, columns, 16)
    return blocks.mean(axis=(1, 3)).ravel(), blocks.std(axis=(1, 3)).ravel()


def _border_brightness(image: FloatImage) -> float:
    """Median of the outermost twentieth on each side, minus the median of the middle half, -1..1."""
    rows, columns = image.shape
    edge_r, edge_c = max(1, rows // 20), max(1, columns // 20)
    frame = np.concatenate(
        [image[:edge_r].ravel(), image[-edge_r:].ravel(), image[:, :edge_c].ravel(), image[:, -edge_c:].ravel()]
    )
    middle = image[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4]
    return float(np.median(frame) - np.median(middle))
