"""What lies on the chest wall: Hounsfield units from the pleura of the ribs inwards, and layers of fluid and air there.

A thin layer is lost in averages in all directions, but it runs along the wall: profiles averaged along the wall only
keep it, and measure its thickness finer than a voxel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.segment import Mask
from overread.domain.volume import Volume
from overread.pipeline.analysers.chest_ct.cavity import RAYS, HalfChest
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid, Floats32

#: Rays between two rays of the rib cage, so that an average along the wall has enough of them.
_FINER = 3
#: Profiles run from behind the pleura to this far inside, in steps of, mm.
_FROM_MM, _TO_MM, STEP_MM = -6.0, 42.0, 0.75
#: Depths of the samples of a profile, mm from the pleura inwards.
DEPTHS_MM: Floats32 = np.arange(_FROM_MM, _TO_MM, STEP_MM).astype(np.float32)
#: Distance of the wall from where the rays start, mm, about.
_USUAL_RADIUS_MM = 85.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """Something on the chest wall of one half: from where to where, mm inside the ribs, for each slice and ray."""

    half: HalfChest
    #: float32 (coarse slices from `half.first`, finer rays); NaN where there is none.
    start_mm: Floats32
    end_mm: Floats32
    #: mL.
    volume_ml: float
    #: Median of it, HU.
    hu: float

    def within(self, grid: CoarseGrid, level: int, *, fine: bool) -> tuple[Mask, Mask]:
        """(what belongs to it, what lies behind it) in a coarse slice, on pixels of the volume or of the grid."""
        shape = (grid.fine_shape if fine else grid.hu.shape)[1:]
        index = level - self.half.first
        if not 0 <= index < len(self.start_mm) or not np.isfinite(self.start_mm[index]).any():
            return np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        factors = grid.factors[1:] if fine else (1, 1)
        row, column = ((c + 0.5) * f - 0.5 for c, f in zip(self.half.centre, factors, strict=True))
        row_mm, column_mm = (s / f for s, f in zip(grid.spacing_mm[1:], factors, strict=True))
        down = ((np.arange(shape[0]) - row) * row_mm)[:, None].astype(np.float32)
        side = ((np.arange(shape[1]) - column) * column_mm * self.half.out)[None, :].astype(np.float32)
        place = np.rint((np.arctan2(down, side) + np.pi) * (RAYS * _FINER / (2 * np.pi)) - 0.5).astype(np.intp)
        place %= RAYS * _FINER
        depth = _finer(self.half.surface_mm[index][None])[0][place] - np.hypot(down, side)
        # comparisons with NaN are false
        start, end = self.start_mm[index][place], self.end_mm[index][place]
        return np.asarray((depth >= start) & (depth <= end)), np.asarray(depth < start)

    def on_grid(self, grid: CoarseGrid) -> tuple[Mask, Mask]:
        """(blocks whose centre belongs to it, blocks behind it)."""
        out, behind = np.zeros(grid.hu.shape, np.bool_), np.zeros(grid.hu.shape, np.bool_)
        for level in range(self.half.first, self.half.first + len(self.start_mm)):
            out[level], behind[level] = self.within(grid, level, fine=False)
        return out, behind


def profiles(
    volume: Volume, grid: CoarseGrid, half: HalfChest, degrees: tuple[float, float], beyond: float
) -> Floats32:
    """Hounsfield units along the rays between two directions, (coarse slices, finer rays, depths); else `beyond`."""
    deep = grid.factors[0]
    angles = finer_angles()
    wanted = (np.degrees(angles) > degrees[0]) & (np.degrees(angles) < degrees[1])
    surface = _finer(half.surface_mm)
    # the point that rays start from, in voxels
    row, column = ((c + 0.5) * f - 0.5 for c, f in zip(half.centre, grid.factors[1:], strict=True))
    out = np.full((*surface.shape, len(DEPTHS_MM)), beyond, np.float32)
    for index, line in enumerate(surface):
        known = np.isfinite(line) & wanted
        if not known.any():
            continue
        first = (half.first + index) * deep
        plane = volume.hu[first : first + deep].mean(axis=0, dtype=np.float32)
        radius = line[known, None] - DEPTHS_MM
        rows = row + np.sin(angles[known])[:, None] * radius / volume.spacing_mm[1]
        columns = column + half.out * np.cos(angles[known])[:, None] * radius / volume.spacing_mm[2]
        out[index, known] = ndimage.map_coordinates(plane, [rows, columns], order=1, mode="nearest")
    return out


def along_the_wall(
    values: Floats32, mask: Mask, grid: CoarseGrid, sigma_mm: tuple[float, float]
) -> tuple[Floats32, Floats32]:
    """Mean and spread of the masked values at the same depth around each place; NaN where there are few of them.

    `sigma_mm`: from slice to slice, and around.
    """
    weight = mask.astype(np.float32)
    value = np.where(mask, values, np.float32(0))
    sigma = (*wall_sigma(grid, sigma_mm), 0.0)
    share = ndimage.gaussian_filter(weight, sigma, mode="nearest", truncate=2.5)
    known = np.maximum(share, np.float32(1e-6))
    mean = ndimage.gaussian_filter(value, sigma, mode="nearest", truncate=2.5) / known
    squares = ndimage.gaussian_filter(value * value, sigma, mode="nearest", truncate=2.5) / known
    spread = np.sqrt(np.maximum(squares - mean * mean, 0)).astype(np.float32)
    return np.where(share > 0.15, mean, np.nan).astype(np.float32), spread


def wall_sigma(grid: CoarseGrid, sigma_mm: tuple[float, float]) -> tuple[float, float]:
    """`sigma_mm` (from slice to slice, around) in coarse slices and finer rays, at the usual distance of the wall."""
    return sigma_mm[0] / grid.spacing_mm[0], sigma_mm[1] / (_USUAL_RADIUS_MM * 2 * np.pi / (RAYS * _FINER))


def area_cm2(half: HalfChest, grid: CoarseGrid) -> Floats32:
    """Area of wall that each place stands for."""
    radius = _finer(half.surface_mm)
    return np.asarray(np.nan_to_num(radius) * np.float32(2 * np.pi / radius.shape[1] * grid.spacing_mm[0] / 100))


def finer_angles() -> NDArray[np.float64]:
    return (np.arange(RAYS * _FINER) + 0.5) * 2 * np.pi / (RAYS * _FINER) - np.pi


def _finer(surface: Floats32) -> Floats32:
    """The surface at the finer rays, linear between the rays it is known at."""
    place = (np.arange(RAYS * _FINER) + 0.5) / _FINER - 0.5
    first = np.floor(place).astype(np.intp)
    share = (place - first).astype(np.float32)
    return np.asarray(surface[:, first % RAYS] * (1 - share) + surface[:, (first + 1) % RAYS] * share)
