"""The pleural space: fluid and free air in it, and lung without air beside it, which look like chest wall at first.

Both are found on the coarse grid inside the rib cage (`cavity`) and drawn on the voxels, where their borders are the
Hounsfield units half-way to what they touch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.segment import Mask
from overread.domain.tissue import Tissue
from overread.domain.volume import Volume
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy, Labels
from overread.pipeline.analysers.chest_ct.cavity import half_chests
from overread.pipeline.analysers.chest_ct.consolidation_fill import fill_airless
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid, Floats32, box_of, coarsen
from overread.pipeline.analysers.chest_ct.pleura_air import CoarseAir, find_air
from overread.pipeline.analysers.chest_ct.pleura_collection import PleuralCollection, fluid_and_air
from overread.pipeline.analysers.chest_ct.pleura_fluid import CoarseFluid, find_fluid, muscle_hu

#: Soft in-plane smoothing before a border is drawn, mm.
_SMOOTH_MM = 0.8
#: Border of fluid towards lung, HU: the lung beside fluid is pressed to -300 and more.
_FLUID_LUNG_HU = -170.0
#: Blocks below this lie partly in lung, HU.
_PARTLY_LUNG_HU = -140.0
#: Free air that no profile along the wall reaches, HU.
_AIR_HU = -935.0
#: Air outside the outline of the lungs that may be pleura, HU, and its least volume, mL.
_APART_HU, _APART_ML = -850.0, 60.0
#: Lowest share of the lungs' height in which gas may be that of the gut.
_LOW_SHARE = 0.4
#: Air of lung beside which a voxel is dense, and lung where none holds air, HU.
_AERATED_HU, _USUAL_LUNG_HU = -500.0, -850.0


def complete(anatomy: ChestAnatomy) -> ChestAnatomy:
    """`anatomy` with `PLEURAL_AIR` and `PLEURAL_FLUID`, and with airless lung added to the lungs.

    A scan without fluid and free air keeps its lungs as they are. Costs about one more pass over the voxels around the
    lungs; the labels of `anatomy` itself do not change.
    """
    volume = anatomy.volume
    grid = coarsen(volume)
    sampled = _sampled(anatomy.labels, grid)
    right, left = sampled == Tissue.RIGHT_LUNG, sampled == Tissue.LEFT_LUNG
    halves = half_chests(grid, right, left)
    if halves is None:
        return anatomy
    labels = anatomy.labels.copy()
    body, lungs = sampled == Tissue.BODY, right | left
    taken = np.zeros(grid.hu.shape, np.bool_)
    lung_hu = _median(grid, lungs)
    for half, lung in zip(halves, (right, left), strict=True):
        # a lung that has fallen together leaves air that no outline holds
        apart = _above_the_diaphragm(grid, body & (grid.hu < _APART_HU) & half.inside(), lungs)
        air = find_air(volume, grid, lung | apart, (body | lungs) & ~taken, lung_hu)
        if air is not None:
            _draw_air(volume, labels, grid, air)
            taken |= air.mask
    aerated = lungs & (grid.hu < _AERATED_HU) & ~taken
    solid = (body | lungs) & ~aerated & ~taken
    muscle = muscle_hu(grid, body, halves)
    for half in halves:
        fluid = find_fluid(volume, grid, half, lungs=aerated | taken, solid=solid & ~taken, muscle=muscle)
        if fluid is not None:
            _draw_fluid(volume, labels, grid, fluid)
            taken |= fluid.mask
    fill_airless(labels, grid, halves, (right & ~taken, left & ~taken), taken, muscle)
    return replace(anatomy, labels=labels)


def _sampled(labels: Labels, grid: CoarseGrid) -> Labels:
    """The label in the middle of each block."""
    places = (
        np.minimum(np.arange(n) * f + f // 2, size - 1)
        for n, f, size in zip(grid.hu.shape, grid.factors, labels.shape, strict=True)
    )
    return np.asarray(labels[np.ix_(*places)])


def _median(grid: CoarseGrid, lungs: Mask) -> float:
    """Median of aerated lung, HU."""
    values = grid.hu[lungs & (grid.hu < _AERATED_HU)]
    return float(np.median(values)) if values.size else _USUAL_LUNG_HU


def _above_the_diaphragm(grid: CoarseGrid, gas: Mask, lungs: Mask) -> Mask:
    """Large pieces of gas that lie in the upper part of the lungs' height: lower down it may be stomach or bowel."""
    levels = np.flatnonzero(lungs.any(axis=(1, 2)))
    low = levels[0] + _LOW_SHARE * (levels[-1] - levels[0])
    labels, count = ndimage.label(gas)
    sizes = np.bincount(labels.ravel(), minlength=count + 1) * grid.voxel_ml
    kept = np.zeros(count + 1, np.bool_)
    for number in np.flatnonzero(sizes[1:] >= _APART_ML) + 1:
        kept[number] = float(np.mean(np.nonzero(labels == number)[0])) > low
    return np.asarray(kept[labels])


