"""Lung without air at the chest wall or the diaphragm: there nothing but its density and texture tell it from them.

It is less dense than muscle and liver, denser than fat, less even than fluid, inside the ribs and beside aerated lung.
Consolidation as dense as muscle that no lung surrounds is not told from it.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from overread.domain.segment import Mask
from overread.domain.tissue import Tissue
from overread.pipeline.analysers.chest_ct.anatomy import Labels
from overread.pipeline.analysers.chest_ct.cavity import HalfChest
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid, box_of, closed, opened, within
from overread.pipeline.analysers.chest_ct.pleura_fluid import soft_average

#: Averages of airless lung: denser than fat, at least so much under muscle, HU. Where that joins it with the heart or
#: the liver, what is further under muscle may still be lung by itself.
_DENSER_HU, _UNDER_MUSCLE_HU = -62.0, (11.0, 23.0, 35.0)
#: Half the least thickness, mm, and the least volume of a piece, mL.
_BALL_MM, _LEAST_ML = 4.0, 4.0
#: What counts as beside lung and as on the chest wall, mm; shares of the surface of a piece that must be.
_BESIDE_MM, _WALL_MM = 6.0, 5.0
_BESIDE_LUNG, _BOUNDED = 0.5, 0.6
#: Spread of its values: at most this factor of that in muscle and liver, and HU more. Fat beside muscle has more.
_UNEVEN, _USUAL_SPREAD_HU = (1.5, 2.5), 10.0
#: How far it is followed beyond its inside, and the ball that closes what is left towards the lung, mm.
_FOLLOW_MM, _CLOSE_MM = 8.0, 4.0
_NOWHERE = (slice(0, 0), slice(0, 0), slice(0, 0))


def fill_airless(
    labels: Labels,
    grid: CoarseGrid,
    halves: tuple[HalfChest, HalfChest],
    lungs: tuple[Mask, Mask],
    taken: Mask,
    muscle: float,
) -> None:
    """Add airless lung to the lungs, in `labels`. `lungs` are (right, left) on the grid, `taken` is fluid and air."""
    for half, lung, tissue in zip(halves, lungs, (Tissue.RIGHT_LUNG, Tissue.LEFT_LUNG), strict=True):
        if not lung.any():
            continue
        found = _airless(grid, half, lung, lungs[0] | lungs[1], taken, muscle)
        if found is None:
            continue
        box = box_of(found, (1, 1, 1)) or _NOWHERE
        rows, columns = (
            slice(s.start * f, min(s.stop * f, size))
            for s, f, size in zip(box[1:], grid.factors[1:], labels.shape[1:], strict=True)
        )
        for level in range(box[0].start, box[0].stop):
            first, last = level * grid.factors[0], min((level + 1) * grid.factors[0], len(labels))
            part = labels[first:last, rows, columns]
            part[(part == Tissue.BODY) & grid.fine(found, first, last, rows, columns)] = tissue


def _airless(grid: CoarseGrid, half: HalfChest, lung: Mask, lungs: Mask, taken: Mask, muscle: float) -> Mask | None:
    box = box_of(half.inside(0.0), (2, 2, 2))
    if box is None:
        return None
    hu, depth = grid.hu[box], half.depth_mm[box]
    free = ~taken[box] & ~(lungs & ~lung)[box]
    solid = free & (hu > -500)
    average, spread = soft_average(grid, ~taken & (grid.hu > -500), box)
    inside = solid & (depth >= 0)
    deep = (average > muscle - 10) & (average < muscle + 20)
    usual = float(np.median(spread[deep])) if deep.any() else _USUAL_SPREAD_HU
    most = _UNEVEN[0] * usual + _UNEVEN[1]
    noise = 2.5 * max(0.0, usual - _USUAL_SPREAD_HU)
    seeds = inside & (average > _DENSER_HU) & (hu > -130 - noise) & (hu < 110 + noise)
    kept = np.zeros_like(seeds)
    limits = np.zeros(hu.shape, np.float32)
    aerated = lung[box] & (hu < -500)
    for under in _UNDER_MUSCLE_HU:
        here = opened(seeds & (average < muscle - under) & ~kept, grid.spacing_mm, _BALL_MM)
        labels, _ = ndimage.label(here)
        for number, place in enumerate(ndimage.find_objects(labels), start=1):
            grow = tuple(slice(max(0, s.start - 6), s.stop + 6) for s in place)
            piece = labels[grow] == number
            if grid.ml(piece) < _LEAST_ML or float(np.median(spread[grow][piece])) > most:
                continue
            surface = piece & ~ndimage.binary_erosion(piece)
            beside = within(aerated[grow], grid.spacing_mm, _BESIDE_MM)[surface]
            bounded = beside | (depth[grow][surface] < _WALL_MM)
            if float(beside.mean()) >= _BESIDE_LUNG and float(bounded.mean()) >= _BOUNDED:
                kept[grow] |= piece
                reach = within(piece, grid.spacing_mm, _FOLLOW_MM)
                mean = float(np.median(average[grow][piece]))
                limits[grow] = np.maximum(limits[grow], np.where(reach, (mean + muscle) / 2, 0))
    if not kept.any():
        return None
    grown = inside & (average > _DENSER_HU - 15) & (average < limits) & (limits != 0) & (hu > -160)
    grown = opened(grown | kept, grid.spacing_mm, 1.5) | kept
    pieces, _ = ndimage.label(grown)
    numbers = np.unique(pieces[kept])
    body = np.isin(pieces, numbers[numbers > 0])
    whole = (
        closed(body | lung[box], grid.spacing_mm, _CLOSE_MM)
        & within(body, grid.spacing_mm, 2 * _CLOSE_MM)
        & solid
        & (depth > -1)
    )
    out = np.zeros(grid.hu.shape, np.bool_)
    out[box] = body | whole
    return out
