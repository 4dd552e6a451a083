"""How well two outlines agree: pure functions of masks, in the plane or in space.

Masks are bool arrays of the same shape, 2 or 3 axes. Definitions are those of the common challenges (Taha and Hanbury
2015, BMC Medical Imaging 15:29): Dice 1945, and the 95th percentile of the Hausdorff distance (HD95) between borders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """One true outline against ours."""

    #: 0..1; None where both are empty.
    dice: float | None
    #: In pixels (of one size), and in mm where the spacing is known; None where either is empty.
    hd95_px: float | None
    hd95_mm: float | None
    #: How many pixels or voxels each has.
    truth: int
    ours: int


def compare(truth: Mask, ours: Mask, spacing_mm: Sequence[float] | None = None) -> Overlap:
    """Both figures. `spacing_mm`: distance of neighbours along each axis; None if unknown.

    Raises ValueError for masks of different shapes.
    """
    if truth.shape != ours.shape:
        raise ValueError(f"the true outline is of {truth.shape}, ours of {ours.shape}")
    return Overlap(
        dice=_known(dice(truth, ours)),
        hd95_px=_known(hd95(truth, ours)),
        hd95_mm=None if spacing_mm is None else _known(hd95(truth, ours, spacing_mm)),
        truth=int(np.count_nonzero(truth)),
        ours=int(np.count_nonzero(ours)),
    )


def dice(a: Mask, b: Mask) -> float:
    """2 |a and b| / (|a| + |b|), 0..1; NaN where both are empty."""
    whole = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / whole if whole else math.nan


def hd95(a: Mask, b: Mask, spacing: Sequence[float] | None = None) -> float:
    """The greater of both directions' 95th percentile of the distance from a border to the other border.

    In the unit of `spacing` (along each axis), else in pixels. A border is made of the voxels of a mask that have a
    face at the outside or at the edge of the array; distances are between their centres. NaN where either is empty.
    """
    if not a.any() or not b.any():
        return math.nan
    both = a | b
    sides = tuple(
        slice(int(hit[0]), int(hit[-1]) + 1)
        for hit in (np.flatnonzero(both.any(axis=_others(axis, both.ndim))) for axis in range(both.ndim))
    )
    # Cut to both masks: every border lies within, and what was cut away is outside of either mask.
    borders = [_border(mask[sides]) for mask in (a, b)]
    found = []
    for one, other in (borders, reversed(borders)):
        to_other = ndimage.distance_transform_edt(~other, sampling=spacing)
        found.append(float(np.percentile(np.asarray(to_other)[one], 95)))
    return max(found)


def _border(mask: Mask) -> Mask:
    return np.asarray(mask & ~ndimage.binary_erosion(mask), bool)


def _others(axis: int, axes: int) -> tuple[int, ...]:
    return tuple(other for other in range(axes) if other != axis)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