def _draw_air(volume: Volume, labels: Labels, grid: CoarseGrid, air: CoarseAir) -> None:
    """From the chest wall to the pleural line, in `labels`."""
    box = _fine_box(grid, air.mask, 2)
    ring = ndimage.binary_dilation(air.deeper, _BLOCK) if air.deeper.any() else air.deeper
    for level in range(box[0].start // grid.factors[0], -(-box[0].stop // grid.factors[0])):
        span = slice(level * grid.factors[0], min((level + 1) * grid.factors[0], len(labels)))
        part = labels[span, box[1], box[2]]
        allowed = (part == Tissue.BODY) | (part == Tissue.RIGHT_LUNG) | (part == Tissue.LEFT_LUNG)
        here = np.broadcast_to(air.layer.within(grid, level, volume.spacing_mm, fine=True)[box[1:]], part.shape)
        if ring[level].any():
            hu = _smoothed(volume.hu[span, box[1], box[2]], volume.spacing_mm)
            here = here | (grid.fine(ring, span.start, span.stop, box[1], box[2]) & (hu < _AIR_HU))
        part[allowed & here] = Tissue.PLEURAL_AIR


def _draw_fluid(volume: Volume, labels: Labels, grid: CoarseGrid, fluid: CoarseFluid) -> None:
    ring = ndimage.binary_dilation(fluid.mask, _BLOCK)
    partly = ring & ~fluid.mask & (grid.hu < _PARTLY_LUNG_HU)
    box = _fine_box(grid, ring, 1)
    rows, columns = box[1:]
    for level in _levels(ring):
        span = slice(level * grid.factors[0], min((level + 1) * grid.factors[0], len(labels)))
        hu = _smoothed(volume.hu[span, rows, columns], volume.spacing_mm)
        part = labels[span, rows, columns]
        allowed = (part == Tissue.BODY) | (part == Tissue.RIGHT_LUNG) | (part == Tissue.LEFT_LUNG)
        near = grid.fine(fluid.mask | partly, span.start, span.stop, rows, columns)
        if fluid.layer is not None:
            on_wall, behind = (m[rows, columns] for m in fluid.layer.within(grid, level, fine=True))
            near = (near & ~behind) | on_wall
        part[allowed & near & (hu > _FLUID_LUNG_HU)] = Tissue.PLEURAL_FLUID


_IN_PLANE = ndimage.generate_binary_structure(2, 1)[None]
_BLOCK = ndimage.generate_binary_structure(3, 2)


def _levels(mask: Mask) -> list[int]:
    """Slices in which a mask has anything."""
    return [int(level) for level in np.flatnonzero(mask.any(axis=(1, 2)))]


def _fine_box(grid: CoarseGrid, mask: Mask, margin: int) -> tuple[slice, slice, slice]:
    """Voxels of the box around a coarse mask, with `margin` blocks more."""
    box = box_of(mask, (margin, margin, margin)) or (slice(0, 0), slice(0, 0), slice(0, 0))
    one, two, three = (
        slice(s.start * f, min(s.stop * f, size)) for s, f, size in zip(box, grid.factors, grid.fine_shape, strict=True)
    )
    return one, two, three


def _smoothed(hu: NDArray[Any], spacing_mm: tuple[float, float, float]) -> Floats32:
    sigma = (0.0, _SMOOTH_MM / spacing_mm[1], _SMOOTH_MM / spacing_mm[2])
    return np.asarray(ndimage.gaussian_filter(hu.astype(np.float32), sigma, truncate=3.0))


__all__ = ["PleuralCollection", "complete", "fluid_and_air"]
