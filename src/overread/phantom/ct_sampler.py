"""Shares of voxels inside surfaces: partial volume through the slice as well as within it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from overread.phantom.grid import Box, Floats, Grid, Level
from overread.phantom.lattice import enlarge

#: Smooth surfaces are sampled about this far apart, mm, and interpolated.
COARSE_MM = 3.0

Place = tuple[slice, slice, slice]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampler:
    """An axial grid whose planes are slices, with what turns levels into shares of its voxels."""

    grid: Grid
    #: Pixels to a coarse sample.
    factor: int

    @classmethod
    def of(cls, grid: Grid) -> Sampler:
        """For all of ``grid``."""
        pixel = abs(float(grid.cols[1] - grid.cols[0]))
        return cls(grid=grid, factor=max(1, int(COARSE_MM / pixel)))

    @property
    def pixel(self) -> float:
        """Distance of pixels, mm."""
        return abs(float(self.grid.cols[1] - self.grid.cols[0]))

    @cached_property
    def coarse(self) -> Grid:
        """Every ``factor``-th row and column, in the middle of a block."""
        if self.factor == 1:
            return self.grid
        return replace(
            self.grid, rows=_middles(self.grid.rows, self.factor), cols=_middles(self.grid.cols, self.factor)
        )

    def window(self, box: Box, margin: float = 0.0) -> tuple[Place, Sampler] | None:
        """The part that covers ``box``, on whole blocks, with at least two planes; None if it lies outside."""
        low, high = np.asarray(box[0]) - margin, np.asarray(box[1]) + margin
        step, count = self.grid.step, len(self.grid.depths)
        planes = np.flatnonzero((self.grid.depths > low[2] - 2 * step) & (self.grid.depths < high[2] + 2 * step))
        if planes.size == 0:
            return None
        first = max(0, min(int(planes[0]), count - 2))
        slices = [slice(first, min(count, max(int(planes[-1]) + 1, first + 2)))]
        for values, a, b in ((self.grid.rows, low[1], high[1]), (self.grid.cols, low[0], high[0])):
            hit = np.flatnonzero((values >= a) & (values <= b))
            if hit.size == 0:
                return None
            start = (max(0, int(hit[0]) - 1) // self.factor) * self.factor
            stop = min(len(values), -(-(int(hit[-1]) + 2) // self.factor) * self.factor)
            while stop - start < 2 * self.factor:
                start = max(0, start - self.factor)
                stop = min(len(values), stop + self.factor)
            slices.append(slice(start, stop))
        part = replace(
            self.grid,
            depths=self.grid.depths[slices[0]],
            rows=self.grid.rows[slices[1]],
            cols=self.grid.cols[slices[2]],
            shrink=self.grid.shrink[slices[0]],
        )
        return (slices[0], slices[1], slices[2]), Sampler(grid=part, factor=self.factor)

    def _sampled(self, level: Level, smooth: bool) -> tuple[Floats, Floats]:
        """``level``, mm, and the width of a voxel across its surface, mm, on the coarse or the fine grid."""
        grid = self.coarse if smooth else self.grid
        value = np.array(np.broadcast_to(level(*grid.points()), grid.shape), dtype=np.float32)
        rows, cols = (abs(float(v[1] - v[0])) for v in (grid.rows, grid.cols))
        width = np.full_like(value, 0.25 * self.pixel)
        for axis, step, size in ((0, grid.step, grid.step), (1, rows, self.pixel), (2, cols, self.pixel)):
            if value.shape[axis] > 1:
                slope = np.gradient(value, step, axis=axis)
                np.abs(slope, out=slope)
                np.minimum(slope, 2.0, out=slope)
                slope *= np.float32(size)
                width += slope
        return value, width

    def _enlarged(self, value: Floats, smooth: bool) -> Floats:
        return enlarge(value, self.grid.shape[1:], self.factor) if smooth else value

    def share(self, level: Level, *, smooth: bool = True) -> Floats:
        """0 to 1: how much of each voxel lies inside."""
        value, width = self._sampled(level, smooth)
        return _inside(self._enlarged(value / width, smooth))

    def sheet(self, level: Level, thickness: float) -> Floats:
        """Share of a sheet of that thickness, mm, around the surface."""
        value, width = self._sampled(level, True)
        half = np.float32(0.5 * thickness)
        return _inside(self._enlarged((value - half) / width, True)) - _inside(
            self._enlarged((value + half) / width, True)
        )

    def distance(self, level: Level) -> Floats:
        """The smooth ``level`` itself at each voxel, mm."""
        value = np.broadcast_to(level(*self.coarse.points()), self.coarse.shape)
        return enlarge(np.asarray(value, dtype=np.float32), self.grid.shape[1:], self.factor)

    def fine_share(self, level: Level, box: Box, sub_mm: float = 0.5) -> tuple[Place, Floats] | None:
        """Place and share of a small body, from many samples in each voxel."""
        found = Sampler(grid=self.grid, factor=1).window(box, margin=self.pixel)
        if found is None:
            return None
        place, part = found
        near = np.flatnonzero(
            (part.grid.depths + part.grid.step > box[0][2]) & (part.grid.depths - part.grid.step < box[1][2])
        )
        if near.size == 0:
            return None
        start = place[0].start + int(near[0])
        place = (slice(start, start + near.size), place[1], place[2])
        deep, flat = (max(1, int(np.ceil(size / sub_mm))) for size in (part.grid.step, part.pixel))
        grid = replace(
            part.grid,
            depths=_divided(self.grid.depths[place[0]], self.grid.step, deep),
            rows=_divided(part.grid.rows, self.pixel, flat),
            cols=_divided(part.grid.cols, self.pixel, flat),
            shrink=np.ones(near.size * deep, dtype=np.float32),
        )
        value = np.broadcast_to(level(*grid.points()), grid.shape)
        share = np.clip(0.5 - value / np.float32(0.5 * (self.pixel / flat + self.grid.step / deep)), 0, 1)
        blocks = share.reshape(near.size, deep, len(part.grid.rows), flat, len(part.grid.cols), flat)
        return place, np.asarray(blocks.mean(axis=(1, 3, 5)), dtype=np.float32)


def _inside(level: Floats) -> Floats:
    """Share of a voxel inside a surface from its relative level."""
    return np.asarray(np.clip(np.float32(0.5) - level, 0, 1))


def _middles(values: Floats, factor: int) -> Floats:
    step = float(values[1] - values[0])
    count = -(-len(values) // factor)
    return (float(values[0]) + step * ((np.arange(count) + 0.5) * factor - 0.5)).astype(np.float32)


def _divided(values: Floats, step: float, parts: int) -> Floats:
    offsets = ((np.arange(parts) + 0.5) / parts - 0.5) * step
    return (values[:, None] + offsets[None, :]).ravel().astype(np.float32)
