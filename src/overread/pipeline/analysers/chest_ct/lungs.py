"""The lungs on the coarse grid: air in the body that is neither airway nor gas of the gut, left and right apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from overread.domain.segment import Mask
from overread.pipeline.analysers.chest_ct.airways import Airways
from overread.pipeline.analysers.chest_ct.grid import (
    CoarseGrid,
    Floats32,
    box_of,
    closed,
    deeper,
    depths,
    opened,
    within,
)

#: What is taken for air at first, HU: half-way between ordinary lung and soft tissue.
AERATED_HU = -420.0
#: Inside of gas that is in no lung (stomach, bowel, pleura): darker than any lung with its vessels, HU.
_GAS_HU = -960.0
#: The smallest lung, mL; a share of the larger one that the smaller must have.
_SMALLEST_ML, _SMALLEST_SHARE = 80.0, 0.06
#: Wall of an airway that goes with it, mm.
_AIRWAY_WALL_MM = 2.0
#: Balls that roll over the lung from outside, mm: into vessels and the hilum; over what sits on the chest wall.
_CLOSE_MM, _WALL_CLOSE_MM = 6.0, 14.0
#: What the larger ball adds must be at least this thick to be more than the dent of a rib, mm.
_THICK_MM = 4.0
#: How far under the hull of both lungs the pleura of the ribs lies, mm; directions in which the hull is looked at.
_COSTAL_MM, _DIRECTIONS = 16.0, 48
#: Reach of the hilum around the bronchi that lie so far from the midline, and the ball that rolls there, mm.
_HILUM_MM, _BESIDE_MM, _HILUM_CLOSE_MM = 14.0, 20.0, 10.0
#: Erosion that is tried to part lungs that touch, mm.
_CUTS_MM = (1.5, 2.5, 3.5, 4.5, 6.0, 8.0, 10.0, 13.0)
#: Share of both lungs that a half must have to be one.
_HALF_SHARE = 0.12
#: A second piece with more than this share of the first, its middle so far beside it, mm, is the other lung.
_APART_SHARE, _BESIDE_EACH_OTHER_MM = 0.5, 70.0
#: How far from the middle of the body the trachea may end, mm.
_OFF_MIDDLE_MM = 30.0
#: A third piece whose middle lies in this lowest share of the lungs' height is none of them.
_BOTTOM_SHARE = 0.33


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseLungs:
    """Both lungs on the coarse grid. Either may be empty."""

    #: Inside the pleura: with vessels and what lies on the chest wall; without airways.
    right: Mask
    left: Mask
    #: What of them holds air.
    aerated: Mask
    #: Median of the aerated part, HU.
    median_hu: float
    #: Whether they touched and had to be parted.
    touching: bool

    @property
    def both(self) -> Mask:
        return np.asarray(self.right | self.left)


def find_lungs(grid: CoarseGrid, body: Mask, airways: Airways | None) -> CoarseLungs | None:
    """The lungs; None if no air in the body looks like one."""
    air = (grid.hu < AERATED_HU) & body
    tubes = np.zeros_like(air)
    if airways is not None:
        tubes = grid.coarse(airways.mask, airways.start)
        air &= ~within(tubes, grid.spacing_mm, _AIRWAY_WALL_MM)
    air = _without_skin_folds(air, body, grid)
    pieces = _pieces(grid, air)
    if not pieces:
        return None
    middle = _middle(grid, body, pieces, airways)
    right, left, touching = _sides(grid, pieces, middle)
    median = float(np.median(grid.hu[right | left]))
    aerated = right | left
    right, left = _filled(grid, right, left, body & ~tubes, _hila(grid, tubes, airways, middle))
    return CoarseLungs(right=right, left=left, aerated=aerated, median_hu=median, touching=touching)


def _without_skin_folds(air: Mask, body: Mask, grid: CoarseGrid) -> Mask:
    """Air that is not reached from outside the body within a slice."""
    rim = body & ~ndimage.binary_erosion(body, np.ones((1, 3, 3), np.bool_), border_value=1)
    labels, count = ndimage.label(air, structure=_PLANE)
    touched = np.zeros(count + 1, np.bool_)
    touched[np.unique(labels[rim])] = True
    sizes = np.bincount(labels.ravel(), minlength=count + 1) * grid.spacing_mm[1] * grid.spacing_mm[2]
    touched &= sizes < 2000.0
    touched[0] = False
    return air & ~touched[labels]


_PLANE = np.zeros((3, 3, 3), np.bool_)
_PLANE[1, 1, :] = _PLANE[1, :, 1] = True


def _pieces(grid: CoarseGrid, air: Mask) -> list[Mask]:
    """Pieces of air that can be lungs or parts of them, the larger first."""
    labels, count = ndimage.label(air)
    if count == 0:
        return []
    sizes = np.bincount(labels.ravel()) * grid.voxel_ml
    sizes[0] = 0
    found: list[Mask] = []
    largest = 0.0
    for number in np.argsort(sizes)[::-1][:8]:
        if sizes[number] < max(_SMALLEST_ML, _SMALLEST_SHARE * largest):
            break
        piece = labels == number
        inside = deeper(piece, grid.spacing_mm, 4.0)
        if not inside.any() or float(np.mean(grid.hu[inside])) < _GAS_HU:
            continue
        found.append(piece)
        largest = max(largest, float(sizes[number]))
    return found


def _middle(grid: CoarseGrid, body: Mask, pieces: list[Mask], airways: Airways | None) -> float:
    """Column of the midline: where the trachea ends, or the middle of the body beside the lungs.

    Where the chain of round spots ran on from the trachea into a bronchus it ends far from the middle of the body, and
    is not believed.
    """
    levels = np.logical_or.reduce(pieces).any(axis=(1, 2))
    middle = float(np.flatnonzero(body[levels].any(axis=(0, 1))).mean())
    if airways is None or abs(airways.middle_column - middle) * grid.spacing_mm[2] > _OFF_MIDDLE_MM:
        return middle
    return airways.middle_column


def _column(mask: Mask) -> float:
    """Mean column of a mask."""
    across = mask.sum(axis=(0, 1))
    return float((across * np.arange(len(across))).sum() / max(1, int(across.sum())))


def _sides(grid: CoarseGrid, pieces: list[Mask], middle: float) -> tuple[Mask, Mask, bool]:
    """(right, left, whether they touched). Columns grow to the patient's left."""
    main, rest = pieces[0], pieces[1:]
    at = round(middle)
    share = int(np.count_nonzero(main[..., :at])) / int(np.count_nonzero(main))
    # a second piece nearly as large is the other lung: then the first is one lung, wherever the midline lies
    apart = bool(rest) and int(np.count_nonzero(rest[0])) > _APART_SHARE * int(np.count_nonzero(main))
    apart = apart and abs(_column(rest[0]) - _column(main)) * grid.spacing_mm[2] > _BESIDE_EACH_OTHER_MM
    touching = _HALF_SHARE < share < 1 - _HALF_SHARE and not apart
    if touching:
        right, left = _parted(grid, main, at)
    elif apart:
        other, rest = rest[0], rest[1:]
        right, left = (main, other) if _column(main) < _column(other) else (other, main)
    else:
        nothing = np.zeros_like(main)
        main_right = share >= 0.5
        other = next((piece for piece in rest if (_column(piece) < middle) is not main_right), nothing)
        rest = [piece for piece in rest if piece is not other]
        right, left = (main, other) if main_right else (other, main)
    levels = np.flatnonzero((right | left).any(axis=(1, 2)))
    low = levels[0] + _BOTTOM_SHARE * (levels[-1] - levels[0])
    for piece in rest:  # what consolidation or fluid in a fissure cuts off; at the bottom it may be bowel
        if float(np.mean(np.nonzero(piece)[0])) < low:
            continue
        if _column(piece) < middle:
            right = right | piece
        else:
            left = left | piece
    return right, left, touching


