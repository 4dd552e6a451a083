"""Free pleural air: on the chest wall, emptier than lung, bounded towards the lung by the line of the visceral pleura.

It is recognised in profiles along the wall (`pleura_profile`), where the line stands out, and from there followed
inwards on the coarse grid as far as it is empty. Emphysema reaches the wall too, but passes into lung without a line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.segment import Mask
from overread.domain.volume import AIR_HU, Volume
from overread.pipeline.analysers.chest_ct.cavity import HalfChest
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid, Floats32, opened
from overread.pipeline.analysers.chest_ct.pleura_profile import (
    DEPTHS_MM,
    STEP_MM,
    Layer,
    along_the_wall,
    area_cm2,
    profiles,
    wall_sigma,
)

#: Sigma of the average along the wall, mm (not from slice to slice: the wall may be steep), and where air is looked
#: for, degrees from straight out to the side.
_ALONG_MM, _DEGREES = (0.0, 3.0), (-127.0, 136.0)
#: Free air: half-way from air to lung, within these limits, HU.
_LIMIT_HU = (-955.0, -922.0)
#: Where it is thin, the profile dips below this and rises to the line by so much, HU.
_THIN_HU, _DIP_HU = -690.0, 20.0
#: It begins at most this far inside the ribs, mm.
_BEGINS_MM = 12.0
#: Its borders, HU: to the chest wall, and to the pleural line.
_WALL_HU, _LINE_HU = -475.0, -790.0
#: The line: within this many steps of the air, this much denser than the lung behind it, HU.
_LINE_STEPS, _LUNG_STEPS, _LINE_RISE_HU = 5, 16, 45.0
#: A piece: least area of wall that is sure, cm2; volume, mL; average thickness, mm; share of that area with a line,
#: less where the median is as empty as air.
_LEAST_CM2, _LEAST_ML, _THICK_MM = 10.0, 6.0, 1.0
_LINE_SHARE, _LINE_SHARE_EMPTY, _EMPTY_HU = 0.6, 0.28, -992.0
#: What hangs on it further in: at most so many times as much, and mL more. Emphysema that a bulla reaches has more.
_DEEPER, _DEEPER_ML = 2.0, 60.0
#: Smoothing and half the least thickness of what is followed inwards, mm.
_SMOOTH_MM, _BALL_MM = 1.0, 2.2


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseAir:
    """Free air of one half."""

    layer: Layer
    #: The same and what lies further in, on the coarse grid.
    mask: Mask


def find_air(volume: Volume, grid: CoarseGrid, half: HalfChest, candidates: Mask, lung_hu: float) -> CoarseAir | None:
    """Free air of one half; None if there is none.

    `candidates` may be pleura: lung and what was neither lung nor airway. `lung_hu` is the median of aerated lung.
    """
    limit = float(np.clip((AIR_HU + lung_hu) / 2, *_LIMIT_HU))
    layer = _layer(volume, grid, half, limit)
    if layer is None:
        return None
    on_wall = layer.on_grid(grid)[0] & candidates
    smooth = ndimage.gaussian_filter(grid.hu, [_SMOOTH_MM / step for step in grid.spacing_mm], truncate=2.5)
    empty = (smooth < limit) & candidates & half.inside(-6.0)
    empty = opened(empty, grid.spacing_mm, _BALL_MM)
    labels, _ = ndimage.label(empty | on_wall)
    numbers = np.unique(labels[on_wall])
    mask = np.isin(labels, numbers[numbers > 0])
    if grid.ml(mask) > _DEEPER * layer.volume_ml + _DEEPER_ML:
        return None
    return CoarseAir(layer=layer, mask=mask)


def _layer(volume: Volume, grid: CoarseGrid, half: HalfChest, limit: float) -> Layer | None:
    values = profiles(volume, grid, half, _DEGREES, 0.0)
    hu, _ = along_the_wall(values, np.ones(values.shape, np.bool_), grid, _ALONG_MM)
    count = len(DEPTHS_MM)
    at = np.arange(count)
    near = DEPTHS_MM <= _BEGINS_MM
    darkest = np.where(near, hu, np.inf)
    first = darkest.argmin(axis=2)
    value = darkest.min(axis=2)
    sure = value < limit
    # outwards to the chest wall, inwards to the line
    solid = (hu > _WALL_HU) & (at < first[..., None])
    start = np.where(solid.any(axis=2), count - solid[..., ::-1].argmax(axis=2), 0)
    dense = (hu > _LINE_HU) & (at > first[..., None])
    lasting = (hu > np.maximum(limit, value + _DIP_HU)[..., None]) & (at > first[..., None])
    ends = dense.any(axis=2)
    end = np.where(ends, dense.argmax(axis=2), count)
    leaves = np.where(lasting.any(axis=2), lasting.argmax(axis=2), count)
    # without a line the air ends where lung begins
    blurred = ~ends | (end - leaves > _LINE_STEPS)
    end = np.where(blurred, leaves, end)
    ahead = np.minimum(leaves[..., None] + np.arange(_LUNG_STEPS + _LINE_STEPS), count - 1)
    beyond = np.take_along_axis(hu, ahead, axis=2)
    peak = beyond[..., : _LINE_STEPS + 1].max(axis=2)
    line = (peak > np.median(beyond[..., _LINE_STEPS:], axis=2) + _LINE_RISE_HU) & (leaves < count)
    line |= sure & (leaves == count)
    # where it is too thin to be empty, its end is the line itself
    thin = ~sure & line & (value < _THIN_HU) & (peak > value + _DIP_HU)
    end = np.where(thin, leaves + beyond[..., : _LINE_STEPS + 1].argmax(axis=2), end)
    here = sure | thin
    thick = np.where(here, (end - start) * STEP_MM, 0.0).astype(np.float32)
    return _pieces(thick, start, end, line, np.where(sure, value, np.nan), grid, half)


def _pieces(
    thick: Floats32,
    start: NDArray[np.intp],
    end: NDArray[np.intp],
    line: Mask,
    empty_hu: Floats32,
    grid: CoarseGrid,
    half: HalfChest,
) -> Layer | None:
    """The layer of those pieces of wall that pass. `empty_hu` is NaN where a place is not sure to be free air."""
    even = ndimage.gaussian_filter(thick, wall_sigma(grid, (1.5, 2.0)), mode="nearest")
    labels, count = ndimage.label((even > _THICK_MM) & (thick > 0))
    area_of = area_cm2(half, grid)
    kept = np.zeros(thick.shape, np.bool_)
    for number in range(1, count + 1):
        piece = labels == number
        seen = piece & np.isfinite(empty_hu)
        area = float(area_of[seen].sum())
        ml = float((thick * area_of)[piece].sum()) / 10
        if area < _LEAST_CM2 or ml < _LEAST_ML:
            continue
        lined = float(np.mean(line[seen]))
        empty = float(np.median(empty_hu[seen])) < _EMPTY_HU
        if lined >= (_LINE_SHARE_EMPTY if empty else _LINE_SHARE):
            kept |= piece
    if not kept.any():
        return None
    ends = np.append(DEPTHS_MM, DEPTHS_MM[-1] + STEP_MM)
    return Layer(
        half=half,
        start_mm=np.where(kept, ends[start] - STEP_MM / 2, np.nan).astype(np.float32),
        end_mm=np.where(kept, ends[end] - STEP_MM / 2, np.nan).astype(np.float32),
        volume_ml=float((thick * area_of)[kept].sum()) / 10,
        hu=float(AIR_HU),
    )
