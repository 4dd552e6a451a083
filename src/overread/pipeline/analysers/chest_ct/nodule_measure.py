"""How large a nodule is: axial diameters at half of its contrast, and volume with partial volume counted.

Diameters as the Fleischner Society asks (Bankier, Radiology 2017;285:584): the longest in the axial section where it is
longest, and the longest at right angles to it in the same section; measured on the scanner's own slices between pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull

from overread.domain.segment import Mask
from overread.domain.volume import Hounsfield
from overread.pipeline.analysers.chest_ct.nodule_seeds import Array
from overread.pipeline.analysers.chest_ct.nodule_shape import SOLID_HU, Body

#: Share of solid voxels from which a nodule is solid, and least radius of the ball inside a solid core, mm.
_SOLID_SHARE, _LEAST_CORE_MM = 0.55, 1.0
#: Radius of the opening in a section over that of the largest circle inside: of a free nodule, of one beside a vessel;
#: the share of the shell that a vessel takes, from which it is one.
_OPENING, _FIRM, _BESIDE = 0.6, 0.8, 0.015
#: How far outside of the body its edge may lie, mm.
_BEYOND_MM = 0.7


class NoduleDensity(StrEnum):
    """How a nodule looks (Fleischner Society 2017)."""

    SOLID = "solid"
    PART_SOLID = "part_solid"
    GROUND_GLASS = "ground_glass"


@dataclass(frozen=True, kw_only=True)
class Axial:
    """Diameters in one axial section, mm, and which (index along axis 0)."""

    longest_mm: float
    perpendicular_mm: float
    slice_index: int


@dataclass(frozen=True, kw_only=True)
class Size:
    """What was measured."""

    axial: Axial
    volume_ml: float
    density: NoduleDensity
    #: Longest axial diameter of the solid part, mm; 0 for ground glass, that of the whole for a solid nodule.
    core_mm: float


def measure(body: Body, hu: Hounsfield) -> Size | None:
    """Size of ``body`` in the volume ``hu`` (slices, rows, columns) that it was cut from; None if no section shows it.

    Of a part-solid nodule diameters and volume are those of the whole with its ground glass.
    """
    axial = _axial(body, body.mask, hu, body.edge_hu)
    if axial is None:
        return None
    density, core = _density(body)
    core_mm = 0.0
    if density is NoduleDensity.SOLID:
        core_mm = axial.longest_mm
    elif core is not None:
        inner = _axial(body, core, hu, SOLID_HU)
        core_mm = inner.longest_mm if inner else 0.0
    return Size(axial=axial, volume_ml=_volume(body, density), density=density, core_mm=core_mm)


def _density(body: Body) -> tuple[NoduleDensity, Mask | None]:
    solid = body.mask & (ndimage.gaussian_filter(body.crop.hu, 0.5 / body.crop.step_mm) > SOLID_HU)
    # the rim is as bright as the outline by definition: judge inside, unless there is no inside
    inside = ndimage.distance_transform_edt(body.mask) * body.crop.step_mm > min(0.8, 0.4 * body.ball_mm)
    if int(np.count_nonzero(solid & inside)) >= _SOLID_SHARE * max(int(np.count_nonzero(inside)), 1):
        return NoduleDensity.SOLID, None
    depth = ndimage.distance_transform_edt(solid) * body.crop.step_mm
    if depth.max() < _LEAST_CORE_MM:
        return NoduleDensity.GROUND_GLASS, None
    labels, _ = ndimage.label(solid)
    return NoduleDensity.PART_SOLID, labels == labels[np.unravel_index(int(np.argmax(depth)), depth.shape)]


def _signed(mask: Mask, step: float) -> Array:
    """Distance to the surface of ``mask``, mm, negative inside."""
    outside = ndimage.distance_transform_edt(~mask)
    inside = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    return np.asarray((outside - inside + np.where(mask, 0.5, -0.5)) * step, dtype=np.float32)


def _volume(body: Body, density: NoduleDensity) -> float:
    """mL: what is deep inside counts whole, a voxel near the surface as far as it is brighter than lung."""
    crop = body.crop
    distance = _signed(body.mask, crop.step_mm)
    band = max(1.0, 0.5 * crop.spacing[0])
    level = 2 * body.edge_hu - body.lung_hu
    if density is NoduleDensity.SOLID:
        # the middle of a small nodule is blurred: its brightest part is nearer to what it is made of
        level = max(level, float(np.percentile(crop.hu[body.mask], 85)))
    share = (crop.hu - body.lung_hu) / (level - body.lung_hu)
    # within a vessel or the ground glass around a core, brightness is no share of a voxel
    upper = 1.0 if density is NoduleDensity.PART_SOLID else 1.2
    share = np.clip(share, -0.2, upper)
    share[(body.bright & ~body.mask) | ~crop.lung] = 0.0
    share[distance < -band] = 1.0
    share[distance > band] = 0.0
    return float(share.sum(dtype=np.float64)) * crop.step_mm**3 / 1000


def _axial(body: Body, mask: Mask, hu: Hounsfield, edge_hu: float) -> Axial | None:
    """The section with the longest diameter among those that are not much smaller than the largest."""
    crop = body.crop
    distance = _signed(mask, crop.step_mm)
    cells = np.argwhere(mask)
    low, high = crop.index(cells.min(axis=0) - 0.5), crop.index(cells.max(axis=0) + 0.5)
    slices = range(max(int(np.floor(low[0])), 0), min(int(np.ceil(high[0])), hu.shape[0] - 1) + 1)
    step = float(np.clip(body.ball_mm / 20, 0.15, 0.4))
    sections = []
    for index in slices:
        inside = _section(body, distance, hu, edge_hu, index, (low, high), step)
        if inside is not None:
            sections.append((int(np.count_nonzero(inside)), index, inside))
    if not sections:
        return None
    largest = max(area for area, _, _ in sections)
    found = [(*_diameters(inside, step), index) for area, index, inside in sections if area > 0.6 * largest]
    longest, across, index = max(found)
    return Axial(longest_mm=longest, perpendicular_mm=across, slice_index=index)


def _section(
    body: Body,
    distance: Array,
    hu: Hounsfield,
    edge_hu: float,
    index: int,
    ends: tuple[NDArray[np.float64], NDArray[np.float64]],
    step: float,
) -> Mask | None:
    """What is brighter than the edge near the body, in one slice, every ``step`` mm; vessels' stubs opened away."""
    crop = body.crop
    at, sides = [], []
    for axis in (1, 2):
        pixel = crop.spacing[axis]
        start, stop = ends[0][axis] - 1.5 / pixel, ends[1][axis] + 1.5 / pixel
        at.append(np.arange(start, stop, step / pixel))
        first = max(int(np.floor(start)) - 2, 0)
        sides.append(slice(first, min(int(np.ceil(stop)) + 3, hu.shape[axis])))
    plane = ndimage.gaussian_filter(hu[index, sides[0], sides[1]].astype(np.float32), 0.5)
    rows, columns = np.meshgrid(at[0], at[1], indexing="ij")
    bright = ndimage.map_coordinates(
        plane, [rows - sides[0].start, columns - sides[1].start], order=1, mode="nearest"
    ) > np.float32(edge_hu)
    scale = np.asarray(crop.spacing) / crop.step_mm
    places = [
        np.full(rows.shape, (index - crop.origin[0]) * scale[0]),
        (rows - crop.origin[1]) * scale[1],
        (columns - crop.origin[2]) * scale[2],
    ]
    near = ndimage.map_coordinates(distance, places, order=1, mode="nearest") <= _BEYOND_MM
    lung = ndimage.map_coordinates(crop.lung.astype(np.float32), places, order=1, mode="constant") >= 0.5
    inside = bright & near & lung
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1] * step
    ball = float(depth.max())
    if ball <= 2 * step:
        return None
    opening = _FIRM if body.attached > _BESIDE else _OPENING
    core = depth > opening * ball
    labels, _ = ndimage.label(core)
    core = labels == labels[np.unravel_index(int(np.argmax(depth)), depth.shape)]
    return np.asarray(inside & (ndimage.distance_transform_edt(~core) * step <= (opening + 0.06) * ball))


def _diameters(inside: Mask, step: float) -> tuple[float, float]:
    """Longest diameter and the longest at right angles to it, mm, of what is set in a section."""
    points = np.argwhere(inside).astype(np.float64) * step
    corners = points if np.ptp(points, axis=0).min() == 0 else points[ConvexHull(points).vertices]
    gaps = np.linalg.norm(corners[:, None] - corners[None, :], axis=-1)
    one, two = np.unravel_index(int(gaps.argmax()), gaps.shape)
    longest = float(gaps[one, two])
    along = (corners[two] - corners[one]) / max(longest, 1e-9)
    place, across = points @ along, points @ np.array([-along[1], along[0]])
    strip = np.floor((place - place.min()) / (1.5 * step)).astype(int)
    low, high = np.full(strip.max() + 1, np.inf), np.full(strip.max() + 1, -np.inf)
    np.minimum.at(low, strip, across)
    np.maximum.at(high, strip, across)
    # the outermost points lie on average not quite half a step inside, at either end
    return longest + 0.8 * step, float((high - low).max()) + 0.8 * step
