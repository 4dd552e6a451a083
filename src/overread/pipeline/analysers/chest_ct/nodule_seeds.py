"""Where a nodule may be: bright round blobs in the lungs at many sizes.

The Laplacian of Gaussian answers most strongly at a ball of radius r when sigma = r / sqrt(3) (Lindeberg, Int J Comput
Vis 1998;30:79), and the Hessian tells a ball from a vessel (Frangi, MICCAI 1998; Li, Med Phys 2003;30:2040): all three
curvatures are alike in a ball, one is about zero along a tube, two within a sheet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.segment import Mask
from overread.domain.volume import Hounsfield

Array = NDArray[np.float32]
Spacing = tuple[float, float, float]
Sides = tuple[slice, slice, slice]

#: Diameters that are looked for, mm, and the grid on which: small ones on 1 mm, large ones on 2 mm.
FINE_MM, COARSE_MM = 1.0, 2.0
FINE_DIAMETERS = (4.0, 5.7, 8.0)
COARSE_DIAMETERS = (11.0, 15.5, 22.0, 31.0, 44.0)
#: Ground glass is looked for among values that end at this contrast to the lung, HU: there neither a core nor a vessel
#: stands out of it. The first two on the fine grid.
FAINT_DIAMETERS = (5.7, 8.0, 11.0, 15.5, 22.0)
FAINT_HU = 230.0
_FINE_FAINT = 2
#: Least answer of the normalised Laplacian, HU (a ball answers with 0.93 of its contrast), and least ratio of the
#: smallest to the largest curvature.
LEAST_ANSWER, LEAST_ROUNDNESS = 70.0, 0.25
#: Least answer over the spread of all answers of that size in this lung: noise and fine texture answer too.
LEAST_OVER_SPREAD = 4.0
#: Least share of the ball of 0.8 radii that is brighter than half of the blob's contrast, and the largest share of the
#: shell between 1.25 and 1.6 radii (a tube goes through it twice).
LEAST_FILL, MOST_SHELL = 0.65, 0.6
#: Below this the middle of something is ground glass, HU; a blob among faint values without so much of it in its ball
#: is taken for solid, as any other.
GLASS_HU, _LEAST_GLASS = -350.0, 0.3
#: Calcium and metal count no more than this, HU.
_BRIGHTEST = 150.0
#: Small blobs answer to noise, mostly: those of less contrast than a solid nodule must answer more, HU.
_LEAST_SMALL_ANSWER = 140.0
#: Slices are thick for a blob above this share of its radius.
_THICK_SLICE = 0.65
#: (among faint values, diameters from and below, mm; how many): no more seeds in one lung, the most ball-like. The
#: smallest, which most vessels answer to and few nodules of a size that matters, take no room from the others.
_ROOMS = (
    (False, 0.0, 5.0, 40),
    (False, 5.0, 9.0, 70),
    (False, 9.0, np.inf, 60),
    (True, 0.0, 9.0, 55),
    (True, 9.0, np.inf, 40),
)


@dataclass(frozen=True, kw_only=True)
class Seed:
    """A blob."""

    #: Place in the volume, index along axes 0, 1, 2.
    index: tuple[float, float, float]
    #: Diameter that its scale stands for, mm.
    diameter_mm: float
    #: Normalised Laplacian, HU; ratio of the smallest to the largest curvature, 0..1.
    answer: float
    roundness: float
    #: Shares of ball and shell that are as bright as the blob, 0..1; contrast of its middle to the lung, HU.
    fill: float
    shell: float
    contrast: float
    #: Share of what is bright in the ball that is no brighter than ground glass.
    glass: float = 0.0
    #: What is brighter counts as no brighter, Hounsfield units: of a blob among faint values.
    ceiling: float = np.inf

    @property
    def is_faint(self) -> bool:
        """Whether it was found among faint values."""
        return bool(np.isfinite(self.ceiling))


def box_of(mask: Mask, margin: int = 0) -> Sides | None:
    """The index ranges around what is set in ``mask``, widened by ``margin`` voxels; None if nothing is."""
    sides = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if hit.size == 0:
            return None
        sides.append(slice(max(int(hit[0]) - margin, 0), min(int(hit[-1]) + 1 + margin, mask.shape[axis])))
    return sides[0], sides[1], sides[2]


def median_hu(hu: Hounsfield, lung: Mask) -> float:
    """Median of the lung, Hounsfield units, from every second voxel along each axis if that leaves any."""
    for step in (2, 1):
        part = np.s_[::step, ::step, ::step]
        values = hu[part][lung[part]]
        if len(values):
            return float(np.median(values))
    raise ValueError("no lung")


def find_seeds(hu: Hounsfield, lung: Mask, spacing: Spacing) -> list[Seed]:
    """The blobs of one lung, in each of `_ROOMS` the most ball-like first.

    ``hu`` and ``lung`` are (slices, rows, columns) of the same shape, ``spacing`` mm along each axis. What is outside
    the lung counts as lung, so that neither the chest wall nor the heart answers.
    """
    box = box_of(lung)
    if box is None:
        return []
    inside = lung[box]
    air = median_hu(hu[box], inside)
    fine, fine_mm = _averaged(hu[box], inside, air, spacing)
    coarse = fine
    coarse_mm = list(fine_mm)
    for axis in range(3):
        matrix, coarse_mm[axis] = _average_matrix(coarse.shape[axis], fine_mm[axis], COARSE_MM)
        if matrix is not None:
            coarse = np.moveaxis(np.tensordot(matrix, coarse, (1, axis)), 0, axis)
    coarse = np.ascontiguousarray(coarse)
    ceiling = air + FAINT_HU
    seeds: list[Seed] = []
    for grid, grid_mm, diameters, highest in (
        (fine, fine_mm, FINE_DIAMETERS, np.inf),
        (coarse, coarse_mm, COARSE_DIAMETERS, np.inf),
        (fine, fine_mm, FAINT_DIAMETERS[:_FINE_FAINT], ceiling),
        (coarse, coarse_mm, FAINT_DIAMETERS[_FINE_FAINT:], ceiling),
    ):
        values = np.minimum(grid, np.float32(highest))
        lung_cells = grid != np.float32(air)
        for diameter in diameters:
            rows = _blobs(values, lung_cells, (grid_mm[0], grid_mm[1], grid_mm[2]), diameter)
            # corner of the box, then the middle of each averaged cell
            for axis in range(3):
                rows[:, axis] = box[axis].start + rows[:, axis] / spacing[axis] - 0.5
            for row in rows:
                seed = _looked_at(row, hu, lung, spacing, air, highest)
                if seed.is_faint and seed.glass < _LEAST_GLASS:
                    seed = _looked_at(row, hu, lung, spacing, air, np.inf)
                seeds.append(seed)
    likely = [s for s in seeds if s.fill >= LEAST_FILL and s.shell <= MOST_SHELL]
    out: list[Seed] = []
    for faint, low, high, most in _ROOMS:
        out += _strongest([s for s in likely if s.is_faint is faint and low <= s.diameter_mm < high], spacing, most)
    return out


def _average_matrix(count: int, step: float, wanted: float) -> tuple[Array | None, float]:
    """The matrix that averages ``count`` cells of ``step`` mm to cells of about ``wanted`` mm; None if it is finer."""
    cells = round(count * step / wanted)
    if step > 0.8 * wanted or cells < 1:
        return None, step
    size = count * step / cells
    edges = np.arange(cells + 1) * (size / step)
    start, stop = np.arange(count), np.arange(1, count + 1)
    overlap = np.minimum(edges[1:, None], stop) - np.maximum(edges[:-1, None], start)
    share = np.maximum(overlap, 0) * (step / size)
    return share.astype(np.float32), size


def _averaged(hu: Hounsfield, inside: Mask, air: float, spacing: Spacing) -> tuple[Array, tuple[float, float, float]]:
    """``hu`` in cells of about `FINE_MM`, ``air`` outside, slice by slice; and the size of a cell, mm."""
    rows, row_mm = _average_matrix(hu.shape[1], spacing[1], FINE_MM)
    columns, column_mm = _average_matrix(hu.shape[2], spacing[2], FINE_MM)
    planes = np.empty(
        (len(hu), hu.shape[1] if rows is None else len(rows), hu.shape[2] if columns is None else len(columns)),
        np.float32,
    )
    for index in range(len(hu)):
        plane = np.where(inside[index], np.minimum(hu[index], _BRIGHTEST), air).astype(np.float32)
        if rows is not None:
            plane = rows @ plane
        planes[index] = plane if columns is None else plane @ columns.T
    slices, slice_mm = _average_matrix(len(hu), spacing[0], FINE_MM)
    if slices is not None:
        planes = np.tensordot(slices, planes, (1, 0))
    return planes, (slice_mm, row_mm, column_mm)


def _blobs(grid: Array, inside: Mask, grid_mm: Spacing, diameter: float) -> NDArray[np.float64]:
    """Rows (mm along axes 0, 1, 2 from the grid's corner, diameter, answer, roundness) of the blobs of one size."""
    sigma = diameter / (2 * np.sqrt(3))
    # the grid's cells and the scanner's slices blur already
    widths = [max(np.sqrt(max(sigma**2 - step**2 / 12, 0)), 0.45 * step) / step for step in grid_mm]
    smooth = np.pad(ndimage.gaussian_filter(grid, widths, mode="nearest", truncate=3.0), 1, mode="edge")
    centre = (slice(1, -1),) * 3
    bend = np.zeros_like(grid)
    for axis, step in enumerate(grid_mm):
        for shift in (slice(None, -2), slice(2, None)):
            where = list(centre)
            where[axis] = shift
            part = smooth[tuple(where)] - smooth[centre]
            part *= np.float32(1 / step**2)
            bend -= part
    bend *= np.float32(sigma**2)
    spread = 1.4826 * float(np.median(np.abs(bend[inside]))) if inside.any() else 0.0
    least = _LEAST_SMALL_ANSWER if diameter < 5.0 else LEAST_ANSWER
    hits = np.argwhere(bend > max(least, LEAST_OVER_SPREAD * spread))
    if len(hits) == 0:
        return np.empty((0, 6))
    answers = bend[tuple(hits.T)]
    bend = np.pad(bend, 1, constant_values=-np.inf)
    best = np.ones(len(hits), dtype=np.bool_)
    for offset in np.ndindex(3, 3, 3):
        if offset != (1, 1, 1):
            near = bend[tuple((hits[best] + offset).T)]
            best[best] = near <= answers[best]
    hits, answers = hits[best], answers[best]
    round_ = _roundness(smooth, hits + 1, grid_mm)
    keep = round_ >= LEAST_ROUNDNESS
    place = (hits[keep] + 0.5) * np.asarray(grid_mm)
    return np.column_stack([place, np.full(len(place), diameter), answers[keep], round_[keep]])


def _roundness(smooth: Array, at: NDArray[np.int64], grid_mm: Spacing) -> NDArray[np.float64]:
    """Smallest over largest curvature of ``smooth`` at the points ``at`` (N, 3), 0 where one points up."""

    def value(*offset: int) -> NDArray[np.float64]:
        return np.asarray(smooth[tuple((at + offset).T)], np.float64)

    hessian = np.empty((len(at), 3, 3))
    unit = np.eye(3, dtype=int)
    for i in range(3):
        hessian[:, i, i] = (value(*unit[i]) + value(*-unit[i]) - 2 * value(0, 0, 0)) / grid_mm[i] ** 2
        for j in range(i):
            plus, minus = unit[i] + unit[j], unit[i] - unit[j]
            mixed = value(*plus) + value(*-plus) - value(*minus) - value(*-minus)
            hessian[:, i, j] = hessian[:, j, i] = mixed / (4 * grid_mm[i] * grid_mm[j])
    curves = -np.linalg.eigvalsh(hessian)
    return np.asarray(np.clip(curves[:, 2] / np.maximum(curves[:, 0], 1e-6), 0, 1))


def _looked_at(
    row: NDArray[np.float64], hu: Hounsfield, lung: Mask, spacing: Spacing, air: float, ceiling: float
) -> Seed:
    """The blob of ``row`` looked at in the voxels themselves."""
    radius = row[3] / 2
    axes, sides = [], []
    for axis in range(3):
        reach = max(1.6 * radius / spacing[axis], 1.3)
        start = max(int(np.floor(row[axis] - reach)), 0)
        stop = min(int(np.ceil(row[axis] + reach)) + 1, hu.shape[axis])
        sides.append(slice(start, max(stop, start + 1)))
        axes.append(((np.arange(sides[-1].start, sides[-1].stop) - row[axis]) * spacing[axis]) ** 2)
    place = (sides[0], sides[1], sides[2])
    squared = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
    part, inside = hu[place], lung[place]
    near = inside & (squared <= max(0.5 * radius, 0.75 * spacing[0]) ** 2)
    core = min(float(np.median(part[near])), ceiling) if near.any() else air
    # one thick slice sees a small nodule whole, the next ones only in part
    thick = spacing[0] > _THICK_SLICE * radius
    bright = inside & (part > air + (0.35 if thick else 0.5) * (core - air))
    # with thick slices at least the next ones take part, or each cut through a vessel is a ball
    flat = axes[0] * (0.8 * radius / max(0.8 * radius, 1.2 * spacing[0])) ** 2
    ball = flat[:, None, None] + axes[1][None, :, None] + axes[2][None, None, :] <= (0.8 * radius) ** 2
    within = bright & ball
    shell = (squared >= (1.25 * radius) ** 2) & (squared <= (1.6 * radius) ** 2)
    return Seed(
        index=(float(row[0]), float(row[1]), float(row[2])),
        diameter_mm=float(row[3]),
        answer=float(row[4]),
        roundness=float(row[5]),
        fill=_share(bright, ball),
        shell=_share(bright, shell),
        contrast=core - air,
        glass=_share(part < GLASS_HU, within),
        ceiling=ceiling,
    )


def _share(part: Mask, whole: Mask) -> float:
    return int(np.count_nonzero(part & whole)) / max(int(np.count_nonzero(whole)), 1)


def _strongest(seeds: list[Seed], spacing: Spacing, most: int) -> list[Seed]:
    """One seed a place and size: those near the middle of a rounder one of about its size are the same thing."""
    seeds = sorted(seeds, key=lambda seed: -seed.roundness * seed.fill * (1 - seed.shell) ** 2)
    mm = np.asarray([seed.index for seed in seeds]).reshape(-1, 3) * np.asarray(spacing)
    size = np.asarray([seed.diameter_mm for seed in seeds])
    left = np.ones(len(seeds), dtype=np.bool_)
    out: list[Seed] = []
    for index, seed in enumerate(seeds):
        if len(out) == most:
            break
        if not left[index]:
            continue
        out.append(seed)
        alike = (size <= 1.5 * seed.diameter_mm) & (size >= seed.diameter_mm / 1.5)
        left &= (np.linalg.norm(mm - mm[index], axis=1) > 0.3 * seed.diameter_mm) | ~alike
    return out
