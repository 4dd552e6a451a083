"""The wall of one half of the chest as its air sees it: profiles that begin where air meets soft tissue.

In every slice rays run outwards from the middle of what holds air (lung and free air alike) to where that ends. So the
apex and the recess, which no fixed point looks into, are seen from inside too. Each profile is shifted so that its 0 is
where the Hounsfield units pass half-way between soft tissue and air, finer than a voxel, and runs inwards from there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.segment import Mask
from overread.domain.volume import Volume
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid, Floats32

#: Rays in a slice; how far they go, and the distance of the samples that look for the end of the air, mm.
RAYS, _REACH_MM, _LOOK_MM = 360, 180.0, 1.0
#: Profiles run inwards from outside of the wall to this far inside, in steps of, mm.
OUTSIDE_MM, INSIDE_MM, STEP_MM = -1.2, 36.0, 0.6
#: Depths of the samples of a profile, mm inwards from the wall.
DEPTHS_MM: Floats32 = np.arange(OUTSIDE_MM, INSIDE_MM, STEP_MM).astype(np.float32)
#: How far from the last block that holds air the wall is looked for, mm.
_SEARCH_MM = 5.4
#: Half-way between soft tissue and air, HU.
WALL_HU = -475.0
#: Smoothing of the point that rays start from, from slice to slice, and of profiles, around, mm.
_CENTRE_MM, _AROUND_MM = 10.0, 1.5
#: Slope that a wall is given at most, mm a mm.
_STEEPEST = 4.0
#: Least area of air in a slice that is looked at, mm2.
_LEAST_MM2 = 40.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Shell:
    """Profiles of one half: axes are coarse slices from `first`, rays, depths."""

    #: Row and column, on voxels of the volume, that the rays of each slice start from; float64 (slices, 2).
    centres: NDArray[np.float64]
    #: mm from there to the wall, float32 (slices, rays); NaN where there is none.
    wall_mm: Floats32
    #: HU, float32 (slices, rays, `DEPTHS_MM`), smoothed around; 0 where there is no wall.
    hu: Floats32
    #: Steepness of the wall, mm a mm: within the slice, and from slice to slice; float32 (slices, rays).
    slope_in: Floats32
    slope_up: Floats32
    first: int
    #: Size of a pixel, mm.
    pixel_mm: float

    @property
    def known(self) -> Mask:
        """Where there is a wall."""
        return np.isfinite(self.wall_mm)


@dataclass(frozen=True, kw_only=True, eq=False)
class AirLayer:
    """Free air on the wall of one half: from where to where, mm inwards from `Shell.wall_mm`; NaN where none is."""

    shell: Shell
    start_mm: Floats32
    end_mm: Floats32
    volume_ml: float

    def within(self, grid: CoarseGrid, level: int, spacing_mm: tuple[float, float, float], *, fine: bool) -> Mask:
        """What belongs to it in a coarse slice, on pixels of the volume or blocks of the grid."""
        shape = (grid.fine_shape if fine else grid.hu.shape)[1:]
        out = np.zeros(shape, np.bool_)
        index = level - self.shell.first
        if not 0 <= index < len(self.start_mm) or not np.isfinite(self.start_mm[index]).any():
            return out
        factors = (1, 1) if fine else grid.factors[1:]
        row, column = self.shell.centres[index]
        # pixels or the middles of blocks, mm from the point that rays start from
        down = ((np.arange(shape[0]) + 0.5) * factors[0] - 0.5 - row) * spacing_mm[1]
        side = ((np.arange(shape[1]) + 0.5) * factors[1] - 0.5 - column) * spacing_mm[2]
        most = float(np.nanmax(self.shell.wall_mm[index] - self.start_mm[index]))
        rows, columns = (np.flatnonzero(np.abs(v) <= most) for v in (down, side))
        if not rows.size or not columns.size:
            return out
        box = np.ix_(rows, columns)
        y, x = down[rows][:, None].astype(np.float32), side[columns][None].astype(np.float32)
        place = (np.arctan2(y, x) + np.pi) * (RAYS / (2 * np.pi)) - 0.5
        ray = np.floor(place).astype(np.intp)
        share = (place - ray).astype(np.float32)
        one, two = ray % RAYS, (ray + 1) % RAYS
        outer = self.shell.wall_mm[index] - self.start_mm[index]
        inner = self.shell.wall_mm[index] - self.end_mm[index]
        radius = np.hypot(y, x)
        here = [np.where(share < 0.5, v[one], v[two]) for v in (outer, inner)]
        for at, values in enumerate((outer, inner)):  # linear where both rays have it
            between = values[one] * (1 - share) + values[two] * share
            here[at] = np.where(np.isfinite(between), between, here[at])
        # comparisons with NaN are false
        out[box] = (radius <= here[0]) & (radius > here[1])
        return out


def area_mm2(outer: Floats32, inner: Floats32) -> Floats32:
    """Area of a slice between two distances from the point that rays start from, for each ray, mm2."""
    return np.asarray((outer * outer - inner * inner) * np.float32(np.pi / RAYS))


def shell_of(volume: Volume, grid: CoarseGrid, holds_air: Mask) -> Shell | None:
    """The shell of what `holds_air` (blocks of one half); None if nothing does."""
    areas = holds_air.sum(axis=(1, 2)) * grid.spacing_mm[1] * grid.spacing_mm[2]
    levels = np.flatnonzero(areas >= _LEAST_MM2)
    if levels.size == 0:
        return None
    first, count = int(levels[0]), int(levels[-1] - levels[0]) + 1
    centres = _centres(holds_air[first : first + count], areas[first : first + count], grid)
    angles = ray_angles()
    sines, cosines = np.sin(angles), np.cos(angles)
    row_mm, column_mm = volume.spacing_mm[1:]
    look = np.arange(0, _REACH_MM, _LOOK_MM)
    search = np.arange(-_SEARCH_MM, INSIDE_MM + 1.5 * _SEARCH_MM, STEP_MM).astype(np.float32)
    wall = np.full((count, RAYS), np.nan, np.float32)
    hu = np.zeros((count, RAYS, len(DEPTHS_MM)), np.float32)
    deep = grid.factors[0]
    for index in range(count):
        plane = holds_air[first + index]
        row, column = centres[index]
        rows = np.rint((row + sines[:, None] * look / row_mm + 0.5) / grid.factors[1] - 0.5).astype(np.intp)
        columns = np.rint((column + cosines[:, None] * look / column_mm + 0.5) / grid.factors[2] - 0.5).astype(np.intp)
        valid = (rows >= 0) & (rows < plane.shape[0]) & (columns >= 0) & (columns < plane.shape[1])
        hit = plane[np.where(valid, rows, 0), np.where(valid, columns, 0)] & valid
        rays = np.flatnonzero(hit.any(axis=1))
        if rays.size == 0:
            continue
        last = look[len(look) - 1 - hit[rays][:, ::-1].argmax(axis=1)]
        radius = last[:, None] - search
        slab = volume.hu[(first + index) * deep : (first + index + 1) * deep]
        flat = slab[0].astype(np.float32) if len(slab) == 1 else slab.mean(axis=0, dtype=np.float32)
        profile = ndimage.map_coordinates(
            flat,
            [row + sines[rays, None] * radius / row_mm, column + cosines[rays, None] * radius / column_mm],
            order=1,
            mode="nearest",
        )
        profile = ndimage.gaussian_filter1d(profile, 0.6, axis=1)
        at = _crossing(profile, search)
        wall[index, rays] = last - at
        hu[index, rays] = _shifted(profile, at - search[0])
    hu = np.where(np.isfinite(wall)[..., None], hu, 0).astype(np.float32)
    hu = _around(hu, wall)
    slope_in, slope_up = _slopes(wall, centres, grid, (row_mm, column_mm))
    return Shell(
        pixel_mm=max(row_mm, column_mm),
        centres=centres,
        wall_mm=wall,
        hu=hu,
        slope_in=slope_in,
        slope_up=slope_up,
        first=first,
    )


def ray_angles() -> NDArray[np.float64]:
    """Directions of the rays, radians from the patient's left towards the back."""
    return (np.arange(RAYS) + 0.5) * 2 * np.pi / RAYS - np.pi


