"""From a blob to a body: what of the bright lung around a seed is the nodule, and how it lies among vessels and pleura.

Threshold half between lung and nodule; vessels are cut off by an opening with a ball in proportion to the largest ball
inside (Kostis, IEEE Trans Med Imaging 2003;22:1259); the pleura is the border of the lung mask.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.segment import Mask
from overread.domain.volume import Hounsfield
from overread.pipeline.analysers.chest_ct.nodule_seeds import GLASS_HU, Array, Seed, Spacing, box_of

#: Least contrast to the lung, HU, and radius of the largest ball inside, mm.
LEAST_CONTRAST, LEAST_BALL_MM = 70.0, 1.1
#: The opening's ball over the largest ball inside; how far the opened body grows back, over the same. The firm one is
#: for bodies that much leaves, as a share of their volume.
_GENTLE, _FIRM, _MUCH_LEAVES = (0.65, 0.12), (0.8, 0.06), 0.15
#: Near the pleura, balls: there it may grow back so far.
_CORNER = (0.8, 0.35)
#: A ring of at least this contrast to the lung around a solid core is the ground glass of a part-solid nodule, HU.
_HALO = 90.0
#: How deep under the outline of a solid body its blur reaches, mm.
_BLUR_MM = 0.8
#: From this on a voxel is solid, HU.
SOLID_HU = -300.0
#: How far around a solid vessel its blur is taken for it, mm.
_VESSEL_BLUR_MM = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Crop:
    """A cube of the lung around a seed on an isotropic grid."""

    #: Hounsfield units, float32, and the lung, both (slices, rows, columns).
    hu: Array
    lung: Mask
    #: Voxel index (axes 0, 1, 2) of the first cell's centre in the volume, and cells per voxel index, mm.
    origin: NDArray[np.float64]
    step_mm: float
    spacing: Spacing

    def index(self, cells: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 3) cells of the crop to (..., 3) indices of the volume."""
        return np.asarray(self.origin + cells * self.step_mm / np.asarray(self.spacing))


@dataclass(frozen=True, kw_only=True, eq=False)
class Body:
    """What a seed turned out to be."""

    crop: Crop
    #: The nodule, and all that is as bright (with the vessels that it touches), on the grid of the crop.
    mask: Mask
    bright: Mask
    #: Hounsfield units of lung around, of the middle, and of the outline.
    lung_hu: float
    core_hu: float
    edge_hu: float
    #: Middle, index along axes 0, 1, 2 of the volume; radius of the largest ball inside, mm.
    centre: NDArray[np.float64]
    ball_mm: float
    #: Half axes of the ellipsoid of the same second moments, mm, longest first.
    half_axes_mm: tuple[float, float, float]
    #: Voxels times their volume, mL.
    volume_ml: float
    #: Of the shell around the body: share that is as bright (vessels), share outside the lung (pleura).
    attached: float
    wall: float
    #: Radius of the thickest of the vessels in the shell over that of the body's ball; cosine, 0..1, of how far apart
    #: (1: opposite) the vessels leave the body.
    vessel: float
    opposed: float
    seed: Seed
    #: Share of the inside that is ground glass.
    glass: float = 0.0

    @property
    def diameter_mm(self) -> float:
        """Of the ball of the same volume."""
        return float((6000 * self.volume_ml / np.pi) ** (1 / 3))


