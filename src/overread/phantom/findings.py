"""Findings to put into a thorax, of a volume that is asked for, and the truth about them.

Air, fluid and consolidation are each the part of the pleural cavity where some field stays under a threshold; the
threshold is the quantile of that field which gives the wanted volume. So the truth is exact by construction, up to
the sampling that is stated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from overread.domain.image import BoundingBox
from overread.phantom.anatomy import AIR, FLUID, Anatomy, Side
from overread.phantom.grid import Box, Floats, Grid, Level, axis_points, coverage
from overread.phantom.organs import LUNG_TOP, Organs

#: Distance of the samples that measure volumes, mm.
SAMPLE_MM = 2.5


@dataclass(frozen=True, kw_only=True)
class Pneumothorax:
    """Free air in the pleural space of an upright patient: over the apex and down the side."""

    side: Side
    volume_ml: float


@dataclass(frozen=True, kw_only=True)
class PleuralEffusion:
    """Free fluid in the pleural space of an upright patient, with its meniscus."""

    side: Side
    volume_ml: float


@dataclass(frozen=True, kw_only=True)
class Consolidation:
    """A patch of lung whose air is replaced; ``centre`` is relative to the lung's box (0..1 from midline to wall,
    front to back, base to apex)."""

    side: Side
    volume_ml: float
    centre: tuple[float, float, float] = (0.55, 0.6, 0.42)
    hu: float = -100.0


Finding = Pneumothorax | PleuralEffusion | Consolidation


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """A finding at its place in one thorax."""

    #: Key of the finding in `domain.catalogue`.
    key: str
    side: Side
    #: Negative inside, mm; limited to the pleural cavity and to what findings before it left.
    level: Level
    #: The same without these limits, so negative outside the cavity too: where the finding ends within it.
    edge: Level
    #: Whether the lung has moved away from there (pleural air), rather than being filled.
    moves_lung: bool
    #: Hounsfield units that it has instead of lung.
    hu: float
    #: Width of the border within the lung, mm; 0 for a sharp one.
    soft_mm: float
    #: Volume, mL, measured on samples of `SAMPLE_MM`, and the box that holds it, mm, LPS.
    volume_ml: float
    box: Box


@dataclass(frozen=True, kw_only=True)
class FindingTruth:
    """What is known about a finding of a phantom."""

    #: Key of the finding in `domain.catalogue`.
    key: str
    #: None where the finding has no side.
    side: Side | None
    #: mL; for cardiomegaly that of the whole heart.
    volume_ml: float
    #: (low, high) corners (x, y, z) in mm, LPS of the phantom.
    box_mm: Box
    #: Where the finding is projected, in pixels of the image; None where it falls outside the image or on CT.
    box: BoundingBox | None = None
    #: Heart width over the inner width of the thorax on a frontal image; only for cardiomegaly.
    cardiothoracic_ratio: float | None = None


def cells(box: Box, step: float) -> Grid:
    """Cells of ``step`` mm that fill ``box``, as axial planes."""
    low, high = box
    z = axis_points(low[2], high[2], step)
    return Grid(
        normal=2,
        row_axis=1,
        col_axis=0,
        depths=z,
        rows=axis_points(low[1], high[1], step),
        cols=axis_points(low[0], high[0], step),
        shrink=np.ones(len(z), dtype=np.float32),
    )


def measure(level: Level, box: Box, step: float = SAMPLE_MM) -> tuple[float, Box]:
    """Volume in mL of what lies inside ``level``, and its box in mm (the given box when it is empty)."""
    grid = cells(box, step)
    part = coverage(np.broadcast_to(level(*grid.points()), grid.shape), step)
    volume = float(part.sum(dtype=np.float64)) * step**3 / 1000.0
    inside = part >= 0.5
    if not inside.any():
        return volume, box
    ends = []
    for axis, values in ((2, grid.cols), (1, grid.rows), (0, grid.depths)):
        hit = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        ends.append((float(values[hit[0]]) - step / 2, float(values[hit[-1]]) + step / 2))
    (x0, x1), (y0, y1), (z0, z1) = ends
    return volume, ((x0, y0, z0), (x1, y1, z1))


def place(finding: Finding, anatomy: Anatomy, taken: tuple[Region, ...] = ()) -> Region:
    """The region that ``finding`` takes in the thorax of ``anatomy``, outside the regions ``taken``.

    Raises ValueError when the volume is not positive or leaves less than a fifth of the lung.
    """
    organs = Organs(anatomy=anatomy)
    side = finding.side
    box = organs.lung_box(side)

    def lung(x: Floats, y: Floats, z: Floats) -> Floats:
        return organs.lung(side, x, y, z)

    def wall(x: Floats, y: Floats, z: Floats) -> Floats:
        return organs.wall_distance(side, x, y, z)

    field, scale = _field(finding, anatomy, wall, box)
    others = tuple(region.level for region in taken if region.side is side)
    level, edge = fill(field, scale, lung, box, finding.volume_ml, others)
    volume, box_mm = measure(level, box)
    key, hu = _KIND[type(finding)]
    return Region(
        key=key,
        side=side,
        level=level,
        edge=edge,
        moves_lung=isinstance(finding, Pneumothorax),
        hu=finding.hu if isinstance(finding, Consolidation) else hu,
        soft_mm=_SOFT_MM[type(finding)],
        volume_ml=volume,
        box=box_mm,
    )


def fill(
    field: Level, scale: Level, lung: Level, box: Box, volume_ml: float, others: tuple[Level, ...] = ()
) -> tuple[Level, Level]:
    """The part of ``lung`` outside ``others`` where ``field`` is lowest and that has ``volume_ml``.

    ``scale`` is how many mm a unit of the field is. Returns `Region.level` and `Region.edge`; raises ValueError when
    the volume is not positive or takes more than four fifths of what is there.
    """
    grid = cells(box, SAMPLE_MM)
    points = grid.points()
    part = coverage(np.broadcast_to(lung(*points), grid.shape), SAMPLE_MM)
    for other in others:
        part = part * (other(*points) > 0)
    used = part > 0
    values = np.broadcast_to(field(*points), grid.shape)[used]
    order = np.argsort(values)
    share = np.cumsum(part[used][order], dtype=np.float64) * SAMPLE_MM**3 / 1000.0
    if not 0 < volume_ml < 0.8 * share[-1]:
        raise ValueError(f"{volume_ml} mL do not fit into a lung of {share[-1]:.0f} mL")
    threshold = float(values[order][int(np.searchsorted(share, volume_ml))])

    def edge(x: Floats, y: Floats, z: Floats) -> Floats:
        return np.asarray((field(x, y, z) - np.float32(threshold)) * scale(x, y, z), dtype=np.float32)

    def level(x: Floats, y: Floats, z: Floats) -> Floats:
        level = np.maximum(edge(x, y, z), lung(x, y, z))
        for other in others:
            level = np.maximum(level, -other(x, y, z))
        return np.asarray(level)

    return level, edge


_KIND: dict[type, tuple[str, float]] = {
    Pneumothorax: ("pneumothorax", AIR),
    PleuralEffusion: ("pleural_effusion", FLUID),
    Consolidation: ("consolidation", 0.0),
}


#: Width of the border of each finding, mm; the edge of a lung that air pushes away is sharp.
_SOFT_MM: dict[type, float] = {Pneumothorax: 0.0, PleuralEffusion: 7.0, Consolidation: 18.0}


def _field(finding: Finding, anatomy: Anatomy, wall: Level, box: Box) -> tuple[Level, Level]:
    """The field whose lower values the finding takes first, and how many mm a unit of it is."""

    def one(x: Floats, y: Floats, z: Floats) -> Floats:  # noqa: ARG001
        return np.float32(1.0)  # type: ignore[return-value]

    match finding:
        case Pneumothorax():
            # air is deepest at the apex and thins out towards the base
            def thickness(x: Floats, y: Floats, z: Floats) -> Floats:  # noqa: ARG001
                up = np.clip((z / np.float32(anatomy.height) + 20.0) / (LUNG_TOP - 20.0), 0.02, 1.0)
                return np.asarray(up**0.8, dtype=np.float32)

            return (lambda x, y, z: -wall(x, y, z) / thickness(x, y, z)), thickness
        case PleuralEffusion():
            # the meniscus climbs the wall
            return (lambda x, y, z: z - 52.0 * np.exp(np.minimum(wall(x, y, z), 0) / 30.0)), one
        case Consolidation():
            low, high = box
            lateral = finding.centre[0] if finding.side is Side.LEFT else 1.0 - finding.centre[0]
            fraction = (lateral, finding.centre[1], finding.centre[2])
            c = [np.float32(a + f * (b - a)) for a, b, f in zip(low, high, fraction, strict=True)]
            waves = np.random.default_rng(anatomy.seed).normal(0, 1, size=(10, 3))
            phases = np.random.default_rng(anatomy.seed + 1).uniform(0, 2 * np.pi, size=10)

            def ragged(x: Floats, y: Floats, z: Floats) -> Floats:
                distance = np.sqrt((x - c[0]) ** 2 + (y - c[1]) ** 2 + ((z - c[2]) / np.float32(1.15)) ** 2)
                bumps = np.float32(0.0)
                for i, ((a, b, d), phase) in enumerate(zip(waves / 11.0, phases, strict=True)):
                    bumps = bumps + np.sin(
                        np.float32(a) * x + np.float32(b) * y + np.float32(d) * z + np.float32(phase)
                    ) / np.float32(1 + 0.15 * i)
                return np.asarray(distance + np.float32(5.5) * bumps, dtype=np.float32)

            return ragged, one