def masked_mean(values: Floats32, mask: Mask, sigma: tuple[float, float]) -> Floats32:
    """Gaussian mean of the masked values; NaN where there are few. Rays (axis 1) wrap around."""
    share = ndimage.gaussian_filter(mask.astype(np.float32), sigma, mode=("nearest", "wrap"), truncate=3.0)
    total = ndimage.gaussian_filter(
        np.where(mask, values, np.float32(0)), sigma, mode=("nearest", "wrap"), truncate=3.0
    )
    return np.where(share > 0.03, total / np.maximum(share, np.float32(1e-6)), np.nan).astype(np.float32)


def _centres(holds_air: Mask, areas: NDArray[np.float64], grid: CoarseGrid) -> NDArray[np.float64]:
    """Smoothed middles of the air of each slice, rows and columns of the volume."""
    found = np.full((len(holds_air), 2), np.nan)
    for index, plane in enumerate(holds_air):
        if areas[index] >= _LEAST_MM2:
            found[index] = [
                (v.mean() + 0.5) * f - 0.5 for v, f in zip(np.nonzero(plane), grid.factors[1:], strict=True)
            ]
    known = np.isfinite(found[:, 0])
    at = np.arange(len(found))
    found = np.stack([np.interp(at, at[known], found[known, axis]) for axis in range(2)], axis=1)
    return np.asarray(ndimage.gaussian_filter1d(found, _CENTRE_MM / grid.spacing_mm[0], axis=0, mode="nearest"))


