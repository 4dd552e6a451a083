"""From the coarse grid to the voxels: the border of the lung is where the HU are half-way to soft tissue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.segment import Mask
from overread.domain.tissue import Tissue
from overread.domain.volume import Volume
from overread.pipeline.analysers.chest_ct.airways import Airways
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid, box_of
from overread.pipeline.analysers.chest_ct.lungs import CoarseLungs

#: Soft tissue at the lung's border, HU.
_SOFT_HU = 40.0
#: In-plane smoothing before the threshold, mm: noise of sharp kernels goes, flat borders stay where they are.
_SMOOTH_MM = 0.8
#: Pits in the border up to twice this width are vessels that reach it, mm.
_PIT_MM = 1.2
#: Slices that are worked on at once.
_SLAB = 16


def draw(
    volume: Volume, grid: CoarseGrid, body: Mask, airways: Airways | None, lungs: CoarseLungs
) -> NDArray[np.uint8]:
    """uint8 labels (`Tissue`) of an upright volume: outside, body, lungs and airways."""
    labels = np.empty(volume.shape, np.uint8)
    everywhere = slice(0, volume.shape[1]), slice(0, volume.shape[2])
    for first in range(0, len(labels), _SLAB):
        last = min(first + _SLAB, len(labels))
        labels[first:last] = grid.fine(body, first, last, *everywhere)
    box = box_of(lungs.both, (1, 2, 2))
    if box is not None:
        _draw_lungs(labels, volume, grid, body, lungs, box)
    if airways is not None:
        part = labels[tuple(slice(at, at + size) for at, size in zip(airways.start, airways.mask.shape, strict=True))]
        part[airways.mask] = Tissue.AIRWAYS
    return labels


def _draw_lungs(
    labels: NDArray[np.uint8],
    volume: Volume,
    grid: CoarseGrid,
    body: Mask,
    lungs: CoarseLungs,
    box: tuple[slice, slice, slice],
) -> None:
    threshold = np.float32((min(lungs.median_hu, -600.0) + _SOFT_HU) / 2)
    rows, columns = (
        slice(side.start * factor, min(side.stop * factor, size))
        for side, factor, size in zip(box[1:], grid.factors[1:], volume.shape[1:], strict=True)
    )
    solid = lungs.both & ~lungs.aerated
    sure_right, near_right = _sure_and_near(lungs.right, solid, body & ~lungs.left)
    sure_left, near_left = _sure_and_near(lungs.left, solid, body & ~lungs.right)
    _, row_mm, column_mm = volume.spacing_mm
    sigma = (0.0, _SMOOTH_MM / row_mm, _SMOOTH_MM / column_mm)
    pit = max(1, round(_PIT_MM / row_mm))
    ball = _disc(pit)
    start, stop = box[0].start * grid.factors[0], min(box[0].stop * grid.factors[0], len(labels))
    for first in range(start, stop, _SLAB):
        last = min(first + _SLAB, stop)

        def fine(mask: Mask, first: int = first, last: int = last) -> Mask:
            return grid.fine(mask, first, last, rows, columns)

        part = volume.hu[first:last, rows, columns].astype(np.float32)
        air = ndimage.gaussian_filter(part, sigma, truncate=3.0) < threshold
        right_near, left_near = fine(near_right), fine(near_left)
        right = fine(sure_right) | (air & right_near & ~fine(lungs.left))
        left = fine(sure_left) | (air & left_near & ~right)
        right |= ndimage.binary_closing(right, ball) & right_near
        left |= ndimage.binary_closing(left, ball) & left_near & ~right
        target = labels[first:last, rows, columns]
        target[right] = Tissue.RIGHT_LUNG
        target[left & ~right] = Tissue.LEFT_LUNG


def _sure_and_near(lung: Mask, solid: Mask, allowed: Mask) -> tuple[Mask, Mask]:
    """(what is lung whatever its HU, where the border can be) of one lung, on the coarse grid."""
    sure = ndimage.binary_erosion(lung, border_value=1) | (lung & solid)
    return np.asarray(sure), np.asarray(ndimage.binary_dilation(lung, mask=allowed | lung))


def _disc(radius: int) -> Mask:
    row, column = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray((row * row + column * column <= radius * radius + 0.5)[None])
