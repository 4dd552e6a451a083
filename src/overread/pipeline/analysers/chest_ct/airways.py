"""Trachea and bronchi: found by their shape from slice to slice, then grown at full resolution as far as it is safe.

The threshold of the growth is raised until the region spills into the lung, and the last one before is taken: the
method of Mori et al. (IEEE Trans Med Imaging 2000;19:103), with a limit on what a spill may be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.segment import Mask
from overread.domain.volume import Volume
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid, Floats32, within

#: Air in the trachea against soft tissue, on blocks of 2 mm, HU.
_LUMEN_HU = -600.0
#: Cross-section that a trachea has, mm2: Breatnach et al. (AJR 1984;142:903) 10 to 27 mm wide, here with room.
_AREA_MM2 = (50.0, 900.0)
#: How far from the middle of the body it may lie, mm, and how long it must be seen.
_OFF_MIDDLE_MM, _SEEN_MM = 45.0, 20.0
#: Box around its lower end in which bronchi are followed: to each side, to front and back, below, mm.
_REACH_MM = (75.0, 55.0, 80.0)
#: Thresholds that are tried, HU.
_THRESHOLDS = tuple(range(-970, -779, 15))
#: A step that adds more than this is a spill, mL; so is a whole tree below the trachea larger than that.
_SPILL_ML, _TREE_ML = 15.0, 70.0
_SMOOTH_MM = 0.8
#: Lumen against the wall, HU, once the inside is known.
_WALL_HU = -550.0
#: How far the lumen may reach beyond what was grown, mm.
_RIM_MM = 1.6


@dataclass(frozen=True, kw_only=True, eq=False)
class Airways:
    """What was found, in a box of the volume."""

    #: bool, a box of the volume.
    mask: Mask
    #: Index of its first voxel.
    start: tuple[int, int, int]
    #: Column of the coarse grid at which the trachea ends below: the midline of the chest.
    middle_column: float
    #: Coarse slices in which the trachea itself was seen (lowest, highest).
    trachea: tuple[int, int]
    #: Row of the coarse grid at which it ends.
    carina_row: float
    #: Whether bronchi were followed; if not, even the lowest threshold spilled into the lung.
    followed: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lumen:
    """One round dark spot in one slice."""

    index: int
    row: float
    column: float
    pixels: NDArray[np.intp]


def find_airways(volume: Volume, grid: CoarseGrid, body: Mask) -> Airways | None:
    """Trachea and bronchi of an upright volume; None if no trachea is in it."""
    chain = _trachea(grid, body)
    if chain is None:
        return None
    return _grow(volume, grid, chain)


def _trachea(grid: CoarseGrid, body: Mask) -> list[_Lumen] | None:
    """The longest chain of lumina that lie below each other, from above; None if none is long enough."""
    chains: list[list[_Lumen]] = []
    active: list[list[_Lumen]] = []
    for index in range(len(grid.hu) - 1, -1, -1):
        spots = _spots(grid, body, index)
        following = []
        for spot in spots:
            best = max((c for c in active if _continues(c[-1], spot)), key=lambda c: len(c), default=None)
            chain = [spot] if best is None else [*best, spot]
            following.append(chain)
            chains.append(chain)
        active = following
    longest = max(chains, key=len, default=None)
    if longest is None or len(longest) * grid.spacing_mm[0] < _SEEN_MM or len(longest) < 2:
        return None
    return longest


def _spots(grid: CoarseGrid, body: Mask, index: int) -> list[_Lumen]:
    plane = body[index]
    if not plane.any():
        return []
    _, row_mm, column_mm = grid.spacing_mm
    middle = float(np.flatnonzero(plane.any(axis=0)).mean())
    labels, _ = ndimage.label((grid.hu[index] < _LUMEN_HU) & plane)
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        tall, wide = (s.stop - s.start for s in box)
        if abs((box[1].start + box[1].stop - 1) / 2 - middle) * column_mm > _OFF_MIDDLE_MM:
            continue
        if max(tall * row_mm, wide * column_mm) > 45.0:
            continue
        rows, columns = np.nonzero(labels[box] == number)
        area = len(rows) * row_mm * column_mm
        if not _AREA_MM2[0] <= area <= _AREA_MM2[1] or len(rows) < 0.45 * tall * wide:
            continue
        rows, columns = rows + box[0].start, columns + box[1].start
        if float(grid.hu[index, rows, columns].min()) > -850.0:
            continue
        flat = np.asarray(rows * plane.shape[1] + columns)
        found.append(_Lumen(index=index, row=float(rows.mean()), column=float(columns.mean()), pixels=flat))
    return found


def _continues(upper: _Lumen, lower: _Lumen) -> bool:
    ratio = len(lower.pixels) / len(upper.pixels)
    return 0.4 <= ratio <= 2.5 and np.intersect1d(upper.pixels, lower.pixels).size > 0


def _grow(volume: Volume, grid: CoarseGrid, chain: list[_Lumen]) -> Airways:
    """From the trachea's inside to what is connected, at the highest threshold that does not spill."""
    deep, high, wide = grid.factors
    last = chain[-1]
    spacing = volume.spacing_mm
    sideways, forward, below = _REACH_MM
    rows = [c.row * high for c in chain]
    columns = [c.column * wide for c in chain]
    low = (
        max(0, int(last.index * deep - below / spacing[0])),
        max(0, int(min(rows) - forward / spacing[1])),
        max(0, int(min(columns) - sideways / spacing[2])),
    )
    end = (
        min(volume.shape[0], (chain[0].index + 1) * deep),
        min(volume.shape[1], int(max(rows) + forward / spacing[1]) + 1),
        min(volume.shape[2], int(max(columns) + sideways / spacing[2]) + 1),
    )
    box = tuple(slice(a, b) for a, b in zip(low, end, strict=True))
    hu: Floats32 = volume.hu[box].astype(np.float32)
    smooth = ndimage.gaussian_filter(hu, [_SMOOTH_MM / step for step in spacing], truncate=3.0)
    seeds = np.zeros(grid.hu.shape, np.bool_)
    flat = seeds.reshape(len(seeds), -1)
    for lumen in chain:
        flat[lumen.index, lumen.pixels] = True
    seed = grid.fine(seeds, low[0], end[0], box[1], box[2])
    trachea_ml = int(np.count_nonzero(seed)) * volume.voxel_ml
    inner = seed & (smooth < -850.0)
    mask, followed = inner, False
    before = trachea_ml
    for threshold in _THRESHOLDS:
        region = _connected(smooth < threshold, inner)
        ml = int(np.count_nonzero(region)) * volume.voxel_ml
        if ml - before > _SPILL_ML or ml - trachea_ml > _TREE_ML:
            break
        mask, before, followed = region, max(before, ml), True
    # to the wall, from which the low thresholds stay away, but not through it
    mask = (within(mask, spacing, _RIM_MM) | seed) & (smooth < _WALL_HU)
    return Airways(
        mask=mask,
        start=low,
        middle_column=last.column,
        carina_row=last.row,
        trachea=(last.index, chain[0].index),
        followed=followed,
    )


def _connected(allowed: Mask, seed: Mask) -> Mask:
    """The pieces of `allowed` that hold any of `seed`."""
    labels, count = ndimage.label(allowed)
    wanted = np.zeros(count + 1, np.bool_)
    wanted[np.unique(labels[seed])] = True
    wanted[0] = False
    return np.asarray(wanted[labels])
