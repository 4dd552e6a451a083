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
from overread.pipeline.analysers.chest_ct.cavity import HalfChest, half_chests
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
#: Free air, HU; its borders towards the pleural line, and towards the chest wall.
_AIR_HU, _AIR_LINE_HU, _AIR_WALL_HU = -935.0, -760.0, -475.0
#: How deep under the ribs it is followed along the wall, mm.
_SHELL_MM = 14.0
#: Lung thinner than this between free air and the chest wall is the border of the air itself, mm.
_SLIVER_MM = 4.0
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
    for half in halves:
        air = find_air(volume, grid, half, (body | lungs) & ~taken, _median(grid, lungs))
        if air is not None:
            _draw_air(volume, labels, grid, half, air)
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


def _draw_air(volume: Volume, labels: Labels, grid: CoarseGrid, half: HalfChest, air: CoarseAir) -> None:
    """From the inside of the free air to the pleural line and the chest wall, in `labels`."""
    on_wall = air.layer.on_grid(grid)[0]
    # along the wall it is followed until it is too thin to be empty, for the slices and pixels of the whole half
    shell = half.inside(-4.0) & ~half.inside(_SHELL_MM)
    box = _fine_box(grid, shell | air.mask, 0)
    levels = range(box[0].start // grid.factors[0], -(-box[0].stop // grid.factors[0]))
    part = labels[box]
    lung = (part == Tissue.RIGHT_LUNG) | (part == Tissue.LEFT_LUNG)
    allowed = (part == Tissue.BODY) | lung
    empty = np.zeros(part.shape, np.bool_)
    sure = np.zeros(part.shape, np.bool_)
    plane: list[tuple[slice, slice]] = []
    for level in levels:
        span, at = _span(level, grid, labels, box[0].start)
        plane.append((span, at))
        hu = _smoothed(volume.hu[span, box[1], box[2]], volume.spacing_mm)
        inner = grid.fine(air.mask, span.start, span.stop, box[1], box[2])
        near = grid.fine(shell | air.mask, span.start, span.stop, box[1], box[2])
        layer = np.zeros(part.shape[1:], np.bool_)
        if on_wall[level].any():
            layer = air.layer.within(grid, level, fine=True)[0][box[1:]]
        sure[at] = allowed[at] & ((inner & (hu < _AIR_HU)) | (layer & (hu < _AIR_WALL_HU)))
        empty[at] = allowed[at] & near & (hu < _AIR_HU)
    pieces, _ = ndimage.label(empty | sure)
    numbers = np.unique(pieces[sure])
    region = np.isin(pieces, numbers[numbers > 0])
    del pieces, empty, sure
    sliver = max(1, round(_SLIVER_MM / 2 / volume.spacing_mm[1]))
    for span, at in plane:
        if not region[at].any():
            continue
        hu = _smoothed(volume.hu[span, box[1], box[2]], volume.spacing_mm)
        here = region[at]
        here |= ndimage.binary_dilation(here, _IN_PLANE, mask=allowed[at] & (hu < _AIR_LINE_HU))
        # what is left of the lung between free air and chest wall is too thin to be lung
        near = ndimage.binary_dilation(here, _IN_PLANE, iterations=2) & allowed[at] & ~here & (hu < _AIR_WALL_HU)
        thick = ndimage.binary_erosion(lung[at] & ~here, _IN_PLANE, iterations=sliver)
        here |= near & ~ndimage.binary_dilation(thick, _IN_PLANE, iterations=sliver + 1)
        part[at][here] = Tissue.PLEURAL_AIR


def _span(level: int, grid: CoarseGrid, labels: Labels, start: int) -> tuple[slice, slice]:
    """Slices of a coarse slice, in the volume and from `start`."""
    first, last = level * grid.factors[0], min((level + 1) * grid.factors[0], len(labels))
    return slice(first, last), slice(first - start, last - start)


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