def _parted(grid: CoarseGrid, whole: Mask, middle: int) -> tuple[Mask, Mask]:
    """Lungs that touch: eroded until they come apart, then grown back inside what they were."""
    total = int(np.count_nonzero(whole))
    depth = depths(whole, grid.spacing_mm)
    for cut in _CUTS_MM:
        labels, count = ndimage.label(depth > cut)
        if count < 2:
            continue
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        first, second = (int(n) for n in np.argsort(sizes)[::-1][:2])
        if sizes[second] < _HALF_SHARE * total:
            continue
        one, two = _column(labels == first), _column(labels == second)
        if not min(one, two) < middle < max(one, two):
            continue
        right, left = (first, second) if one < two else (second, first)
        return _grown_back(labels == right, labels == left, whole)
    right_half = whole.copy()
    right_half[..., middle:] = False
    return right_half, whole & ~right_half


def _grown_back(right: Mask, left: Mask, whole: Mask) -> tuple[Mask, Mask]:
    """Both grown inside `whole`, layer by layer in turn, until nothing is left to reach."""
    right, left = right.copy(), left.copy()
    while True:
        new_right = ndimage.binary_dilation(right, mask=whole & ~left) | right
        new_left = ndimage.binary_dilation(left, mask=whole & ~new_right) | left
        if np.array_equal(new_right, right) and np.array_equal(new_left, left):
            return new_right, new_left
        right, left = new_right, new_left


