"""A segment, slice by slice as the files have them: from its voxels through mm to the pixels of the stored slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.segment import Segment
from overread.domain.volume import Floats, Volume

#: Indices that are this near to whole numbers are taken for the same grid, voxels.
_ON_GRID = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentSlice:
    """The part of a segment on one stored slice, cut to a box around it."""

    #: Slice in the stored volume, from 0.
    index: int
    #: Row and column of `share[0, 0]` in the stored slice.
    row: int
    column: int
    #: float32 (rows, columns), 0..1: how much of a pixel belongs to the segment. At 0.5 and above it does.
    share: NDArray[np.float32]


def segment_slices(segment: Segment, stored: Volume) -> Iterator[SegmentSlice]:
    """The slices of `stored`, as `dicom.series` read it, on which the segment holds a pixel, in order.

    Where both have the same grid, turned or flipped, the pixels are the segment's voxels; else (a volume that was
    straightened or resampled) they are interpolated linearly in between. What lies outside `stored` is left out.
    Raises ValueError if the slices of `stored` do not lie along axis 0.
    """
    if stored.slice_axis != 0:
        raise ValueError("stored slices lie along axis 0: give the volume as dicom.series read it")
    to_segment = np.linalg.inv(segment.affine) @ stored.affine
    low, high = _box(segment, stored, to_segment)
    if (high <= low).any():
        return
    turned = _turned(segment, to_segment)
    for index in range(low[0], high[0]):
        if turned is not None:
            whole, start = turned
            at = index - start[0]
            if not 0 <= at < len(whole):
                continue
            first = (index, start[1], start[2])
            plane = whole[at].astype(np.float32)
        else:
            first = (index, low[1], low[2])
            plane = _resampled(segment, to_segment, first, (high[1] - low[1], high[2] - low[2]))
        cut = _cut(plane, first, stored)
        if cut is not None:
            yield cut


def _box(segment: Segment, stored: Volume, to_segment: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and one past the last index along each axis of `stored` that can belong to the segment."""
    sides = [(-1.0, float(count)) for count in segment.mask.shape]
    corners = np.array([(a, b, c, 1.0) for a in sides[0] for b in sides[1] for c in sides[2]])
    indices = (corners @ np.linalg.inv(to_segment).T)[:, :3]
    low = np.maximum(np.floor(indices.min(axis=0) - _ON_GRID).astype(np.intp), 0)
    high = np.minimum(np.ceil(indices.max(axis=0) + _ON_GRID).astype(np.intp) + 1, stored.shape)
    return low, high


def _turned(segment: Segment, to_segment: Floats) -> tuple[NDArray[np.bool_], tuple[int, int, int]] | None:
    """The mask with axes and directions of the stored volume, and the index where it starts; None off its grid."""
    turn = np.rint(to_segment[:3, :3])
    extent = max(segment.mask.shape)
    if np.abs(to_segment[:3, :3] - turn).max() * extent > _ON_GRID or not _is_turn(turn):
        return None
    back = np.linalg.inv(to_segment)
    # The stored index of the mask's first voxel; along flipped axes the mask reaches from there downwards.
    origin = back[:3, 3]
    start = np.rint(origin)
    if np.abs(origin - start).max() > 10 * _ON_GRID:
        return None
    order = [int(np.flatnonzero(turn[:, axis])[0]) for axis in range(3)]
    mask = segment.mask.transpose(order)
    for axis in range(3):
        if turn[order[axis], axis] < 0:
            mask = np.flip(mask, axis)
            start[axis] -= mask.shape[axis] - 1
    return mask, (int(start[0]), int(start[1]), int(start[2]))


def _is_turn(turn: Floats) -> bool:
    """Whether it only swaps and flips axes: one 1 or -1 in each row and column."""
    return bool((np.abs(turn).sum(axis=0) == 1).all() and (np.abs(turn).sum(axis=1) == 1).all())


def _resampled(
    segment: Segment, to_segment: Floats, first: tuple[int, int, int], size: tuple[int, int]
) -> NDArray[np.float32]:
    # The nudge breaks ties: where grids are half a voxel apart, one of two border pixels is in, not both.
    offset = to_segment[:3, :3] @ np.array(first, np.float64) + to_segment[:3, 3] + _ON_GRID
    out = np.zeros((1, *size), np.float32)
    ndimage.affine_transform(
        segment.mask.view(np.uint8), to_segment[:3, :3], offset, output=out, order=1, mode="grid-constant", cval=0.0
    )
    plane: NDArray[np.float32] = out[0]
    return plane


def _cut(plane: NDArray[np.float32], first: tuple[int, int, int], stored: Volume) -> SegmentSlice | None:
    """`plane` cut to what lies in the stored slice and is not 0; None if no pixel belongs to the segment."""
    index, row, column = first
    top, left = max(-row, 0), max(-column, 0)
    plane = plane[top : stored.shape[1] - row, left : stored.shape[2] - column]
    if not (plane >= 0.5).any():
        return None
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    return SegmentSlice(
        index=index,
        row=row + top + int(rows[0]),
        column=column + left + int(columns[0]),
        share=plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1],
    )
