"""Airways to the segments and vessels to 1.5 mm, with walls and blood apart, for CT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from overread.phantom.anatomy import SIDES, Anatomy, Side
from overread.phantom.grid import Floats
from overread.phantom.organs import Organs
from overread.phantom.trees import ARTERY_ROOT, VEIN_ROOT, grow, scatter
from overread.phantom.tubes import Tube, Vectors, smooth_path, tube

#: Twigs of arteries and veins in each lung, the radius of a last one, mm, and how the radius grows with the twigs fed.
_ARTERIES, _VEINS, _TWIG_MM, _VESSEL_LAW = 620, 400, 0.66, 2.55
#: The same for airways beyond the lobar bronchi.
_AIRWAYS, _SEGMENT_MM, _AIRWAY_LAW = 9, 1.25, 2.7

#: Trachea and main bronchi: centre line (reference mm), inner radius, pieces.
_TRUNKS = (
    ([(0, -2, 320), (0, -2, 240), (1, 2, 180), (-3, 8, 130), (-2, 9, 105)], 8.6, 24),
    ([(-3, 9, 107), (-10, 10, 99), (-20, 11, 90), (-35, 12, 74)], 6.4, 12),
    ([(-1, 9, 107), (6, 10, 101), (18, 12, 93), (40, 16, 80)], 5.6, 12),
)
#: Lobar bronchi: side, path, inner radius, share of the lung (low, high along the head axis, mm) that they feed.
_LOBES = (
    (Side.RIGHT, [(-22, 11, 89), (-34, 11, 98), (-44, 10, 108)], 4.3, (98.0, 300.0)),
    (Side.RIGHT, [(-35, 12, 74), (-42, 4, 62), (-50, -8, 52)], 3.2, (20.0, 98.0)),
    (Side.RIGHT, [(-35, 12, 74), (-42, 16, 60), (-48, 22, 44)], 4.6, (-300.0, 50.0)),
    (Side.LEFT, [(40, 16, 80), (48, 10, 92), (54, 6, 104)], 4.2, (90.0, 300.0)),
    (Side.LEFT, [(40, 16, 80), (50, 6, 74), (58, -8, 66)], 3.0, (20.0, 90.0)),
    (Side.LEFT, [(40, 16, 80), (47, 19, 64), (52, 24, 46)], 4.4, (-300.0, 50.0)),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trees:
    """Tubes that carry 1 instead of Hounsfield units: what they hold is painted as a share of each voxel."""

    #: Blood of arteries and veins in the lungs.
    blood: tuple[Tube, ...]
    #: Airways: their lumen, and the same with their wall.
    lumen: tuple[Tube, ...]
    walled: tuple[Tube, ...]


def draw_trees(anatomy: Anatomy) -> Trees:
    """The trees of one person: the same for the same anatomy."""
    rng = np.random.default_rng([anatomy.seed, 31])
    organs = Organs(anatomy=anatomy)
    lumen: list[Tube] = []
    walled: list[Tube] = []

    def airway(path: Vectors, radius: float) -> None:
        lumen.append(tube("airway", path, radius, 1.0))
        walled.append(tube("airway", path, radius + wall_mm(radius), 1.0))

    for points, radius, pieces in _TRUNKS:
        airway(np.asarray(anatomy.to_world(smooth_path(points, pieces))), radius)
    for side, points, radius, (low, high) in _LOBES:
        path = np.asarray(anatomy.to_world(smooth_path(points, 6)))
        airway(path, radius)
        targets = scatter(rng, organs, side, 400, margin=14.0)
        height = targets[:, 2] / anatomy.height
        targets = targets[(height > low) & (height < high)]
        middle = low == 20.0
        targets = targets[targets[:, 1] < -5] if middle else targets
        chosen = _spread(rng, targets, _AIRWAYS)
        for start, end, feeds in grow(rng, path[-1], chosen):
            airway(_bent(rng, start, end, 0.05), min(_SEGMENT_MM * feeds ** (1 / _AIRWAY_LAW), 0.9 * radius))
    blood: list[Tube] = []
    for side in SIDES:
        for roots, twigs in ((ARTERY_ROOT, _ARTERIES), (VEIN_ROOT, _VEINS)):
            root = np.asarray(anatomy.to_world(np.asarray(roots[side])))
            # evenly spread: no part of the lung is without
            ends = _spread(rng, scatter(rng, organs, side, 3 * twigs, margin=2.5), twigs)
            for start, end, feeds in grow(rng, root, ends):
                long = float(np.linalg.norm(end - start)) > 14.0
                path = _bent(rng, start, end, 0.07) if long else np.stack([start, end])
                blood.append(tube("vessel", path, _TWIG_MM * feeds ** (1 / _VESSEL_LAW), 1.0))
    return Trees(blood=tuple(blood), lumen=tuple(lumen), walled=tuple(walled))


def wall_mm(radius: float) -> float:
    """Thickness of the wall of an airway of that inner radius, mm."""
    return 0.45 + 0.11 * radius


def _bent(rng: np.random.Generator, start: Vectors, end: Vectors, amount: float) -> Vectors:
    middle = 0.5 * (start + end) + rng.normal(0, amount, 3) * np.linalg.norm(end - start)
    return np.stack([start, middle, end])


def _spread(rng: np.random.Generator, points: Vectors, count: int) -> Vectors:
    """``count`` of the points, far from each other."""
    chosen = [int(rng.integers(len(points)))]
    nearest = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return points[chosen]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pieces:
    """The straight pieces of many tubes, to ask how far they are."""

    starts: Floats
    ends: Floats
    radii: Floats

    @classmethod
    def of(cls, tubes: tuple[Tube, ...]) -> Pieces:
        """All pieces of ``tubes``."""
        return cls(
            starts=np.concatenate([t.path[:-1] for t in tubes]),
            ends=np.concatenate([t.path[1:] for t in tubes]),
            radii=np.concatenate([t.half_across for t in tubes]),
        )

    def thicker(self, radius: float) -> Pieces:
        """Those of more than ``radius`` mm."""
        keep = self.radii > radius
        return Pieces(starts=self.starts[keep], ends=self.ends[keep], radii=self.radii[keep])

    def clearance(self, points: Vectors) -> Vectors:
        """Distance, mm, of each of (N, 3) points from the nearest surface; negative inside."""
        out = np.full(len(points), np.inf)
        axis = self.ends - self.starts
        square = np.maximum((axis * axis).sum(axis=1), 1e-9)
        for i, point in enumerate(points):
            along = np.clip(((point - self.starts) * axis).sum(axis=1) / square, 0, 1)
            gap = np.linalg.norm(self.starts + along[:, None] * axis - point, axis=1) - self.radii
            out[i] = gap.min(initial=np.inf)
        return out
