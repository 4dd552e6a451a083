"""Figures of a volume that grow with one kind of degradation, from small means of its slices and a sample of them.

Arrays are (slices, rows, columns), Hounsfield units for CT. `Overview` holds every slice at about 64 x 64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.volume import Floats, Volume, WarningCode

Stack = NDArray[np.int16] | NDArray[np.float32]
Planes = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Pixels of an overview's longer side.
_OVERVIEW = 64
#: How many slices are looked at pixel by pixel.
SAMPLE = 24
#: Body against air, and lung against tissue in means of blocks.
_BODY_HU, _LUNG_HU = -400.0, -500.0
#: Values beyond do not matter for where edges are.
_FLOOR_HU, _CEILING_HU = -1000.0, 300.0
#: HU from one block to the next that make an edge.
_EDGE_HU = 60.0
#: HU that noise makes of the difference of two blocks.
_EDGE_FLOOR_HU = 10.0
#: Just within and just beyond the padded circle, as shares of its radius.
_RIM, _BEYOND = 0.985, 1.04
#: Soft tissue, as the mean of a block.
_SOFT_HU = (-50.0, 150.0)
_BLOCK = 8
#: Bone ends and metal begins here.
METAL_HU = 2500
_METAL_PIXELS = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Overview:
    """Every slice as means of square blocks."""

    #: float32 (slices, rows, columns).
    planes: Planes
    #: Side of a block in pixels of the volume.
    factor: int
    #: Area of a block, mm2, and distance of slices, mm.
    block_mm2: float
    step_mm: float


def stack(volume: Volume) -> Stack:
    """The voxels with the scanner's slices along axis 0; nothing is copied."""
    return np.moveaxis(volume.hu, volume.slice_axis, 0)


