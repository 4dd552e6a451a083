"""Findings of a patient who lies on the back, as for CT: free air rises to the front, fluid sinks to the back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from overread.phantom.anatomy import AIR, FLUID, Anatomy, Side
from overread.phantom.findings import Region, cells, fill, measure
from overread.phantom.grid import Box, Floats, Level
from overread.phantom.lattice import Lattice, random_lattice
from overread.phantom.organs import Organs

#: Distance of the points that measure volumes, mm.
_FINE_MM = 1.4
#: Planes measured at a time.
_PLANES = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Lung:
    """The pleural cavity of one side and what is taken of it."""

    anatomy: Anatomy
    side: Side

    @property
    def organs(self) -> Organs:
        """The levels of the organs."""
        return Organs(anatomy=self.anatomy)

    def level(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Negative in the cavity."""
        return self.organs.lung(self.side, x, y, z)

    def wall(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Minus the distance from the ribs."""
        return self.organs.wall_distance(self.side, x, y, z)

    @property
    def box(self) -> Box:
        """A box that holds it."""
        return self.organs.lung_box(self.side)


def free_air(lung: Lung, volume_ml: float, taken: tuple[Region, ...]) -> Region:
    """A pneumothorax: deepest in front, and lower down (the deep sulcus), thinner towards the sides."""
    depth, height = np.float32(90 * lung.anatomy.depth), np.float32(lung.anatomy.height)

    def thickness(x: Floats, y: Floats, z: Floats) -> Floats:  # noqa: ARG001
        front = np.clip(np.float32(0.55) - y / (np.float32(1.7) * depth), 0.02, 1.0)
        low = np.float32(1.0) - np.float32(0.35) * np.clip(z / (np.float32(220.0) * height), 0, 1)
        return np.asarray(front * low, dtype=np.float32)

    def field(x: Floats, y: Floats, z: Floats) -> Floats:
        return np.asarray(-lung.wall(x, y, z) / thickness(x, y, z))

    return _region(lung, "pneumothorax", field, thickness, volume_ml, taken, hu=AIR, moves_lung=True, soft_mm=0.0)


def free_fluid(lung: Lung, volume_ml: float, taken: tuple[Region, ...]) -> Region:
    """An effusion: it lies at the back with a nearly level surface, and climbs the wall as a meniscus."""

    def field(x: Floats, y: Floats, z: Floats) -> Floats:
        climb = np.float32(38.0) * np.exp(np.minimum(lung.wall(x, y, z), 0) / np.float32(11.0))
        return np.asarray(-y - climb + np.float32(0.10) * z, dtype=np.float32)

    return _region(lung, "pleural_effusion", field, _one, volume_ml, taken, hu=FLUID, moves_lung=True, soft_mm=0.0)


def consolidation(
    lung: Lung, volume_ml: float, centre: tuple[float, float, float], seed: int, taken: tuple[Region, ...], hu: float
) -> Region:
    """A patch of lung whose air is replaced, ragged, on one side of the oblique fissure; ``centre`` in mm."""
    rough = random_lattice(np.random.default_rng([seed, 21]), lung.box, 5.0, smooth=1.2)
    here = np.array([[c] for c in centre], dtype=np.float32)
    lobe = np.float32(np.sign(float(oblique_fissure(lung.anatomy, lung.side, here[0], here[1], here[2])[0])) or 1.0)

    def within(x: Floats, y: Floats, z: Floats) -> Floats:
        fissure = -lobe * oblique_fissure(lung.anatomy, lung.side, x, y, z)
        return np.asarray(np.maximum(lung.level(x, y, z) + np.float32(1.0), fissure))

    def field(x: Floats, y: Floats, z: Floats) -> Floats:
        distance = np.sqrt(sum((v - np.float32(c)) ** 2 for v, c in zip((x, y, z), centre, strict=True)))
        return np.asarray(distance + np.float32(6.0) * rough.at(x, y, z), dtype=np.float32)

    others = tuple(r.level for r in taken if r.side is lung.side)
    level, edge = fill(field, _one, within, lung.box, volume_ml, others)
    return _measured(lung, "consolidation", level, edge, hu=hu, moves_lung=False, soft_mm=4.0)


def oblique_fissure(anatomy: Anatomy, side: Side, x: Floats, y: Floats, z: Floats) -> Floats:
    """Signed distance, mm, from the major fissure: positive in the lower lobe (behind and below)."""
    x, y, z = anatomy.to_reference(x, y, z)
    wave = np.float32(5.0) * np.sin(x / np.float32(31.0) + np.float32(side.sign)) + np.float32(4.0) * np.sin(
        z / np.float32(37.0)
    )
    return np.asarray((y - np.float32(70.0)) * np.float32(0.62) - (z - np.float32(118.0)) * np.float32(0.785) + wave)


def minor_fissure(anatomy: Anatomy, x: Floats, y: Floats, z: Floats) -> Floats:
    """Signed distance, mm, from the minor fissure of the right lung: positive in the middle lobe; only in front of
    the major one."""
    x, y, z = anatomy.to_reference(x, y, z)
    return np.asarray(np.float32(78.0) - z - np.float32(0.0022) * (y + np.float32(20.0)) ** 2 + np.float32(0.12) * x)


@dataclass(frozen=True, kw_only=True, eq=False)
class Emphysema:
    """Destroyed lung in clusters, more of it above: a field whose lower values are air-filled."""

    field: Lattice
    #: How many units of the field the upper lobes are ahead, over the height of the lung, mm.
    apex_mm: float
    threshold: float
    #: Width of the border, in units of the field.
    width: float = 0.4
    #: Hounsfield units inside.
    hu: float = -992.0

    def share(self, values: Floats) -> Floats:
        """0 to 1: how much of the lung at a point is destroyed, from the value (see `on`) there."""
        return np.asarray(np.clip(0.5 - (values - np.float32(self.threshold)) / np.float32(self.width), 0, 1))

    def on(self, values: Floats, z: Floats) -> Floats:
        """The field, from what its lattice has at heights ``z``."""
        lead = np.float32(0.9) * np.clip(z / np.float32(self.apex_mm), -0.6, 1.2)
        return np.asarray(values - lead, dtype=np.float32)


def _region(
    lung: Lung, key: str, field: Level, scale: Level, volume_ml: float, taken: tuple[Region, ...],
    *, hu: float, moves_lung: bool, soft_mm: float,
) -> Region:  # fmt: skip
    others = tuple(r.level for r in taken if r.side is lung.side)
    level, edge = fill(field, scale, lung.level, lung.box, volume_ml, others)
    return _measured(lung, key, level, edge, hu=hu, moves_lung=moves_lung, soft_mm=soft_mm)


def _measured(
    lung: Lung, key: str, level: Level, edge: Level, *, hu: float, moves_lung: bool, soft_mm: float
) -> Region:
    _rough, box = measure(level, lung.box)
    # finer, and by points: shares of cells say too much of what is thinner than a cell
    grid = cells(
        ((box[0][0] - 3, box[0][1] - 3, box[0][2] - 3), (box[1][0] + 3, box[1][1] + 3, box[1][2] + 3)), _FINE_MM
    )
    count = 0
    for first in range(0, len(grid.depths), _PLANES):
        depths = grid.depths[first : first + _PLANES, None, None]
        count += int(np.count_nonzero(level(grid.cols[None, None, :], grid.rows[None, :, None], depths) < 0))
    step = [abs(float(v[1] - v[0])) for v in (grid.depths, grid.rows, grid.cols)]
    volume = count * float(np.prod(step)) / 1000.0
    return Region(
        key=key, side=lung.side, level=level, edge=edge, moves_lung=moves_lung, hu=hu, soft_mm=soft_mm,
        volume_ml=volume, box=box,
    )  # fmt: skip


def _one(x: Floats, y: Floats, z: Floats) -> Floats:  # noqa: ARG001
    return np.float32(1.0)  # type: ignore[return-value]
