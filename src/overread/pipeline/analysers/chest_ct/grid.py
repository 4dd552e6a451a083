"""A coarser grid over a volume, about 2 mm: topology is found there, borders are drawn on the voxels themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.segment import Mask
from overread.domain.volume import AIR_HU, Volume

Floats32 = NDArray[np.float32]
Box = tuple[slice, slice, slice]

#: Size that a coarse voxel should have along each axis, mm.
COARSE_MM = 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseGrid:
    """Mean Hounsfield units of blocks of voxels. Axes as in the volume: to the head, to the back, to the left."""

    #: float32 (slices, rows, columns) of blocks; the last block of an axis may hold fewer voxels.
    hu: Floats32
    #: Voxels in a block along each axis.
    factors: tuple[int, int, int]
    #: Distance of neighbouring blocks along each axis, mm.
    spacing_mm: tuple[float, float, float]
    #: Shape of the volume itself.
    fine_shape: tuple[int, int, int]

    @property
    def voxel_ml(self) -> float:
        """Volume of a block, mL."""
        one, two, three = self.spacing_mm
        return one * two * three / 1000

    def ml(self, mask: Mask) -> float:
        """Volume of a mask on this grid, mL."""
        return int(np.count_nonzero(mask)) * self.voxel_ml

    def fine(self, mask: Mask, first: int, last: int, rows: slice, columns: slice) -> Mask:
        """`mask` on the voxels of slices `first` to `last` - 1 and the given rows and columns."""
        picks = (np.arange(first, last), np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop))
        return np.asarray(mask[np.ix_(*(p // f for p, f in zip(picks, self.factors, strict=True)))])

    def whole(self, labels: NDArray[np.uint8], value: int) -> Mask:
        """Blocks of which every voxel has this label."""
        deep, high, wide = self.factors
        out = np.empty(self.hu.shape, np.bool_)
        rows, columns = np.arange(0, labels.shape[1], high), np.arange(0, labels.shape[2], wide)
        for index in range(len(out)):
            slab = (labels[index * deep : (index + 1) * deep] == value).all(axis=0)
            out[index] = np.logical_and.reduceat(np.logical_and.reduceat(slab, rows, axis=0), columns, axis=1)
        return out

    def coarse(self, fine: Mask, start: tuple[int, int, int]) -> Mask:
        """Blocks of which `fine`, a box of the volume that begins at `start`, holds at least one voxel."""
        out = np.zeros(self.hu.shape, np.bool_)
        places = (at + first for at, first in zip(np.nonzero(fine), start, strict=True))
        out[tuple(p // f for p, f in zip(places, self.factors, strict=True))] = True
        return out


def coarsen(volume: Volume, target_mm: float = COARSE_MM) -> CoarseGrid:
    """The coarse grid of `volume`, which is upright and in LPS+. One slab at a time, so memory stays small."""
    factors = tuple(max(1, round(target_mm / step)) for step in volume.spacing_mm)
    deep, high, wide = factors
    slices, rows, columns = volume.shape
    row_starts, column_starts = np.arange(0, rows, high), np.arange(0, columns, wide)
    counts = np.outer(np.diff(np.append(row_starts, rows)), np.diff(np.append(column_starts, columns)))
    planes = []
    for first in range(0, slices, deep):
        slab = volume.hu[first : first + deep]
        total = slab.sum(axis=0, dtype=np.float32) if len(slab) > 1 else slab[0].astype(np.float32)
        total = np.add.reduceat(np.add.reduceat(total, row_starts, axis=0), column_starts, axis=1)
        planes.append(np.maximum(total / np.float32(len(slab)) / counts.astype(np.float32), np.float32(AIR_HU - 24)))
    return CoarseGrid(
        hu=np.stack(planes).astype(np.float32, copy=False),
        factors=(deep, high, wide),
        spacing_mm=tuple_of(s * f for s, f in zip(volume.spacing_mm, factors, strict=True)),
        fine_shape=volume.shape,
    )


def tuple_of(values: object) -> tuple[float, float, float]:
    """Three numbers as a tuple."""
    one, two, three = (float(v) for v in values)  # type: ignore[attr-defined]
    return one, two, three


def box_of(mask: Mask, margin: tuple[int, int, int] = (0, 0, 0)) -> Box | None:
    """The smallest box around a mask, widened by `margin` voxels and cut at the borders; None if it is empty."""
    sides = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if hit.size == 0:
            return None
        sides.append(slice(max(0, int(hit[0]) - margin[axis]), min(mask.shape[axis], int(hit[-1]) + 1 + margin[axis])))
    return sides[0], sides[1], sides[2]


def within(mask: Mask, spacing_mm: tuple[float, float, float], radius_mm: float) -> Mask:
    """Everything at most `radius_mm` from `mask`: dilation with a ball."""
    deep, high, wide = (int(np.ceil(radius_mm / step)) + 1 for step in spacing_mm)
    box = box_of(mask, (deep, high, wide))
    if box is None:
        return mask.copy()
    out = np.zeros_like(mask)
    out[box] = ndimage.distance_transform_edt(~mask[box], sampling=spacing_mm) <= radius_mm
    return out


def deeper(mask: Mask, spacing_mm: tuple[float, float, float], radius_mm: float) -> Mask:
    """What of `mask` lies more than `radius_mm` from everything else: erosion with a ball. The border is no end."""
    return np.asarray(depths(mask, spacing_mm) > radius_mm)


def depths(mask: Mask, spacing_mm: tuple[float, float, float]) -> Floats32:
    """How far each voxel of `mask` is from everything else, mm; 0 outside of it. The border is no end."""
    out = np.zeros(mask.shape, np.float32)
    box = box_of(mask)
    if box is None:
        return out
    # what the array ends at counts as more of the same: a lung that is cut off keeps its last slice
    part = np.pad(mask[box], 1, constant_values=False)
    for axis, side in enumerate(box):
        for end, at_border in ((0, side.start == 0), (-1, side.stop == mask.shape[axis])):
            if at_border:
                target: list[slice | int] = [slice(None)] * 3
                source: list[slice | int] = [slice(None)] * 3
                target[axis], source[axis] = end, 1 if end == 0 else -2
                part[tuple(target)] = part[tuple(source)]
    out[box] = ndimage.distance_transform_edt(part, sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    return out


def opened(mask: Mask, spacing_mm: tuple[float, float, float], radius_mm: float) -> Mask:
    """What of `mask` a ball of `radius_mm` covers that lies wholly inside it."""
    return mask & within(deeper(mask, spacing_mm, radius_mm), spacing_mm, radius_mm)


def closed(mask: Mask, spacing_mm: tuple[float, float, float], radius_mm: float) -> Mask:
    """`mask` with all that a ball of `radius_mm`, rolling outside of it, cannot reach."""
    grown = within(mask, spacing_mm, radius_mm)
    return mask | deeper(grown, spacing_mm, radius_mm)