def _hila(grid: CoarseGrid, tubes: Mask, airways: Airways | None, column: float) -> Mask:
    """Around the bronchi below the trachea and beside the midline, where the great vessels enter the lungs."""
    bronchi = tubes.copy()
    if airways is None:
        return bronchi
    bronchi[airways.trachea[0] + 1 :] = False
    beside = round(_BESIDE_MM / grid.spacing_mm[2])
    middle = round(column)
    bronchi[..., max(0, middle - beside) : middle + beside + 1] = False
    return within(bronchi, grid.spacing_mm, _HILUM_MM)


def _filled(grid: CoarseGrid, right: Mask, left: Mask, allowed: Mask, hila: Mask) -> tuple[Mask, Mask]:
    """Holes, vessels, the hilum, and what sits on the chest wall go into the lungs; never from one into the other."""
    costal = _hull_depth(grid, right | left) < _COSTAL_MM
    filled_right = _filled_one(grid, right, allowed & ~left, costal, hila)
    filled_left = _filled_one(grid, left, allowed & ~filled_right, costal, hila)
    return filled_right, filled_left


def _hull_depth(grid: CoarseGrid, lungs: Mask) -> Floats32:
    """How deep each voxel lies inside the convex hull that both lungs have in its slice, mm; below 0 outside.

    Small near ribs and pleura, large at the hilum.
    """
    row, column = (
        np.arange(size, dtype=np.float32) * np.float32(mm)
        for size, mm in zip(lungs.shape[1:], grid.spacing_mm[1:], strict=True)
    )
    depth = np.full(lungs.shape, -1.0, np.float32)
    angles = np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)
    for index in np.flatnonzero(lungs.any(axis=(1, 2))):
        rows, columns = np.nonzero(lungs[index])
        plane = np.full(lungs.shape[1:], np.inf, np.float32)
        for down, across in zip(np.sin(angles).astype(np.float32), np.cos(angles).astype(np.float32), strict=True):
            reach = (row[rows] * down + column[columns] * across).max()
            np.minimum(plane, reach - (row[:, None] * down + column[None] * across), out=plane)
        depth[index] = plane
    return depth


def _filled_one(grid: CoarseGrid, lung: Mask, allowed: Mask, costal: Mask, hila: Mask) -> Mask:
    deep, high, wide = (int((_WALL_CLOSE_MM + 2.0) / step) + 2 for step in grid.spacing_mm)  # room for the ball
    box = box_of(lung, (deep, high, wide))
    if box is None:
        return lung
    part, inside = lung[box], allowed[box]
    small = closed(part, grid.spacing_mm, _CLOSE_MM)
    small = ndimage.binary_fill_holes(small) & inside | part
    small |= _in_the_hilum(grid, small, hila[box]) & inside
    out = np.zeros_like(lung)
    out[box] = small | (_on_the_wall(grid, small) & inside & costal[box])
    return out


def _in_the_hilum(grid: CoarseGrid, lung: Mask, hila: Mask) -> Mask:
    """Vessels beside the bronchi that are too thick for the small ball, and what they close in within a slice."""
    if not hila.any():
        return hila
    filled = lung | (closed(lung, grid.spacing_mm, _HILUM_CLOSE_MM) & hila)
    labels, count = ndimage.label(ndimage.binary_fill_holes(filled, _PLANE) & ~filled, structure=_PLANE)
    near = np.zeros(count + 1, np.bool_)
    near[np.unique(labels[hila])] = True
    near[0] = False
    return np.asarray(filled & ~lung | near[labels])


def _on_the_wall(grid: CoarseGrid, lung: Mask) -> Mask:
    """Compact things that a larger ball adds where the lung is rounded: nodules on the pleura, not ribs or heart."""
    larger = closed(lung, grid.spacing_mm, _WALL_CLOSE_MM) & ~lung
    return opened(larger, grid.spacing_mm, _THICK_MM / 2) if larger.any() else larger
