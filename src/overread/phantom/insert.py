"""Lesions of known size put into a real CT: what an analyser finds of them is its sensitivity in real anatomy.

Each voxel is blended with the lesion by the share of it that the lesion fills, blurred as the scanner blurs, and gets
noise that was cut out of soft tissue of the same scan. Pleural fluid and air are not offered: they would have to push
the real lung aside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from overread.domain.segment import Mask
from overread.domain.volume import Volume
from overread.phantom.anatomy import Side
from overread.phantom.ct_truth import CtFinding, nodule_truth
from overread.phantom.grid import Floats
from overread.phantom.nodules import GROUND_GLASS_HU, SOLID_HU, Density, Nodule, Shape, measure_body

Point = tuple[float, float, float]

#: In-plane blur (sigma) of a scanner with a medium kernel, mm.
BLUR_MM = 0.5
#: Soft tissue that noise is cut from, HU, and the side of the square pieces, pixels.
_TISSUE_HU, _PIECE = (0.0, 90.0), 20
#: Voxels above are vessels, airway walls or disease: where the places proposed have at most this share of them.
_DENSE_HU, _DENSE_SHARE = -500.0, 0.06
#: Distance of the voxels on which places are looked for, mm.
_COARSE_MM = 2.0
_CONSOLIDATED_HU = 15.0
_EDGE_MM = 4.0
#: Airways are darker.
_AIR_HU = -960.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Inserted:
    """A volume with one lesion more."""

    volume: Volume
    truth: CtFinding
    #: Where: box in the volume (slices, rows, columns), and the share of each voxel in it, float32.
    place: tuple[slice, slice, slice]
    share: Floats


def insert_nodule(
    volume: Volume, centre_mm: Point, nodule: Nodule, rng: np.random.Generator, *, side: Side | None = None
) -> Inserted:
    """``volume`` with ``nodule`` at ``centre_mm`` (LPS+ mm); slices must lie along axis 0.

    Raises ValueError if it lies outside the volume. Ground glass is laid over the lung: vessels show through.
    """
    shape = Shape(nodule=nodule, centre=centre_mm)
    place = _place(volume, shape)
    share = _share(volume, place, shape, core=False)
    before = volume.hu[place].astype(np.float32)
    solid = share if nodule.density is Density.SOLID else np.zeros_like(share)
    after = before
    if nodule.density is not Density.SOLID:
        # what is missing to ground glass, so that noise and vessels stay
        after = before + share * np.maximum(np.float32(GROUND_GLASS_HU) - _smooth(volume, before), 0)
    if nodule.density is Density.PART_SOLID:
        solid = _share(volume, place, shape, core=True)
    if solid.any():
        after = after + solid * (np.float32(SOLID_HU) + _noise(volume, place, rng) - after)
    size = measure_body(shape.level, shape.box, float(np.clip(nodule.diameter_mm / 36, 0.12, 0.7)))
    truth = nodule_truth(nodule, size, side)
    return Inserted(volume=_with(volume, place, after), truth=truth, place=place, share=share)


def insert_consolidation(
    volume: Volume,
    lungs: Mask,
    centre_mm: Point,
    volume_ml: float,
    rng: np.random.Generator,
    *,
    side: Side | None = None,
) -> Inserted:
    """``volume`` with a ragged patch of airless lung around ``centre_mm``, of ``volume_ml`` within ``lungs``.

    Airways and what is denser already stay. Raises ValueError if so much lung is not within 12 cm.
    """
    reach = 2.2 * (3000.0 * volume_ml / (4 * np.pi)) ** (1 / 3) + 12.0
    place = _box(volume, centre_mm, min(reach, 120.0))
    field = _ragged(volume, place, centre_mm, rng)
    within = lungs[place]
    wanted = round(volume_ml / volume.voxel_ml)
    values = np.sort(field[within])
    if not 0 < wanted < len(values):
        raise ValueError(f"{volume_ml} mL of lung are not to be had around {centre_mm}")
    threshold = np.float32(values[wanted])
    share = np.clip(np.float32(0.5) - (field - threshold) / np.float32(_EDGE_MM), 0, 1) * within
    share = ndimage.gaussian_filter(share, (0, *(BLUR_MM / s for s in volume.spacing_mm[1:]))).astype(np.float32)
    before = volume.hu[place].astype(np.float32)
    target = np.float32(_CONSOLIDATED_HU) + _noise(volume, place, rng)
    after = before + share * np.maximum(target - before, 0) * (_smooth(volume, before) > _AIR_HU)
    inside = np.argwhere((field < threshold) & within)
    points = volume.to_mm(inside + [s.start for s in place])
    (x, y, z), low, high = points.mean(axis=0).tolist(), points.min(axis=0).tolist(), points.max(axis=0).tolist()
    truth = CtFinding(
        key="consolidation",
        side=side,
        centre_mm=(x, y, z),
        volume_ml=len(inside) * volume.voxel_ml,
        box_mm=((low[0], low[1], low[2]), (high[0], high[1], high[2])),
    )
    return Inserted(volume=_with(volume, place, after), truth=truth, place=place, share=share)


def propose_places(
    volume: Volume,
    lungs: Mask,
    diameter_mm: float,
    rng: np.random.Generator,
    *,
    count: int = 1,
    avoid: Mask | None = None,
    apart_mm: float = 12.0,
) -> tuple[Point, ...]:
    """Up to ``count`` random centres, LPS+ mm, where a nodule of that size lies in aerated lung.

    Clear of the border of ``lungs``, of large vessels, dense lung and ``avoid`` (masks of the volume's shape), and
    ``apart_mm`` more than the diameter from each other. Fewer, down to none, where there is no room.
    """
    steps = [max(1, round(_COARSE_MM / s)) for s in volume.spacing_mm]
    coarse = tuple(slice(step // 2, None, step) for step in steps)
    spacing = [step * s for step, s in zip(steps, volume.spacing_mm, strict=True)]
    room = lungs[coarse] if avoid is None else lungs[coarse] & ~avoid[coarse]
    radius = 0.5 * diameter_mm
    depth = ndimage.distance_transform_edt(np.pad(room, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    dense = (volume.hu[coarse] > _DENSE_HU).astype(np.float32)
    sigma = [0.6 * (radius + 1.5) / s for s in spacing]
    crowded = ndimage.gaussian_filter(dense, sigma, truncate=2.5)
    candidates = np.argwhere((depth > radius + 2.0) & (crowded < _DENSE_SHARE))
    rng.shuffle(candidates)
    chosen: list[Floats] = []
    for index in candidates:
        point = volume.to_mm([i * step + step // 2 for i, step in zip(index.tolist(), steps, strict=True)])
        if all(np.linalg.norm(point - other) > diameter_mm + apart_mm for other in chosen):
            chosen.append(point)
        if len(chosen) == count:
            break
    return tuple((float(p[0]), float(p[1]), float(p[2])) for p in chosen)


def _with(volume: Volume, place: tuple[slice, slice, slice], values: Floats) -> Volume:
    hu = volume.hu.copy()
    hu[place] = np.rint(values) if hu.dtype == np.int16 else values
    return replace(volume, hu=hu)


def _smooth(volume: Volume, values: Floats) -> Floats:
    """Without noise: blurred by 1 mm within slices."""
    return np.asarray(ndimage.gaussian_filter(values, (0, *(1.0 / s for s in volume.spacing_mm[1:]))))


def _place(volume: Volume, shape: Shape) -> tuple[slice, slice, slice]:
    return _box(volume, shape.centre, shape.reach + 2.0)


def _box(volume: Volume, centre: Point, reach: float) -> tuple[slice, slice, slice]:
    """The voxels within ``reach`` mm along the axes of the volume."""
    if volume.slice_axis != 0:
        raise ValueError("slices must lie along axis 0")
    middle = volume.to_index(centre)
    out = []
    for index, spacing, size in zip(middle.tolist(), volume.spacing_mm, volume.shape, strict=True):
        if not -0.5 <= index <= size - 0.5:
            raise ValueError(f"{centre} lies outside the volume")
        half = reach / spacing + 1
        out.append(slice(max(0, int(index - half)), min(size, int(index + half) + 2)))
    return out[0], out[1], out[2]


def _share(volume: Volume, place: tuple[slice, slice, slice], shape: Shape, *, core: bool) -> Floats:
    """Share of each voxel, from many points in it; as thick as the slice is, which may be more than their distance."""
    thick = max(volume.slice_thickness_mm or 0.0, volume.spacing_mm[0]) / volume.spacing_mm[0]
    level = shape.core if core else shape.level
    counts = [max(2, int(np.ceil(s / 0.45))) for s in volume.spacing_mm]
    # an odd count of layers for slices that overlap
    offsets = [((np.arange(n) + 0.5) / n - 0.5) * (thick if axis == 0 else 1.0) for axis, n in enumerate(counts)]
    indices = [
        (np.arange(side.start, side.stop)[:, None] + offset[None, :]).ravel()
        for side, offset in zip(place, offsets, strict=True)
    ]
    sizes = [side.stop - side.start for side in place]
    share = np.empty(sizes, dtype=np.float32)
    step = 0.5 * float(np.mean([s / n for s, n in zip(volume.spacing_mm, counts, strict=True)]))
    for plane in range(sizes[0]):
        layers = indices[0][plane * counts[0] : (plane + 1) * counts[0]]
        grid = np.stack(np.meshgrid(layers, indices[1], indices[2], indexing="ij"), axis=-1)
        x, y, z = np.moveaxis(volume.to_mm(grid).astype(np.float32), -1, 0)
        part = np.clip(0.5 - level(x, y, z) / np.float32(2 * step), 0, 1)
        blocks = part.reshape(counts[0], sizes[1], counts[1], sizes[2], counts[2])
        share[plane] = blocks.mean(axis=(0, 2, 4))
    blur = (0, BLUR_MM / volume.spacing_mm[1], BLUR_MM / volume.spacing_mm[2])
    return np.asarray(ndimage.gaussian_filter(share, blur), dtype=np.float32)


def _noise(volume: Volume, place: tuple[slice, slice, slice], rng: np.random.Generator) -> Floats:
    """Noise of soft tissue of the same scan: for each slice another piece, mirrored until it fills the box."""
    sizes = [side.stop - side.start for side in place]
    out = np.zeros(sizes, dtype=np.float32)
    pieces = _pieces(volume, place, rng, sizes[0])
    for plane, piece in enumerate(pieces):
        reps = [-(-size // (2 * _PIECE)) for size in sizes[1:]]
        mirrored = np.block([[piece, piece[:, ::-1]], [piece[::-1], piece[::-1, ::-1]]])
        tiled = np.tile(mirrored, reps)
        shift = rng.integers(0, 2 * _PIECE, size=2)
        out[plane] = np.roll(tiled, shift.tolist(), axis=(0, 1))[: sizes[1], : sizes[2]]
    return out


def _pieces(
    volume: Volume, place: tuple[slice, slice, slice], rng: np.random.Generator, count: int
) -> list[npt.NDArray[np.float32]]:
    """Residuals of squares of homogeneous tissue; empty-handed (zeros) only in a scan without such tissue."""
    planes = np.arange(volume.shape[0])
    # near the lesion first: the noise is like that there
    nearness = np.argsort(np.abs(planes - 0.5 * (place[0].start + place[0].stop)) + rng.uniform(0, 3, len(planes)))
    found: list[npt.NDArray[np.float32]] = []
    for index in nearness[:40].tolist():
        plane = volume.hu[index].astype(np.float32)
        smooth = ndimage.uniform_filter(plane, 5)
        tissue = (smooth > _TISSUE_HU[0]) & (smooth < _TISSUE_HU[1])
        whole = ndimage.uniform_filter(tissue.astype(np.float32), _PIECE + 3)
        edge = _PIECE
        rows, columns = np.nonzero(whole[edge:-edge, edge:-edge] > 0.9999)
        for pick in rng.permutation(len(rows))[:4].tolist():
            r, c = int(rows[pick]) + edge - _PIECE // 2, int(columns[pick]) + edge - _PIECE // 2
            piece = plane[r : r + _PIECE, c : c + _PIECE]
            grain = piece - ndimage.gaussian_filter(piece, 4.0, mode="nearest")
            found.append(np.asarray(grain - grain.mean(), dtype=np.float32))
        if len(found) >= count:
            break
    if not found:
        return [np.zeros((_PIECE, _PIECE), dtype=np.float32)] * count
    return [found[i % len(found)] for i in range(count)]


def _ragged(volume: Volume, place: Sequence[slice], centre: Point, rng: np.random.Generator) -> Floats:
    """Distance from ``centre``, mm, with bumps of about a centimetre."""
    axes = [np.arange(s.start, s.stop) for s in place]
    points = volume.to_mm(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))
    distance = np.linalg.norm(points - np.asarray(centre), axis=-1).astype(np.float32)
    bumps = rng.standard_normal(distance.shape, dtype=np.float32)
    bumps = ndimage.gaussian_filter(bumps, [5.0 / s for s in volume.spacing_mm])
    return np.asarray(distance + np.float32(6.0) * bumps / max(float(bumps.std()), 1e-6), dtype=np.float32)
