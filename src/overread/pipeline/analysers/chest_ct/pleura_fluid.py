"""Pleural fluid: homogeneous, between water and muscle, inside the ribs, beside the lung and on the chest wall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from overread.domain.segment import Mask
from overread.domain.volume import Volume
from overread.pipeline.analysers.chest_ct.cavity import HalfChest
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid, Floats32, box_of, opened, within
from overread.pipeline.analysers.chest_ct.pleura_layer import find_layer
from overread.pipeline.analysers.chest_ct.pleura_profile import Layer

#: Soft tissue and water, without fat and bone, HU of blocks: what is averaged.
_SOFT_HU = (-35.0, 100.0)
#: Sigma of that average, mm.
_SMOOTH_MM = 2.5
#: Averages that pleural fluid can have: transudates and exudates (Abramowitz et al., AJR 2009;192:618).
_FLUID_HU = (-12.0, 30.0)
#: Muscle of the chest wall: where it is looked for, and what it is where that fails.
_MUSCLE_HU, _USUAL_MUSCLE_HU = (30.0, 80.0), 50.0
#: How far below muscle the average of a seed must be.
_UNDER_MUSCLE_HU = 17.0
#: Spread of the values around a seed, HU: at most this factor of the variance in organs and muscle, and so much more
#: (of the borders); airless lung with its bronchi has more.
_UNEVEN, _USUAL_SPREAD_HU = (1.2, 100.0), 10.0
#: Fluid of one half is alike: averages over a sigma of, mm, differ by at most, HU.
_WIDE_MM, _ALIKE_HU = 6.0, 12.0
#: Half the least thickness of fluid, mm, and the least volume of a piece, mL.
_BALL_MM, _LEAST_ML = 3.0, 15.0
#: Less than this must lie in the rear half of the chest, mL: fluid sinks.
_SINKS_ML = 80.0
#: What counts as lying on the chest wall and as lying beside the lung, mm.
_WALL_MM, _BESIDE_MM = 5.0, 6.0
#: Shares of the surface of a piece that must do so; airless lung has much lung beside it and little wall.
_ON_WALL, _BESIDE_LUNG, _WALL_TO_LUNG = 0.25, 0.15, 0.5
#: How far fluid is followed beyond its seeds, mm.
_FOLLOW_MM = 9.0


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseFluid:
    """Fluid of one half."""

    #: On the coarse grid, the layer too.
    mask: Mask
    #: What of it is a layer on the chest wall.
    layer: Layer | None


def soft_average(grid: CoarseGrid, among: Mask, box: tuple[slice, slice, slice]) -> tuple[Floats32, Floats32]:
    """Mean and standard deviation of the soft tissue around each block of `box`, HU; NaN where there is little."""
    hu = grid.hu[box]
    soft = ((hu > _SOFT_HU[0]) & (hu < _SOFT_HU[1]) & among[box]).astype(np.float32)
    sigma = [_SMOOTH_MM / step for step in grid.spacing_mm]
    share = ndimage.gaussian_filter(soft, sigma, truncate=2.5)
    total = ndimage.gaussian_filter(soft * hu, sigma, truncate=2.5)
    squares = ndimage.gaussian_filter(soft * hu * hu, sigma, truncate=2.5)
    known = np.maximum(share, np.float32(1e-6))
    mean = np.where(share > 0.25, total / known, np.nan).astype(np.float32)
    return mean, np.sqrt(np.maximum(squares / known - mean * mean, 0)).astype(np.float32)


def muscle_hu(grid: CoarseGrid, body: Mask, halves: tuple[HalfChest, HalfChest]) -> float:
    """The mode of soft tissue outside the ribs, HU."""
    levels = (halves[0].depth_mm > 0).any(axis=(1, 2))
    outside = body & (halves[0].depth_mm < -4) & (halves[1].depth_mm < -4)
    outside[~levels] = False
    values = grid.hu[outside]
    values = values[(values > _MUSCLE_HU[0]) & (values < _MUSCLE_HU[1])]
    if values.size < 2000:
        return _USUAL_MUSCLE_HU
    counts, edges = np.histogram(values, bins=25, range=_MUSCLE_HU)
    smooth = ndimage.uniform_filter1d(counts.astype(np.float64), 5)
    return float(edges[int(smooth.argmax())] + edges[1] - edges[0]) if smooth.max() > 0 else _USUAL_MUSCLE_HU


def find_fluid(
    volume: Volume, grid: CoarseGrid, half: HalfChest, *, lungs: Mask, solid: Mask, muscle: float
) -> CoarseFluid | None:
    """Fluid of one half; None if there is none.

    `lungs` hold air or free air lies there; `solid` is what may be fluid: body and airless lung. `muscle` is the HU of
    the chest wall.
    """
    layer = find_layer(volume, grid, half, muscle)
    mask = _bulk(grid, half, lungs, solid, muscle, None if layer is None else layer.hu)
    if layer is not None:
        on_wall, behind = layer.on_grid(grid)
        on_wall &= solid
        mask = on_wall if mask is None else (mask & ~behind) | on_wall
    return None if mask is None else CoarseFluid(mask=mask, layer=layer)


def _bulk(
    grid: CoarseGrid, half: HalfChest, lungs: Mask, solid: Mask, muscle: float, layer_hu: float | None
) -> Mask | None:
    """Fluid that is thick in all directions; as dense as its layer on the chest wall, if one was found."""
    inside = half.inside(0.0)
    box = box_of(inside, (2, 2, 2))
    if box is None:
        return None
    average, spread = soft_average(grid, solid, box)
    deep = solid[box] & (average > muscle - 15) & (average < muscle + 20)
    usual = float(np.median(spread[deep])) if deep.any() else _USUAL_SPREAD_HU
    noise = 2.5 * max(0.0, usual - _USUAL_SPREAD_HU)
    seeds = inside[box] & solid[box] & (average > _FLUID_HU[0])
    seeds &= average < min(_FLUID_HU[1], muscle - _UNDER_MUSCLE_HU)
    seeds &= spread < np.sqrt(_UNEVEN[0] * usual**2 + _UNEVEN[1])
    seeds &= (grid.hu[box] > -60 - noise) & (grid.hu[box] < 75 + noise)
    seeds = opened(seeds, grid.spacing_mm, _BALL_MM)
    if layer_hu is not None:
        wide = _wide_average(grid, grid.hu[box], seeds)
        seeds = opened(seeds & (np.abs(wide - layer_hu) < _ALIKE_HU), grid.spacing_mm, _BALL_MM)
    kept = _plausible(grid, seeds, half.depth_mm[box], lungs[box], half.centre[0] - box[1].start)
    if not kept.any():
        return None
    core = average[ndimage.binary_erosion(kept)] if kept.sum() > 500 else average[kept]
    fluid = float(np.median(core)) if core.size else float(np.median(average[kept]))
    limit = (fluid + max(muscle, fluid + 14)) / 2
    grown = (average < limit) & (average > _FLUID_HU[0] - 12) & solid[box] & (half.depth_mm[box] > -2)
    grown &= (grid.hu[box] > -120) & (grid.hu[box] < 90 + noise)
    grown &= within(kept, grid.spacing_mm, _FOLLOW_MM)
    labels, _ = ndimage.label(grown | kept)
    numbers = np.unique(labels[kept])
    mask = np.zeros(grid.hu.shape, np.bool_)
    mask[box] = np.isin(labels, numbers[numbers > 0])
    return mask


def _wide_average(grid: CoarseGrid, hu: Floats32, mask: Mask) -> Floats32:
    """Mean of what of a mask lies around each block, HU."""
    sigma = [_WIDE_MM / step for step in grid.spacing_mm]
    share = ndimage.gaussian_filter(mask.astype(np.float32), sigma, truncate=2.0)
    total = ndimage.gaussian_filter(np.where(mask, hu, np.float32(0)), sigma, truncate=2.0)
    return np.asarray(total / np.maximum(share, np.float32(1e-6)))


def _plausible(grid: CoarseGrid, seeds: Mask, depth_mm: Floats32, lungs: Mask, middle_row: float) -> Mask:
    """The pieces that lie on the chest wall and beside the lung."""
    labels, _ = ndimage.label(seeds)
    kept = np.zeros_like(seeds)
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        grow = tuple(slice(max(0, s.start - 4), s.stop + 4) for s in place)
        piece = labels[grow] == number
        if grid.ml(piece) < _LEAST_ML:
            continue
        if grid.ml(piece) < _SINKS_ML and np.argwhere(piece)[:, 1].mean() + grow[1].start < middle_row:
            continue
        surface = piece & ~ndimage.binary_erosion(piece)
        at_wall = float(np.mean(depth_mm[grow][surface] < _WALL_MM))
        beside = float(np.mean(within(lungs[grow], grid.spacing_mm, _BESIDE_MM)[surface]))
        if at_wall >= max(_ON_WALL, _WALL_TO_LUNG * beside) and beside >= _BESIDE_LUNG:
            kept[grow] |= piece
    return kept
