"""The rib cage from inside: how far each place of the chest lies from the pleura of the ribs, whatever fills it.

Lungs show the chest wall only where they hold air. Where fluid or airless lung lies on it, the ribs still do: from a
point amid each half of the chest, rays go outwards in every slice to the first bone. The surface through these points
is smoothed with weights that believe near points more than far ones (asymmetric least squares, Eilers and Boelens
2005), so that it follows the ribs and not the shoulder blade seen between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.segment import Mask
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid, Floats32

#: Bone on blocks of about 2 mm, HU.
_BONE_HU = 170.0
#: Rays: how many in a slice, how far they go, and the distance of their samples, mm.
RAYS, _REACH_MM, _STEP_MM = 120, 180.0, 2.0
#: Directions in which ribs are looked for, degrees from straight out to the side; positive runs to the back.
_FRONT_DEG, _BACK_DEG = -128.0, 138.0
#: Smoothing of the surface: up and down (mm) and around (degrees); again, wider, where ribs are far apart.
_SMOOTH = ((9.0, 6.0), (22.0, 15.0), (45.0, 25.0))
#: How much a point behind the surface counts beside one in front of it.
_BEHIND = 0.08
#: Between the pleura and the first bone, mm: intercostal fat and muscle, where the lung does not tell.
_USUAL_GAP_MM, _MOST_GAP_MM = 3.0, 12.0
#: How far below the lungs the pleural space is looked for, mm: the recess behind reaches that deep.
_BELOW_MM = 70.0
#: In this much of the lung's top, mm, where ribs run around it like rings, the wall is looked for near the lung only,
#: and so far inside the mirror image of the other lung: an airless apex is known by its fellow.
_TOP_MM, _NEAR_MM, _MIRROR_MM = 35.0, 8.0, 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class HalfChest:
    """One half of the chest on the coarse grid."""

    #: float32: mm from the pleura of the ribs inwards; negative behind it and beyond the midline or the slices.
    depth_mm: Floats32
    #: Row and column of the point that the rays start from, on the coarse grid.
    centre: tuple[float, float]
    #: +1 where columns grow to the outside of this half, else -1.
    out: int
    #: Distance of the pleura of the ribs from that point, mm, (slices from `first`, `RAYS`); NaN where unknown.
    surface_mm: Floats32
    first: int

    def inside(self, margin_mm: float = 0.0) -> Mask:
        """What lies at least `margin_mm` inside the ribs."""
        return np.asarray(self.depth_mm >= margin_mm)


def half_chests(grid: CoarseGrid, right: Mask, left: Mask) -> tuple[HalfChest, HalfChest] | None:
    """(right, left), from what is known of the lungs; None if there is none. One lung tells of both sides."""
    both = right | left
    levels = np.flatnonzero(both.any(axis=(1, 2)))
    if levels.size == 0:
        return None
    low = max(0, int(levels[0] - _BELOW_MM / grid.spacing_mm[0]))
    high = min(len(both), int(levels[-1]) + 1 + round(6 / grid.spacing_mm[0]))
    middle = _middle(grid, right, left)
    rows = np.flatnonzero(both.any(axis=(0, 2)))
    row = float(rows[0] + rows[-1]) / 2
    halves = []
    for lung, other, out in ((right, left, -1), (left, right, 1)):
        shown = lung if lung.any() else both
        half_width = float(np.abs(np.flatnonzero(shown.any(axis=(0, 1))) - middle).max()) / 2
        mirror = _mirrored(other, middle)
        halves.append(_half(grid, lung, mirror, (row, middle + out * half_width), out, middle, (low, high)))
    return halves[0], halves[1]


def ray_angles() -> NDArray[np.float64]:
    """Directions of the rays, radians from straight out to the side; positive runs to the back."""
    return (np.arange(RAYS) + 0.5) * 2 * np.pi / RAYS - np.pi


def _middle(grid: CoarseGrid, right: Mask, left: Mask) -> float:
    """Column of the midline: half-way between the outer borders of the lungs, or the middle of the bones."""
    if right.any() and left.any():
        outer = np.flatnonzero((right | left).any(axis=(0, 1)))
        return float(outer[0] + outer[-1]) / 2
    bone = (grid.hu > _BONE_HU)[(right | left).any(axis=(1, 2))].sum(axis=(0, 1))
    return float((bone * np.arange(len(bone))).sum() / max(1, int(bone.sum())))


def _mirrored(lung: Mask, middle: float) -> Mask:
    """The lung on the other side of the column `middle`."""
    columns = np.rint(2 * middle - np.arange(lung.shape[2])).astype(np.intp)
    known = (columns >= 0) & (columns < lung.shape[2])
    return np.asarray(lung[:, :, np.where(known, columns, 0)] & known)


def _half(
    grid: CoarseGrid,
    lung: Mask,
    mirror: Mask,
    centre: tuple[float, float],
    out: int,
    middle: float,
    span: tuple[int, int],
) -> HalfChest:
    low, high = span
    row_mm, column_mm = grid.spacing_mm[1:]
    angles = ray_angles()
    radii = np.arange(0, _REACH_MM, _STEP_MM)
    rows = np.rint(centre[0] + np.sin(angles)[:, None] * radii / row_mm).astype(np.intp)
    columns = np.rint(centre[1] + out * np.cos(angles)[:, None] * radii / column_mm).astype(np.intp)
    valid = (rows >= 0) & (rows < grid.hu.shape[1]) & (columns >= 0) & (columns < grid.hu.shape[2])
    rows, columns = np.where(valid, rows, 0), np.where(valid, columns, 0)
    bone = (grid.hu[low:high, rows, columns] > _BONE_HU) & valid & (radii > 15.0)
    bone &= ~lung[low:high, rows, columns]
    hits = np.where(bone.any(axis=2), radii[bone.argmax(axis=2)] - _STEP_MM / 2, np.nan)
    costal = (np.degrees(angles) > _FRONT_DEG) & (np.degrees(angles) < _BACK_DEG)
    hits[:, ~costal] = np.nan
    filled = lung[low:high, rows, columns] & valid
    reach = np.where(filled.any(axis=2), radii[filled.shape[2] - 1 - filled[:, :, ::-1].argmax(axis=2)], np.nan)
    reach = reach + _STEP_MM / 2
    surface = _through(hits.astype(np.float32), grid.spacing_mm[0])
    surface = surface - _gap(surface, reach, costal)
    # air that is seen is inside, whatever the ribs say
    surface = np.where(np.isfinite(reach) & costal, np.fmax(surface, reach), surface)
    depth = np.full(grid.hu.shape, -1.0, np.float32)
    depth[low:high] = _depth(grid, surface, centre, out, middle, costal)
    levels = np.flatnonzero(lung.any(axis=(1, 2)))
    if levels.size:
        first = max(low, int(levels[-1] - _TOP_MM / grid.spacing_mm[0]))
        near = _NEAR_MM - ndimage.distance_transform_edt(~lung[first:high], sampling=grid.spacing_mm)
        if mirror[first:high].any():
            fellow = ndimage.distance_transform_edt(mirror[first:high], sampling=grid.spacing_mm) - _MIRROR_MM
            near = np.maximum(near, fellow)
        depth[first:high] = np.minimum(depth[first:high], near.astype(np.float32))
    return HalfChest(depth_mm=depth, centre=centre, out=out, surface_mm=surface.astype(np.float32), first=low)


def _through(hits: Floats32, slice_mm: float) -> Floats32:
    """A smooth surface through the points that are there, (slices, rays), NaN where none is near."""
    known = np.isfinite(hits)
    value = np.where(known, hits, 0).astype(np.float32)
    surface = np.full(hits.shape, np.nan, np.float32)
    for up_mm, around_deg in _SMOOTH:
        sigma = (up_mm / slice_mm, around_deg * RAYS / 360)
        weight = known.astype(np.float32)
        current = surface
        for _ in range(6):
            total = ndimage.gaussian_filter(weight, sigma, mode=("constant", "wrap"), truncate=2.5)
            mean = ndimage.gaussian_filter(weight * value, sigma, mode=("constant", "wrap"), truncate=2.5)
            current = np.where(total > 0.02, mean / np.maximum(total, 1e-6), np.nan).astype(np.float32)
            behind = value > np.nan_to_num(current, nan=np.inf) + 1.0
            weight = (known * np.where(behind, _BEHIND, 1.0)).astype(np.float32)
        surface = np.where(np.isfinite(surface), surface, current)
    return surface


def _gap(surface: Floats32, reach: NDArray[np.float64], costal: Mask) -> float:
    """How far the pleura lies inside the ribs, mm: the median where the lung reaches it."""
    gap = (surface - reach)[:, costal]
    near = gap[np.isfinite(gap) & (gap > -4) & (gap < _MOST_GAP_MM)]
    return float(np.median(near)) if near.size > 200 else _USUAL_GAP_MM


def _depth(
    grid: CoarseGrid, surface: NDArray[Any], centre: tuple[float, float], out: int, middle: float, costal: Mask
) -> Floats32:
    """mm inside the surface for each block of the slices; -1 outside the half."""
    row_mm, column_mm = grid.spacing_mm[1:]
    down = (np.arange(grid.hu.shape[1]) - centre[0])[:, None] * row_mm
    side = (np.arange(grid.hu.shape[2]) - centre[1])[None, :] * column_mm * out
    radius = np.hypot(down, side).astype(np.float32)
    place = (np.arctan2(down, side) + np.pi) * RAYS / (2 * np.pi) - 0.5
    first = np.floor(place).astype(np.intp)
    share = (place - first).astype(np.float32)
    one, two = first % RAYS, (first + 1) % RAYS
    lateral = side > (middle - centre[1]) * column_mm * out
    # towards the midline the ribs end: there it is the midline that bounds, and the foremost and rearmost rib
    bounded = np.where(np.isnan(surface) & ~costal[None, :], np.float32(_REACH_MM), surface).astype(np.float32)
    sines = np.sin(ray_angles()).astype(np.float32)
    found = np.empty((len(surface), *radius.shape), np.float32)
    for index, line in enumerate(bounded):
        ends = (surface[index] * sines)[costal & np.isfinite(surface[index])]
        found[index] = line[one] * (1 - share) + line[two] * share - radius
        if ends.size:
            found[index] = np.fmin(found[index], np.minimum(down - ends.min(), ends.max() - down))
    found[~np.isfinite(found)] = -1
    found[..., ~lateral[0]] = -1
    return found
