"""Where a phantom is sampled: planes of points, parallel for CT and diverging with the rays for a radiograph.

Frame: LPS+ in mm, x to the patient's left, y to the back, z to the head; the origin lies in the midline at
mid-depth of the chest, at the height of the right dome of the diaphragm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: Real numbers; float32 where they are many.
Floats = npt.NDArray[np.floating[Any]]
#: Signed level in mm at points x, y, z (broadcast together): negative inside, about the distance near the surface.
Level = Callable[[Floats, Floats, Floats], Floats]
#: (low, high) corners in mm, each (x, y, z).
Box = tuple[tuple[float, float, float], tuple[float, float, float]]

EVERYWHERE: Box = ((-1e4, -1e4, -1e4), (1e4, 1e4, 1e4))


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Sample points in planes.

    Point (d, r, c) lies at ``depths[d]`` on axis ``normal`` and at ``shrink[d] * rows[r]``, ``shrink[d] * cols[c]``
    on the two others: a shrink of 1 is a parallel grid (CT), one below 1 follows the rays of a point source, so that
    a column of the grid is a ray and ``rows``/``cols`` are detector coordinates.
    """

    #: Axis (0 x, 1 y, 2 z) across the planes.
    normal: int
    #: Axis down the rows, axis along the columns.
    row_axis: int
    col_axis: int
    #: Position of each plane, mm, ascending and evenly spaced, shape (D,).
    depths: Floats
    #: Detector coordinate of each row and column, mm, shape (R,) and (C,); rows may descend.
    rows: Floats
    cols: Floats
    #: Object size over detector size at each plane, shape (D,), in (0, 1].
    shrink: Floats

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of (planes, rows, columns)."""
        return len(self.depths), len(self.rows), len(self.cols)

    @property
    def step(self) -> float:
        """Distance of neighbouring planes, mm."""
        return float(self.depths[1] - self.depths[0]) if len(self.depths) > 1 else 1.0

    def points(self) -> tuple[Floats, Floats, Floats]:
        """x, y, z in mm, broadcastable to (D, R, C) and as small as they can be."""
        out: list[Floats] = [self.depths] * 3
        out[self.normal] = self.depths[:, None, None]
        out[self.row_axis] = self.shrink[:, None, None] * self.rows[None, :, None]
        out[self.col_axis] = self.shrink[:, None, None] * self.cols[None, None, :]
        return out[0], out[1], out[2]

    def window(self, box: Box, margin: float = 0.0) -> tuple[tuple[slice, slice, slice], Grid]:
        """The part of the grid that covers ``box`` widened by ``margin`` mm, and its place (D, R, C slices).

        The part may be empty along an axis when the box lies outside.
        """
        low, high = (np.asarray(corner, dtype=np.float64) for corner in box)
        low, high = low - margin, high + margin
        planes = _span(self.depths, float(low[self.normal]), float(high[self.normal]))
        shrink = self.shrink[planes] if planes.stop > planes.start else self.shrink[:1]
        least, most = float(shrink.min()), float(shrink.max())
        slices = [planes]
        for axis, values in ((self.row_axis, self.rows), (self.col_axis, self.cols)):
            a, b = float(low[axis]), float(high[axis])
            slices.append(_span(values, min(a / least, a / most), max(b / least, b / most)))
        part = Grid(
            normal=self.normal,
            row_axis=self.row_axis,
            col_axis=self.col_axis,
            depths=self.depths[slices[0]],
            rows=self.rows[slices[1]],
            cols=self.cols[slices[2]],
            shrink=self.shrink[slices[0]],
        )
        return (slices[0], slices[1], slices[2]), part


def _span(values: Floats, low: float, high: float) -> slice:
    inside = np.flatnonzero((values >= low) & (values <= high))
    if inside.size == 0:
        return slice(0, 0)
    return slice(int(inside[0]), int(inside[-1]) + 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fade:
    """A border that is not sharp: from all to nothing over ``width_mm`` around the surface of ``level``."""

    level: Level
    width_mm: float
    #: What has taken its part of the place already.
    excluded: tuple[Fade, ...] = ()

    def share(self, grid: Grid) -> Floats:
        """0 to 1 at the points of ``grid``."""
        share = coverage(self.level(*grid.points()), self.width_mm)
        for other in self.excluded:
            share = share * (1 - other.share(grid))
        return share


def axis_points(start: float, stop: float, step: float) -> Floats:
    """Evenly spaced centres of cells of ``step`` mm between ``start`` and ``stop`` (which may descend)."""
    count = max(2, round(abs(stop - start) / step))
    direction = 1.0 if stop > start else -1.0
    return (start + direction * step * (np.arange(count) + 0.5)).astype(np.float32)


def path_length(grid: Grid, level: Level, box: Box = EVERYWHERE, *, fade: Fade | None = None) -> Floats:
    """Length in mm of each ray of ``grid`` inside ``level``, shape (R, C), weighted with the share of ``fade``.

    Between two planes the level is taken as linear, so the length is continuous although the planes are coarse.
    Lengths run along ``normal``; multiply by the obliquity of the ray where that matters.
    """
    place, part = grid.window(box, margin=1.5 * grid.step)
    out = np.zeros(grid.shape[1:], dtype=np.float32)
    if min(part.shape) < 2:
        return out
    value = np.broadcast_to(level(*part.points()), part.shape)
    a, b = value[:-1], value[1:]
    inside = np.minimum(a, b)
    np.negative(inside, out=inside)
    np.maximum(inside, 0, out=inside)
    # both inside: the whole step; one inside: its share; none: 0
    share = inside / np.maximum(np.abs(a - b), inside + np.float32(1e-6))
    share[(a < 0) & (b < 0)] = 1.0
    if fade is not None:
        weight = np.broadcast_to(fade.share(part), part.shape)
        share = share * (0.5 * (weight[:-1] + weight[1:]))
    out[place[1], place[2]] = share.sum(axis=0) * np.float32(grid.step)
    return out


def coverage(level: Floats, width: float) -> Floats:
    """Share (0 to 1) of a voxel of ``width`` mm that lies inside a surface at signed distance ``level`` mm."""
    return np.asarray(np.clip(0.5 - level / np.float32(width), 0.0, 1.0), dtype=np.float32)
