"""Thin layers of pleural fluid on the chest wall: see `pleura_profile`."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from overread.domain.volume import Volume
from overread.pipeline.analysers.chest_ct.cavity import HalfChest
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid
from overread.pipeline.analysers.chest_ct.pleura_profile import (
    DEPTHS_MM,
    STEP_MM,
    Layer,
    along_the_wall,
    area_cm2,
    profiles,
    wall_sigma,
)

#: Sigma of the average along the wall, mm.
_ALONG_MM = (4.5, 4.5)
#: What is averaged: neither lung nor fat nor bone, HU.
_SOFT_HU = (-110.0, 115.0)
#: Water to exudate, HU: the median of a layer must lie within. What fluid has before it is measured.
_FLUID_HU, _USUAL_HU = (-10.0, 29.0), 12.0
#: A layer begins at most this far inside the ribs, mm, and is at least this thick on average along the wall.
_BEGINS_MM, _THICK_MM = 5.0, 1.9
#: Around that it is followed where it is thinner, mm, for so many slices and rays.
_THIN_MM, _THIN_STEPS = 0.8, 8
#: Where it is looked for: degrees from straight out to the side, positive to the back. Fluid sinks.
_DEGREES = (20.0, 136.0)
#: Spread around a place: at most this factor of that in muscle, and HU more. What counts as muscle there, HU.
_UNEVEN, _USUAL_SPREAD_HU, _LIKE_MUSCLE_HU = (1.3, 3.0), 18.0, 10.0
#: Border to lung, HU, and steps before it over which both mix.
_LUNG_HU, _EDGE = -170.0, 2
#: Least area of wall, cm2, and volume, mL, of a piece.
_LEAST_CM2, _LEAST_ML = 40.0, 20.0


def find_layer(volume: Volume, grid: CoarseGrid, half: HalfChest, muscle: float) -> Layer | None:
    """The layer of fluid of one half; None if there is none."""
    depths = DEPTHS_MM
    hu = profiles(volume, grid, half, _DEGREES, -2000.0)
    soft, spread = along_the_wall(hu, (hu > _SOFT_HU[0]) & (hu < _SOFT_HU[1]), grid, _ALONG_MM)
    muscles = np.abs(soft - muscle) < _LIKE_MUSCLE_HU
    usual = float(np.median(spread[muscles])) if muscles.sum() > 500 else _USUAL_SPREAD_HU
    lung = (hu < _LUNG_HU) & (hu > -2000)
    lung_at = np.where(lung.any(axis=2), lung.argmax(axis=2), 0)
    at = np.arange(len(depths))
    fluid = (soft > _FLUID_HU[0] - 20) & (soft < (_USUAL_HU + muscle) / 2) & (at < lung_at[..., None])
    # the run of fluid that ends at the lung: back from there to the first block that is none
    behind = ~fluid & (at < lung_at[..., None] - _EDGE)
    start = np.where(behind.any(axis=2), len(depths) - behind[..., ::-1].argmax(axis=2), 0)
    begins = depths[np.minimum(start, len(depths) - 1)]
    real = (start > 0) & (begins <= _BEGINS_MM) & (start < lung_at - _EDGE)
    thick = np.where(real, (lung_at - start) * STEP_MM, 0.0)
    thick = np.maximum(thick, 0).astype(np.float32)
    sigma = wall_sigma(grid, _ALONG_MM)
    even = ndimage.gaussian_filter(thick, sigma, mode="nearest")
    keep = (even >= _THICK_MM) & (thick > 0)
    thin = (even >= _THIN_MM) & (thick > 0)
    area_of = area_cm2(half, grid)
    labels, count = ndimage.label(keep)
    inside = (at >= start[..., None]) & (at < lung_at[..., None] - _EDGE)
    kept = np.zeros_like(keep)
    values: list[float] = []
    for number in range(1, count + 1):
        piece = labels == number
        ml = float((thick * area_of)[piece].sum()) / 10
        area = float(area_of[piece].sum())
        if area < _LEAST_CM2 or ml < _LEAST_ML:
            continue
        middle = float(np.median(soft[piece][inside[piece]]))
        uneven = float(np.median(spread[piece][inside[piece]])) > _UNEVEN[0] * usual + _UNEVEN[1]
        if _FLUID_HU[0] <= middle <= _FLUID_HU[1] and not uneven:
            kept |= ndimage.binary_dilation(piece, iterations=_THIN_STEPS, mask=thin) | piece
            values.append(middle)
    if not values:
        return None
    return Layer(
        half=half,
        start_mm=np.where(kept, begins, np.nan).astype(np.float32),
        end_mm=np.where(kept, depths[lung_at], np.nan).astype(np.float32),
        volume_ml=float((thick * area_of)[kept].sum()) / 10,
        hu=float(np.median(values)),
    )