def overview(volume: Volume) -> Overview:
    """Means of blocks, slice by slice, so that no second volume is held."""
    slices = stack(volume)
    count, rows, columns = slices.shape
    factor = max(1, max(rows, columns) // _OVERVIEW)
    small_r, small_c = max(1, rows // factor), max(1, columns // factor)
    height, width = min(factor, rows), min(factor, columns)
    planes = np.empty((count, small_r, small_c), np.float32)
    for index, plane in enumerate(slices):
        blocks = plane[: small_r * height, : small_c * width].reshape(small_r, height, small_c, width)
        planes[index] = blocks.sum(axis=3, dtype=np.float32).sum(axis=1) / (height * width)
    spacing = volume.spacing_mm
    across = [spacing[axis] for axis in range(3) if axis != volume.slice_axis]
    return Overview(
        planes=np.nan_to_num(planes, nan=_FLOOR_HU),
        factor=factor,
        block_mm2=across[0] * across[1] * factor**2,
        step_mm=spacing[volume.slice_axis],
    )


def sample(count: int) -> list[int]:
    """At most `SAMPLE` slices, evenly, without the outermost tenth on each side."""
    first, last = count // 10, count - 1 - count // 10
    return sorted({round(at) for at in np.linspace(first, last, min(SAMPLE, count))})


def body(view: Overview) -> Mask:
    """The largest thing denser than air in each slice, with its holes filled, at the overview's size; no table."""
    mask = np.zeros(view.planes.shape, np.bool_)
    for index, plane in enumerate(view.planes):
        labels, count = ndimage.label(ndimage.binary_opening(plane > _BODY_HU, np.ones((3, 3), np.bool_)))
        if count:
            sizes = np.bincount(labels.ravel())
            sizes[0] = 0
            mask[index] = ndimage.binary_fill_holes(labels == sizes.argmax())
    return mask


def jumps(planes: Planes) -> float:
    """How far slices lie off the mean of their neighbours, in half the distance of those, at edges; worst tenth.

    Anatomy that changes evenly gives 0, slices moved at random 1.7. A breath shows in a few slices, so that the worst
    tenth counts. Slices without content are passed over. Takes HU (or MR values scaled to 1000).
    """
    shown = np.clip(planes[~_is_blank(planes)], _FLOOR_HU, _CEILING_HU)
    if len(shown) < 5:
        return 0.0
    figures: list[float] = []
    for index in range(1, len(shown) - 1):
        before, here, after = shown[index - 1 : index + 2]
        middle = (before + after) / 2
        edges = np.hypot(*np.gradient(middle)) > _EDGE_HU
        if np.count_nonzero(edges) < 20:
            continue
        off = float(np.mean(np.abs(here - middle)[edges]))
        apart = float(np.mean(np.abs(after - before)[edges])) / 2
        figures.append(off / (apart + _EDGE_FLOOR_HU))
    if not figures:
        return 0.0
    worst = max(1, len(figures) // 10)
    return float(np.mean(np.sort(figures)[-worst:]))


def soft_noise(plane: NDArray[np.int16] | NDArray[np.float32]) -> float | None:
    """Standard deviation in soft tissue, HU: the 25th percentile over blocks of 8 x 8; None without enough of them."""
    rows, columns = (count // _BLOCK * _BLOCK for count in plane.shape)
    if not rows or not columns:
        return None
    blocks = plane[:rows, :columns].astype(np.float32).reshape(rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK)
    means, spreads = blocks.mean(axis=(1, 3)), blocks.std(axis=(1, 3))
    soft = spreads[(means > _SOFT_HU[0]) & (means < _SOFT_HU[1])]
    return float(np.percentile(soft, 25.0)) if soft.size >= 12 else None


def streaks(slices: Stack, at: list[int], noise: list[float | None]) -> float:
    """Share of the sampled slices with metal whose soft tissue varies half more than that of the others."""
    metal = [np.count_nonzero(slices[index] > METAL_HU) >= _METAL_PIXELS for index in at]
    quiet = [value for value, has in zip(noise, metal, strict=True) if value is not None and not has]
    loud = [value for value, has in zip(noise, metal, strict=True) if value is not None and has]
    if not loud:
        return 0.0
    usual = float(np.median(quiet)) if quiet else min(loud)
    return sum(1 for value in loud if value > 1.5 * usual) / len(at)


def body_cut(slices: Stack, at: list[int]) -> float:
    """Share of the field of view's border that is body, median over the sampled slices, 0..1.

    The border is that of the image, or of the circle in it where the body ends: scanners write air beyond it.
    """
    rows, columns = slices.shape[1:]
    angles = np.linspace(0, 2 * np.pi, 360, endpoint=False)

    def ring(plane: Stack, radius: float) -> Mask:
        r = np.rint((rows - 1) / 2 + radius * rows / 2 * np.sin(angles)).astype(int)
        c = np.rint((columns - 1) / 2 + radius * columns / 2 * np.cos(angles)).astype(int)
        inside = (r >= 0) & (r < rows) & (c >= 0) & (c < columns)
        values: Mask = (plane[np.clip(r, 0, rows - 1), np.clip(c, 0, columns - 1)] > _BODY_HU) & inside
        return values

    shares = []
    for index in at:
        plane = slices[index]
        border = np.concatenate([plane[0], plane[-1], plane[:, 0], plane[:, -1]])
        ends = ring(plane, _RIM) & ~ring(plane, _BEYOND)
        shares.append(max(float(np.mean(border > _BODY_HU)), float(np.mean(ends))))
    return float(np.median(shares)) if shares else 0.0


def lung_areas(view: Overview, outline: Mask) -> Floats | None:
    """Area of air inside the body, mm2 by slice; None if it is less than half a litre: no chest."""
    areas = np.count_nonzero(outline & (view.planes < _LUNG_HU), axis=(1, 2)) * view.block_mm2
    litres = float(areas.sum()) * view.step_mm / 1e6
    return np.asarray(areas, np.float64) if litres >= 0.5 else None


def gap_beside(volume: Volume) -> tuple[bool, bool]:
    """Whether the series goes on beyond the first and the last slice, after a gap: it was cut there, not the body."""
    if volume.has(WarningCode.VARIABLE_SPACING):
        return True, True
    lost = [at for w in volume.warnings if w.code is WarningCode.MISSING_SLICES for at in w.positions_mm]
    step = volume.affine[:3, volume.slice_axis]
    one, two = (volume.affine[:3, axis] for axis in range(3) if axis != volume.slice_axis)
    normal = np.cross(one, two) / np.linalg.norm(np.cross(one, two))
    first = volume.affine[:3, 3]
    last = first + step * (volume.hu.shape[volume.slice_axis] - 1)
    reach = 1.5 * abs(float(step @ normal))
    beside = [any(abs(abs(at) - abs(float(end @ normal))) <= reach for at in lost) for end in (first, last)]
    return beside[0], beside[1]


def lungs_cut(areas: Floats) -> tuple[float, float]:
    """Lung area in the first and in the last slice, as shares of the largest."""
    largest = float(areas.max())
    if largest <= 0:
        return 0.0, 0.0
    return float(areas[0]) / largest, float(areas[-1]) / largest


def window_clipped(slices: Stack, at: list[int], outline: Mask, factor: int) -> float:
    """Share of the body's voxels that have the highest value of all, or the lowest if that is not air, 0..1."""
    inside: list[NDArray[np.float32]] = []
    for index in at:
        mask = np.repeat(np.repeat(outline[index], factor, 0), factor, 1)
        plane = slices[index][: mask.shape[0], : mask.shape[1]]
        inside.append(plane[mask[: plane.shape[0], : plane.shape[1]]][::3].astype(np.float32))
    values = np.concatenate(inside) if inside else np.zeros(0, np.float32)
    if values.size < 100:
        return 0.0
    low, high = float(values.min()), float(values.max())
    top = float(np.mean(values == high)) if high < METAL_HU else 0.0
    bottom = float(np.mean(values == low)) if low > -900 else 0.0
    return max(top, bottom)


def blank(planes: Planes) -> float:
    """Share of the slices that hold a single value."""
    return float(np.mean(_is_blank(planes))) if planes.size else 0.0


def _is_blank(planes: Planes) -> Mask:
    """Of each slice, whether it holds a single value."""
    return np.asarray(np.ptp(planes, axis=(1, 2)) < 1e-3)


def border_level(planes: Planes) -> float:
    """Median value of the blocks at the border of the slices."""
    return float(
        np.median(
            np.concatenate(
                [planes[:, 0].ravel(), planes[:, -1].ravel(), planes[:, :, 0].ravel(), planes[:, :, -1].ravel()]
            )
        )
    )
