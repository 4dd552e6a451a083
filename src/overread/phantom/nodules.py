"""Pulmonary nodules: shapes of known size, and what is measured on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from overread.phantom.anatomy import Side
from overread.phantom.findings import cells
from overread.phantom.grid import Box, Floats, Level, coverage


class Density(StrEnum):
    """How a nodule looks (Fleischner Society 2017)."""

    SOLID = "solid"
    #: A solid core in a ground-glass halo.
    PART_SOLID = "part_solid"
    GROUND_GLASS = "ground_glass"


class Contact(StrEnum):
    """What a nodule touches."""

    NONE = "none"
    VESSEL = "vessel"
    #: The costal pleura, with a broad base: the part beyond the pleura is cut off.
    PLEURA = "pleura"


#: Hounsfield units of the solid and of the ground-glass part.
SOLID_HU, GROUND_GLASS_HU = 30.0, -600.0


@dataclass(frozen=True, kw_only=True)
class Nodule:
    """A nodule to put somewhere; raises ValueError for a size outside 2 to 60 mm."""

    #: Longest axial diameter of the whole shape, mm (of a nodule at the pleura: before it is cut off).
    diameter_mm: float
    density: Density = Density.SOLID
    contact: Contact = Contact.NONE
    #: Short over long half-axes: (1, 1) is a sphere.
    flatness: tuple[float, float] = (1.0, 1.0)
    #: Height of the bumps on the surface, as a share of the radius: 0 smooth, 0.25 lobulated.
    lobulation: float = 0.0
    #: Diameter of the solid core of a part-solid nodule over that of the whole.
    core: float = 0.5
    #: Where: LPS+ mm of the phantom; None for a random place of that contact.
    centre_mm: tuple[float, float, float] | None = None
    #: Side of a random place; None for either.
    side: Side | None = None
    #: Turns and bumps of the shape.
    shape_seed: int = 0

    def __post_init__(self) -> None:
        if not 2.0 <= self.diameter_mm <= 60.0:
            raise ValueError(f"diameter_mm must be in 2..60, got {self.diameter_mm}")
        if not all(0.3 <= f <= 1.0 for f in self.flatness) or not 0 <= self.lobulation <= 0.4:
            raise ValueError("flatness must be in 0.3..1 and lobulation in 0..0.4")
        if not 0.1 <= self.core <= 0.95:
            raise ValueError(f"core must be in 0.1..0.95, got {self.core}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape:
    """The exact surface of a nodule at its place."""

    nodule: Nodule
    centre: tuple[float, float, float]

    @property
    def _scale(self) -> float:
        """Half-axis, mm, that gives the longest axial diameter which was asked for."""
        return _scale_of(self.nodule)

    def level(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Negative inside the nodule, about mm."""
        return self._scaled(x, y, z, 1.0)

    def core(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """The same for the solid part of a part-solid nodule."""
        return self._scaled(x, y, z, self.nodule.core)

    def _scaled(self, x: Floats, y: Floats, z: Floats, core: float) -> Floats:
        s = np.float32(self._scale)
        u, v, w = ((p - np.float32(c)) / s for p, c in zip((x, y, z), self.centre, strict=True))
        return np.asarray(s * _unit_level(self.nodule, u, v, w, core))

    @property
    def reach(self) -> float:
        """Radius of a ball around `centre` that holds the nodule, mm."""
        return self._scale * (1.0 + 1.6 * self.nodule.lobulation)

    @property
    def box(self) -> Box:
        """A box, mm, that holds the nodule."""
        low, high = ([c + sign * self.reach for c in self.centre] for sign in (-1, 1))
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def at(self, centre: tuple[float, float, float]) -> Shape:
        """The same shape elsewhere."""
        return replace(self, centre=centre)


@lru_cache(maxsize=256)
def _form(nodule: Nodule) -> tuple[Floats, Floats, Floats]:
    """Turn (3, 3), directions (N, 3) and heights (N,) of the bumps of a shape."""
    turn = Rotation.random(rng=np.random.default_rng([nodule.shape_seed, 11])).as_matrix()
    rng = np.random.default_rng([nodule.shape_seed, 12])
    directions = rng.normal(size=(9, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    heights = nodule.lobulation * rng.uniform(-0.5, 1.0, size=9)
    return turn.astype(np.float32), directions.astype(np.float32), heights.astype(np.float32)


@lru_cache(maxsize=256)
def _scale_of(nodule: Nodule) -> float:
    if nodule.flatness == (1.0, 1.0) and not nodule.lobulation:
        return 0.5 * nodule.diameter_mm
    half = 1.0 + 1.6 * nodule.lobulation
    unit = _measured(lambda x, y, z: _unit_level(nodule, x, y, z), ((-half,) * 3, (half,) * 3), 0.04)
    return nodule.diameter_mm / unit.diameter_mm if unit else 0.5 * nodule.diameter_mm


def _unit_level(nodule: Nodule, x: Floats, y: Floats, z: Floats, core: float = 1.0) -> Floats:
    """Level of the shape with half-axes of about 1, or of its core."""
    turn, directions, heights = _form(nodule)
    radii = (1.0, *nodule.flatness)
    u = [(turn[i, 0] * x + turn[i, 1] * y + turn[i, 2] * z) / np.float32(core * radii[i]) for i in range(3)]
    length = np.sqrt(u[0] ** 2 + u[1] ** 2 + u[2] ** 2)
    surface: Floats | np.float32 = np.float32(1.0)
    if nodule.lobulation:
        safe = np.maximum(length, np.float32(1e-3))
        for direction, height in zip(directions, heights, strict=True):
            cosine = (direction[0] * u[0] + direction[1] * u[1] + direction[2] * u[2]) / safe
            surface = surface + height * np.exp(np.float32(7.0) * (cosine - np.float32(1.0)))
    return np.asarray((length - surface) * np.float32(core * float(np.mean(radii))), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Size of a body, from samples a fraction of a voxel apart."""

    centre_mm: tuple[float, float, float]
    volume_ml: float
    #: Longest diameter in the axial plane where it is longest, and the longest chord across it in that plane, mm.
    diameter_mm: float
    perpendicular_mm: float
    box_mm: Box


def measure_body(level: Level, box: Box, step: float) -> Measured:
    """Centre of mass, volume and axial diameters of what lies inside ``level``; ``step`` is the sampling, mm.

    Raises ValueError if nothing does.
    """
    found = _measured(level, box, step)
    if found is None:
        raise ValueError("the body is empty")
    return found


def _measured(level: Level, box: Box, step: float) -> Measured | None:
    grid = cells(box, step)
    value = np.broadcast_to(level(*grid.points()), grid.shape)
    part = coverage(value, step).astype(np.float64)
    inside = value < 0
    if not inside.any():
        return None
    total = part.sum()
    axes = (grid.cols, grid.rows, grid.depths)
    sums = (part.sum(axis=(0, 1)), part.sum(axis=(0, 2)), part.sum(axis=(1, 2)))
    centre = [float((a * s).sum() / total) for a, s in zip(axes, sums, strict=True)]
    ends = []
    for axis, values in ((2, grid.cols), (1, grid.rows), (0, grid.depths)):
        hit = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        ends.append((float(values[hit[0]]) - step / 2, float(values[hit[-1]]) + step / 2))
    (x0, x1), (y0, y1), (z0, z1) = ends
    longest, across = 0.0, 0.0
    areas = inside.sum(axis=(1, 2))
    for plane in np.flatnonzero(areas > 0.6 * areas.max()):
        one, two = _diameters(value[plane], grid.rows, grid.cols, step)
        if one > longest:
            longest, across = one, two
    return Measured(
        centre_mm=(centre[0], centre[1], centre[2]),
        volume_ml=float(total) * step**3 / 1000.0,
        diameter_mm=longest,
        perpendicular_mm=across,
        box_mm=((x0, y0, z0), (x1, y1, z1)),
    )


def _diameters(level: Floats, rows: Floats, cols: Floats, step: float) -> tuple[float, float]:
    """Longest chord and the longest chord at right angles to it, mm, of one cross-section."""
    r, c = np.nonzero(level < 0)
    if len(r) < 4 or np.ptp(r) == 0 or np.ptp(c) == 0:
        return (float(max(np.ptp(r), np.ptp(c)) + 1) * step, step) if len(r) else (0.0, 0.0)
    points = np.column_stack([cols[c], rows[r]]).astype(np.float64)
    # a sample lies this far within the surface
    depth = np.minimum(-level[r, c].astype(np.float64), step)
    corners = ConvexHull(points).vertices
    hull, rim = points[corners], depth[corners]
    gaps = np.linalg.norm(hull[:, None] - hull[None, :], axis=-1) + rim[:, None] + rim[None, :]
    i, j = np.unravel_index(int(gaps.argmax()), gaps.shape)
    along = (hull[j] - hull[i]) / max(float(np.linalg.norm(hull[j] - hull[i])), 1e-9)
    u = points @ along
    v = points @ np.array([-along[1], along[0]])
    strip = np.floor((u - u.min()) / (1.5 * step)).astype(int)
    low, high = np.full(strip.max() + 1, np.inf), np.full(strip.max() + 1, -np.inf)
    np.minimum.at(low, strip, v - depth)
    np.maximum.at(high, strip, v + depth)
    return float(gaps[i, j]), float((high - low).max())


def draw_nodules(rng: np.random.Generator, count: int | None = None) -> tuple[Nodule, ...]:
    """A realistic set: one to four (or ``count``) of 4 to 30 mm, small ones more often; most are solid."""
    number = int(rng.integers(1, 5)) if count is None else count
    out = []
    for _ in range(number):
        diameter = float(np.clip(4.0 * np.exp(rng.exponential(0.75)), 4.0, 30.0))
        density = (Density.SOLID, Density.PART_SOLID, Density.GROUND_GLASS)[rng.choice(3, p=[0.65, 0.2, 0.15])]
        if density is not Density.SOLID:
            diameter = min(diameter + 2.0, 30.0)
        contact = (Contact.NONE, Contact.VESSEL, Contact.PLEURA)[rng.choice(3, p=[0.5, 0.25, 0.25])]
        flat = (float(rng.uniform(0.7, 1.0)), float(rng.uniform(0.65, 1.0)))
        flatness = (1.0, 1.0) if rng.random() < 0.4 else flat
        lobulated = diameter > 8 and rng.random() < 0.5
        out.append(
            Nodule(
                diameter_mm=diameter,
                density=density,
                contact=contact,
                flatness=flatness,
                lobulation=float(rng.uniform(0.1, 0.25)) if lobulated else 0.0,
                core=float(rng.uniform(0.35, 0.65)),
                shape_seed=int(rng.integers(2**31)),
            )
        )
    return tuple(out)