def _crossing(profile: Floats32, search: Floats32) -> Floats32:
    """Where each profile passes `WALL_HU` from soft tissue into air, the one nearest to 0; NaN where none does."""
    down = (profile[:, :-1] > WALL_HU) & (profile[:, 1:] <= WALL_HU) & (search[:-1] < _SEARCH_MM)
    away = np.where(down, np.abs(search[:-1]), np.inf)
    at = away.argmin(axis=1)
    rays = np.arange(len(profile))
    before, after = profile[rays, at], profile[rays, at + 1]
    share = (before - WALL_HU) / np.maximum(before - after, 1e-3)
    return np.where(np.isfinite(away[rays, at]), search[at] + share * STEP_MM, np.nan).astype(np.float32)


def _shifted(profile: Floats32, at: Floats32) -> Floats32:
    """Samples at `DEPTHS_MM` from `at`, mm from the start of each profile."""
    place = (np.nan_to_num(at)[:, None] + DEPTHS_MM) / STEP_MM
    low = np.clip(np.floor(place).astype(np.intp), 0, profile.shape[1] - 2)
    share = np.clip(place - low, 0, 1).astype(np.float32)
    rays = np.arange(len(profile))[:, None]
    return np.asarray(profile[rays, low] * (1 - share) + profile[rays, low + 1] * share)


def _around(hu: Floats32, wall: Floats32) -> Floats32:
    """Profiles averaged with their neighbours of the same slice."""
    known = np.isfinite(wall)
    usual = float(np.median(wall[known])) if known.any() else 80.0
    sigma = _AROUND_MM / (usual * 2 * np.pi / RAYS)
    share = ndimage.gaussian_filter1d(known.astype(np.float32), sigma, axis=1, mode="wrap")[..., None]
    total = ndimage.gaussian_filter1d(hu, sigma, axis=1, mode="wrap")
    return np.where(known[..., None], total / np.maximum(share, np.float32(1e-6)), 0).astype(np.float32)


def _slopes(
    wall: Floats32, centres: NDArray[np.float64], grid: CoarseGrid, pixel_mm: tuple[float, float]
) -> tuple[Floats32, Floats32]:
    """(within the slice, from slice to slice), at most `_STEEPEST`."""
    known = np.isfinite(wall)
    even = masked_mean(wall, known, (1.0, 2.0))
    around = (np.roll(even, -1, axis=1) - np.roll(even, 1, axis=1)) / np.float32(4 * np.pi / RAYS)
    inside = np.abs(around) / np.maximum(even, 1.0)
    up = np.gradient(even, grid.spacing_mm[0], axis=0) if len(even) > 1 else np.zeros_like(even)
    # the point that rays start from moves from slice to slice too
    angles = ray_angles()
    if len(centres) > 1:
        move = np.gradient(centres, grid.spacing_mm[0], axis=0) * pixel_mm
        up = up + move[:, :1] * np.sin(angles) + move[:, 1:] * np.cos(angles)
    found = [np.clip(np.nan_to_num(np.abs(v), nan=1.0), 0, _STEEPEST).astype(np.float32) for v in (inside, up)]
    return found[0], found[1]
