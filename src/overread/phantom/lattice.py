"""Smooth random variation in space: independent values on a lattice, linear in between, the same at any resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from overread.phantom.grid import Box, Floats, Grid


@dataclass(frozen=True, kw_only=True, eq=False)
class Lattice:
    """A field of mean 0 and a standard deviation of about 1 within its box, held constant outside."""

    #: float32 (z, y, x).
    values: npt.NDArray[np.float32]
    #: Place of values[0, 0, 0], x, y, z in mm, and the distance of the values, mm.
    origin: tuple[float, float, float]
    step: float

    def on(self, grid: Grid) -> Floats:
        """Values at the points of an axial ``grid``, float32 (planes, rows, columns)."""
        x0, y0, z0 = self.origin
        count_z, count_y, count_x = self.values.shape
        plane = _weights((grid.depths - z0) / self.step, count_z)
        down = _weights((grid.rows - y0) / self.step, count_y)
        across = _weights((grid.cols - x0) / self.step, count_x)
        planes = np.tensordot(plane, self.values, axes=(1, 0))
        return np.asarray(np.matmul(np.matmul(down, planes), across.T))

    def at(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Values at points (broadcast together)."""
        points = np.broadcast_arrays(z, y, x)
        low = (self.origin[2], self.origin[1], self.origin[0])
        index = [(p - np.float32(o)) / np.float32(self.step) for p, o in zip(points, low, strict=True)]
        return np.asarray(ndimage.map_coordinates(self.values, index, order=1, mode="nearest"))


def random_lattice(rng: np.random.Generator, box: Box, step: float, *, smooth: float = 0.0) -> Lattice:
    """A lattice over ``box``; with ``smooth`` (in steps) neighbouring values are alike."""
    low, high = (np.asarray(corner) for corner in box)
    counts = np.maximum(2, np.ceil((high - low) / step).astype(int) + 1)[::-1]
    values = rng.standard_normal(tuple(int(c) for c in counts), dtype=np.float32)
    if smooth:
        values = ndimage.gaussian_filter(values, smooth, mode="nearest")
        values /= max(float(values.std()), 1e-6)
    return Lattice(values=values, origin=(float(low[0]), float(low[1]), float(low[2])), step=step)


def _weights(index: Floats, count: int) -> npt.NDArray[np.float32]:
    """Rows of weights that take ``count`` values to positions ``index`` (in values) linearly."""
    index = np.clip(np.asarray(index, dtype=np.float64), 0, count - 1)
    low = np.minimum(index.astype(int), count - 2)
    part = index - low
    out = np.zeros((len(index), count), dtype=np.float32)
    rows = np.arange(len(index))
    out[rows, low] = 1 - part
    out[rows, low + 1] = part
    return out


def enlarge(coarse: Floats, shape: tuple[int, int], factor: int) -> Floats:
    """(planes, rows, columns) sampled at the middles of blocks of ``factor`` pixels, linearly to (planes, *shape)."""
    if factor == 1:
        return coarse
    down, across = (
        _weights((np.arange(count) + 0.5) / factor - 0.5, size)
        for count, size in zip(shape, coarse.shape[1:], strict=True)
    )
    return np.asarray(np.matmul(np.matmul(down, coarse.astype(np.float32, copy=False)), across.T))
