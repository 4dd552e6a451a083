"""Where findings go in a CT phantom: inside the lungs, clear of airways and of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from overread.phantom.anatomy import SIDES, Anatomy, Side
from overread.phantom.ct_trees import Pieces, Trees
from overread.phantom.findings import Region
from overread.phantom.grid import Floats, Level
from overread.phantom.nodules import Contact, Nodule, Shape
from overread.phantom.organs import Organs

Point = tuple[float, float, float]
#: Vessels thicker than this (radius, mm) are kept away from small and from large isolated nodules.
_NEAR_VESSEL_MM, _LARGE_VESSEL_MM, _LARGE_NODULE_MM = 1.1, 3.6, 13.0
_GAP_MM, _TRIES = 3.0, 60


@dataclass(kw_only=True)
class Placer:
    """Finds places; it remembers what it has placed."""

    anatomy: Anatomy
    trees: Trees
    rng: np.random.Generator
    regions: Sequence[Region]
    placed: list[tuple[Side, Shape]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._organs = Organs(anatomy=self.anatomy)
        self._airways, self._blood = Pieces.of(self.trees.walled), Pieces.of(self.trees.blood)

    def put(self, nodule: Nodule) -> tuple[Side, Shape]:
        """The nodule at its place; raises ValueError if there is none."""
        shape = Shape(nodule=nodule, centre=(0.0, 0.0, 0.0))
        if nodule.centre_mm is not None:
            side = self.side_of(nodule.centre_mm)
            if side is None:
                raise ValueError(f"{nodule.centre_mm} lies in no lung")
            found = side, shape.at(nodule.centre_mm)
        else:
            found = self._search(shape)
        self.placed.append(found)
        return found

    def side_of(self, point: Point) -> Side | None:
        """The lung that holds a point."""
        x, y, z = (np.array([v], dtype=np.float32) for v in point)
        return next((side for side in SIDES if float(self._organs.lung(side, x, y, z)[0]) < 0), None)

    def _search(self, shape: Shape) -> tuple[Side, Shape]:
        nodule = shape.nodule
        for attempt in range(_TRIES):
            side = nodule.side or SIDES[int(self.rng.integers(2))]
            points = self._candidates(side, shape)
            if attempt < _TRIES // 2 and nodule.contact is not Contact.VESSEL:
                large = nodule.diameter_mm > _LARGE_NODULE_MM
                vessels = self._blood.thicker(_LARGE_VESSEL_MM if large else _NEAR_VESSEL_MM)
                points = points[vessels.clearance(points) > shape.reach + (0.0 if large else 1.0)]
            points = points[self._airways.clearance(points) > shape.reach + 1.5]
            for side_of, other in self.placed:
                if side_of is side:
                    apart = np.linalg.norm(points - np.asarray(other.centre), axis=1)
                    points = points[apart > shape.reach + other.reach + _GAP_MM]
            for region in self.regions:
                if region.side is side:
                    points = points[_at(region.level, points) > shape.reach + _GAP_MM]
            if len(points):
                x, y, z = points[0].tolist()
                return side, shape.at((x, y, z))
        raise ValueError(f"no place for a nodule of {nodule.diameter_mm:.1f} mm ({nodule.contact})")

    def _candidates(self, side: Side, shape: Shape) -> Floats:
        match shape.nodule.contact:
            case Contact.NONE:
                points = self._inside(side, 80)
                return np.asarray(points[_at(self._lung(side), points) < -(shape.reach + 2.5)])
            case Contact.VESSEL:
                return self._beside_vessels(side, shape)
            case Contact.PLEURA:
                return self._at_pleura(side, shape)

    def _lung(self, side: Side) -> Level:
        return lambda x, y, z: self._organs.lung(side, x, y, z)

    def _inside(self, side: Side, count: int) -> Floats:
        low, high = (np.asarray(c) for c in self._organs.lung_box(side))
        points = self.rng.uniform(low, high, size=(6 * count, 3))
        return np.asarray(points[_at(self._lung(side), points) < 0][:count])

    def _beside_vessels(self, side: Side, shape: Shape) -> Floats:
        """Centres from which the nodule just reaches a vessel of 2 to 6 mm."""
        keep = np.flatnonzero((self._blood.radii > 0.95) & (self._blood.radii < 3.0))
        chosen = self.rng.choice(keep, size=60)
        middle = 0.5 * (self._blood.starts[chosen] + self._blood.ends[chosen])
        axis = self._blood.ends[chosen] - self._blood.starts[chosen]
        across = np.cross(axis, self.rng.normal(size=axis.shape))
        across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
        radius = 0.5 * shape.nodule.diameter_mm * float(np.mean((1.0, *shape.nodule.flatness)))
        points = middle + across * (0.9 * radius + 0.6 * self._blood.radii[chosen])[:, None]
        inside = _at(self._lung(side), points) < -(shape.reach + 2.0)
        clear = self._blood.thicker(3.0).clearance(points) > shape.reach
        return np.asarray(points[inside & clear])

    def _at_pleura(self, side: Side, shape: Shape) -> Floats:
        """Centres a little under the costal pleura, where only the ribs bound the lung."""
        target = -0.22 * shape.nodule.diameter_mm

        def wall(x: Floats, y: Floats, z: Floats) -> Floats:
            return self._organs.wall_distance(side, x, y, z)

        points = self._inside(side, 400)
        points = points[_at(wall, points) > -25.0]
        for _ in range(4):
            value = _at(wall, points)
            slope = np.stack([(_at(wall, points + step) - value) / 0.5 for step in 0.5 * np.eye(3)], axis=1)
            points = points + slope * ((target - value) / np.maximum((slope * slope).sum(axis=1), 1e-6))[:, None]
        costal = np.abs(_at(self._lung(side), points) - _at(wall, points)) < 0.6
        return np.asarray(points[costal & (np.abs(_at(wall, points) - target) < 0.6)])


def _at(level: Level, points: Floats) -> Floats:
    x, y, z = points.astype(np.float32).T
    return np.asarray(level(x, y, z))