def cut(hu: Hounsfield, lung: Mask, spacing: Spacing, index: NDArray[np.float64], reach_mm: float, step: float) -> Crop:
    """The cube of ``2 * reach_mm`` around ``index``, trilinear; outside the volume there is no lung."""
    cells = 2 * round(reach_mm / step) + 1
    scale = step / np.asarray(spacing)
    origin = index - scale * (cells // 2)
    first = np.clip(np.floor(origin).astype(int) - 1, 0, np.asarray(hu.shape) - 1)
    last = np.clip(np.ceil(origin + scale * cells).astype(int) + 2, first + 1, hu.shape)
    place = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    shape = (cells, cells, cells)
    offset = origin - first
    grid = ndimage.affine_transform(
        hu[place].astype(np.float32), scale, offset=offset, output_shape=shape, order=1, mode="nearest"
    )
    inside = ndimage.affine_transform(
        lung[place].astype(np.float32), scale, offset=offset, output_shape=shape, order=1, mode="grid-constant"
    )
    return Crop(hu=grid, lung=inside >= 0.5, origin=origin, step_mm=step, spacing=spacing)


def distance_to(mask: Mask, reach: float) -> Array:
    """Distance of each cell to ``mask``, in cells, where that is at most ``reach``; infinity further away.

    Only the box around the mask is transformed, which is what makes many small bodies cheap.
    """
    away = np.full(mask.shape, np.inf, np.float32)
    box = box_of(mask, int(np.ceil(reach)))
    if box is not None:
        away[box] = ndimage.distance_transform_edt(~mask[box])
        away[away > reach] = np.inf
    return away


def depth_of(mask: Mask) -> Array:
    """Distance of each cell of ``mask`` to what is not in it, the outside of the array too, in cells; 0 elsewhere."""
    depth = np.zeros(mask.shape, np.float32)
    box = box_of(mask)
    if box is not None:
        depth[box] = ndimage.distance_transform_edt(np.pad(mask[box], 1))[1:-1, 1:-1, 1:-1]
    return depth


def body_of(
    hu: Hounsfield, lung: Mask, spacing: Spacing, seed: Seed, air: float, *, without_vessels: bool = False
) -> Body | None:
    """The body around ``seed``; None if there is none, or one that is larger than its cube.

    ``air`` is the median of the whole lung, Hounsfield units. What is brighter than the seed's ceiling counts as no
    brighter: a vessel and a solid core then do not stand out of the ground glass around them. ``without_vessels``: what
    is solid and leaves the ball of the seed is cut out first, with its blur; a solid core inside stays.
    """
    radius = seed.diameter_mm / 2
    for grow in (1.0, 1.7):
        step = float(np.clip(grow * radius / 6, 0.6, 1.6))
        crop = cut(hu, lung, spacing, np.asarray(seed.index), 1.4 * grow * radius + 5.0, step)
        where = crop.lung & ~_solid_vessels(crop, 1.2 * radius + 0.5) if without_vessels else crop.lung
        clipped = replace(crop, hu=np.minimum(crop.hu, np.float32(seed.ceiling)))
        found = _body_in(clipped, where, radius, seed, air)
        if found is None or not _at_border(found.mask):
            return found and _unclipped(found, crop, seed)
    return None


def _unclipped(body: Body, crop: Crop, seed: Seed) -> Body:
    """``body`` with the values themselves, its share of ground glass, and the outline half-way to that glass."""
    inside = (depth_of(body.mask) - 0.5) * crop.step_mm > _BLUR_MM
    if not inside.any():
        return replace(body, crop=crop)
    soft = ndimage.gaussian_filter(crop.hu, 0.4 / crop.step_mm)[inside]
    faint = soft[soft < GLASS_HU]
    edge = 0.5 * (float(np.median(faint)) + body.lung_hu) if seed.is_faint and faint.size else body.edge_hu
    return replace(body, crop=crop, glass=float(faint.size / soft.size), edge_hu=edge)


def _at_border(mask: Mask) -> bool:
    return any(bool(np.take(mask, end, axis).any()) for axis in range(3) for end in (0, -1))


def _body_in(crop: Crop, where: Mask, radius: float, seed: Seed, air: float) -> Body | None:
    step = crop.step_mm
    middle = np.asarray(crop.hu.shape) // 2
    axis = (np.arange(crop.hu.shape[0]) - middle[0]) * step
    squared = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2
    around = crop.lung & (squared > (1.3 * radius + 1.0) ** 2)
    near = crop.lung & (squared <= max(0.5 * radius, 1.01 * step) ** 2)
    if np.count_nonzero(around) < 30 or not near.any():
        return None
    # around a core there may be nothing but ground glass
    lung_hu = min(float(np.percentile(crop.hu[around], 40)), air + 100.0)
    soft = ndimage.gaussian_filter(crop.hu, 0.6 / step)
    core_hu = float(np.median(soft[near]))
    start = squared <= (0.7 * radius + step) ** 2
    if core_hu - lung_hu < LEAST_CONTRAST:
        return None
    edge_hu = 0.5 * (core_hu + lung_hu)
    bright = where & (soft > edge_hu)
    # distance to what is no lung, mm; without any in the crop nothing is near it
    wall = np.full(crop.lung.shape, np.inf, np.float32)
    if not crop.lung.all():
        wall = ndimage.distance_transform_edt(crop.lung).astype(np.float32) * np.float32(step)
    inner = _opened(bright, start, wall, step)
    if core_hu < GLASS_HU:
        # a vessel beside ground glass is brighter than it
        apart = _opened(bright & ~_vessels(soft, core_hu, lung_hu, squared, 1.2 * radius), start, wall, step)
        if apart is not None and (inner is None or _rounder(apart, inner)):
            inner = apart
    if inner is None:
        return None
    # what the seed is the middle of need not be the middle of the body
    deep = inner.mask & (inner.depth > 0.5 * inner.ball)
    inside_hu = float(np.median(soft[deep])) if deep.any() else core_hu
    if abs(inside_hu - core_hu) > 0.1 * (core_hu - lung_hu) and inside_hu - lung_hu > LEAST_CONTRAST:
        core_hu = inside_hu
        again = _opened(where & (soft > 0.5 * (core_hu + lung_hu)), inner.mask, wall, step)
        if again is None:
            return None
        inner = again
    inner, edge_hu = _with_glass(crop, soft, wall, inner, lung_hu, core_hu)
    return _described(crop, inner, lung_hu, core_hu, edge_hu, seed)


def _with_glass(
    crop: Crop, soft: Array, wall: Array, inner: _Opened, lung_hu: float, core_hu: float
) -> tuple[_Opened, float]:
    """``inner`` with the ground glass around it, if there is any; and the Hounsfield units of the outline."""
    step, edge_hu = crop.step_mm, 0.5 * (core_hu + lung_hu)
    halo = _halo(soft, crop.lung, inner, lung_hu, step)
    if halo is None or halo - lung_hu >= 0.6 * (core_hu - lung_hu):
        return inner, edge_hu
    low = 0.5 * (halo + lung_hu)
    outer = _opened(crop.lung & (soft > low), inner.mask, wall, step)
    if outer is None or np.count_nonzero(outer.mask) <= 1.3 * np.count_nonzero(inner.mask):
        return inner, edge_hu
    # the ring lies in the blur of core and outline: look again well within the glass
    depth = (depth_of(outer.mask) - 0.5) * step
    away = (distance_to(inner.mask, 1.0 / step + 1.0) - 0.5) * step
    glass = outer.mask & (depth > 1.0) & (depth <= 3.0) & (away > 1.0)
    if np.count_nonzero(glass) >= 20:
        low = 0.5 * (float(np.median(soft[glass])) + lung_hu)
        again = _opened(crop.lung & (soft > low), inner.mask, wall, step)
        if again is not None and np.count_nonzero(again.mask) > 1.3 * np.count_nonzero(inner.mask):
            return again, low
        return inner, edge_hu
    return outer, low


def _solid_vessels(crop: Crop, reach: float) -> Mask:
    """What is solid and leaves the ball of ``reach`` mm around the middle of ``crop``, with the blur around it."""
    step = crop.step_mm
    middle = np.asarray(crop.hu.shape) // 2
    axis = (np.arange(crop.hu.shape[0]) - middle[0]) * step
    squared = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2
    labels, count = ndimage.label(ndimage.gaussian_filter(crop.hu, 0.4 / step) > SOLID_HU)
    far = ndimage.maximum(squared, labels, range(1, count + 1)) if count else ()
    leaves = np.concatenate([[False], np.asarray(far) > reach**2])
    return np.asarray(distance_to(leaves[labels], _VESSEL_BLUR_MM / step) * step <= _VESSEL_BLUR_MM)


def _vessels(soft: Array, core_hu: float, lung_hu: float, squared: Array, reach: float) -> Mask:
    """What is brighter than ground glass of ``core_hu`` and leaves the ball of ``reach`` mm: no solid core."""
    bright = soft > core_hu + max(0.6 * (core_hu - lung_hu), 120.0)
    labels, count = ndimage.label(bright)
    far = ndimage.maximum(squared, labels, range(1, count + 1)) if count else ()
    leaves = np.concatenate([[False], np.asarray(far) > reach**2])
    return np.asarray(leaves[labels])


def _rounder(one: _Opened, other: _Opened) -> bool:
    """Whether ``one`` is much more of a ball than ``other``, and not just a part of it."""
    first, second = np.count_nonzero(one.mask), np.count_nonzero(other.mask)
    return bool(one.ball**3 / first > 1.15 * other.ball**3 / second and one.ball > 0.75 * other.ball)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Opened:
    mask: Mask
    bright: Mask
    depth: Array
    ball: float


def _opened(bright: Mask, start: Mask, wall: Array, step: float) -> _Opened | None:
    """What of ``bright`` belongs to the largest ball that has its middle in ``start``."""
    labels, count = ndimage.label(bright)
    if not count:
        return None
    # pieces that the start does not reach change no distance within the others
    reached = np.zeros(count + 1, dtype=np.bool_)
    reached[labels[start]] = True
    reached[0] = False
    depth = depth_of(reached[labels]) * np.float32(step)
    inside = np.where(start, depth, 0)
    at = np.unravel_index(int(np.argmax(inside)), inside.shape)
    ball = float(depth[at])
    if ball < LEAST_BALL_MM:
        return None
    bright = labels == labels[at]
    mask = bright
    for opening, growth in (_GENTLE, _FIRM):
        cores, _ = ndimage.label(depth > opening * ball)
        far = distance_to(cores == cores[at], (opening + _CORNER[1]) * ball / step) * step
        # a ball rounds off the corner at the pleura
        corner = (wall <= _CORNER[0] * ball) & (far <= (opening + _CORNER[1]) * ball)
        mask = bright & ((far <= (opening + growth) * ball) | corner)
        # vessels leave it: a firm opening takes more of them, and rounds the rest
        if np.count_nonzero(bright & ~mask) < _MUCH_LEAVES * np.count_nonzero(mask):
            break
    return _Opened(mask=mask, bright=bright, depth=depth, ball=ball)


def _halo(soft: Array, lung: Mask, inner: _Opened, lung_hu: float, step: float) -> float | None:
    """Hounsfield units of the ground glass around a core; None if there is none.

    Looked for outside of the blur of the core's edge, and in a thin ring, where it must be clearer, within it.
    """
    out = (distance_to(inner.mask, 3.0 / step + 1.0) - 0.5) * step
    free = lung & ~inner.bright
    for low, high, least in ((1.5, 2.8, _HALO), (0.9, 1.8, 1.9 * _HALO)):
        ring = free & (out > low) & (out <= high + 0.3 * step)
        if np.count_nonzero(ring) < 20:
            continue
        lower, level = (float(q) - lung_hu for q in np.percentile(soft[ring], (30, 50)))
        if level > least and lower > 0.6 * least:
            return level + lung_hu
    return None


def _described(crop: Crop, found: _Opened, lung_hu: float, core_hu: float, edge_hu: float, seed: Seed) -> Body | None:
    step = crop.step_mm
    cells = np.argwhere(found.mask)
    if len(cells) < 8:
        return None
    spread = np.cov(cells.T.astype(np.float64)) + np.eye(3) / 12
    axes = np.sqrt(5 * np.maximum(np.linalg.eigvalsh(spread)[::-1], 1e-6)) * step
    middle = cells.mean(axis=0)
    low = max(0.25 * found.ball, 0.5) + 0.5 * step
    out = distance_to(found.mask, low / step + 1.01) * step
    shell = (out > low) & (out <= low + step)
    vessels = shell & found.bright
    total = max(int(np.count_nonzero(shell)), 1)
    thick = float(found.depth[vessels].max()) / found.ball if vessels.any() else 0.0
    return Body(
        crop=crop,
        mask=found.mask,
        bright=found.bright,
        lung_hu=lung_hu,
        core_hu=core_hu,
        edge_hu=edge_hu,
        centre=crop.index(middle),
        ball_mm=found.ball,
        half_axes_mm=(float(axes[0]), float(axes[1]), float(axes[2])),
        volume_ml=len(cells) * step**3 / 1000,
        attached=int(np.count_nonzero(vessels)) / total,
        wall=int(np.count_nonzero(shell & ~crop.lung)) / total,
        vessel=thick,
        opposed=_opposed(vessels, middle),
        seed=seed,
    )


def _opposed(vessels: Mask, middle: NDArray[np.float64]) -> float:
    """How opposite two of the vessels leave: 1 for a straight tube, 0 for one vessel or none."""
    labels, count = ndimage.label(vessels, np.ones((3, 3, 3)))
    if count < 2:
        return 0.0
    away = np.asarray(ndimage.center_of_mass(vessels, labels, range(1, count + 1))) - middle
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
    return float(np.clip(-(away @ away.T).min(), 0, 1))
