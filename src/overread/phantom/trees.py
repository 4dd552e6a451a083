"""Branching trees in the lungs: arteries, veins and airways, grown to points spread through each lung."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from overread.phantom.anatomy import AIR, BLOOD, MUSCLE, SIDES, Anatomy, Side
from overread.phantom.grid import Level
from overread.phantom.organs import Organs
from overread.phantom.tubes import Tube, Vectors, smooth_path, tube

#: Name of the tubes of `vessels`.
VESSEL = "vessel"
#: Twigs of arteries and of veins in each lung.
ARTERY_TWIGS, VEIN_TWIGS = 330, 210
#: Radius of a last twig, mm, and how the radius grows with the number of twigs it feeds (2 would keep the area).
_TWIG_MM, _BRANCHING = 0.46, 2.15

ARTERY_ROOT = {Side.RIGHT: (-33.0, 2.0, 90.0), Side.LEFT: (38.0, 8.0, 100.0)}
VEIN_ROOT = {Side.RIGHT: (-26.0, 16.0, 66.0), Side.LEFT: (30.0, 18.0, 68.0)}


def scatter(rng: np.random.Generator, organs: Organs, side: Side, count: int, *, margin: float) -> Vectors:
    """``count`` points in one lung, at least ``margin`` mm inside, denser towards the base; (count, 3), world mm."""
    (low, high) = (np.asarray(corner) for corner in organs.lung_box(side))
    found = np.empty((0, 3))
    while len(found) < count:
        points = rng.uniform(low, high, size=(6 * count, 3)).astype(np.float32)
        inside = organs.lung(side, points[:, 0], points[:, 1], points[:, 2]) < -margin
        lower = 1.0 - 0.55 * np.clip((points[:, 2] - 60.0) / 150.0, 0, 1)
        found = np.concatenate([found, points[inside & (rng.random(len(points)) < lower)]])
    return found[:count]


def vessels(anatomy: Anatomy, rng: np.random.Generator) -> tuple[Tube, ...]:
    """Pulmonary arteries and veins of both lungs; they add blood to lung."""
    organs = Organs(anatomy=anatomy)
    hu = BLOOD - anatomy.lung_hu
    out: list[Tube] = []
    for side in SIDES:
        paths, radii = [], []
        for roots, twigs in ((ARTERY_ROOT, ARTERY_TWIGS), (VEIN_ROOT, VEIN_TWIGS)):
            root = np.asarray(anatomy.to_world(np.asarray(roots[side])))
            for start, end, feeds in grow(rng, root, scatter(rng, organs, side, twigs, margin=4.0)):
                radii.append(_TWIG_MM * feeds ** (1 / _BRANCHING))
                bend = rng.normal(0, 0.06, 3) * np.linalg.norm(end - start)
                paths.append(np.stack([start, 0.5 * (start + end) + bend, end]))
        middle = np.stack(paths)[:, 1].astype(np.float32)
        depth = -organs.lung(side, middle[:, 0], middle[:, 1], middle[:, 2])
        share = np.clip(0.5 + depth / (2 * np.asarray(radii)), 0, 1)  # outside the lung it replaces no air
        # a short twig needs no bend
        out += [
            tube(VESSEL, path if np.linalg.norm(path[2] - path[0]) > 14 else path[::2], radius, hu * float(part))
            for path, radius, part in zip(paths, radii, share, strict=True)
            if part > 0
        ]
    return tuple(out)


def grow(rng: np.random.Generator, start: Vectors, targets: Vectors) -> Iterator[tuple[Vectors, Vectors, int]]:
    """Pieces (from, to, number of twigs fed) of a tree from ``start`` to every target, by halving the targets."""
    stack = [(start, targets)]
    while stack:
        here, group = stack.pop()
        if len(group) == 1:
            yield here, here + 0.9 * (group[0] - here), 1
            continue
        middle = group.mean(axis=0)
        # trunks divide early, twigs run on
        reach = rng.uniform(0.16, 0.28) if len(group) > 40 else rng.uniform(0.28, 0.46)
        end = here + reach * (middle - here)
        yield here, end, len(group)
        spread = np.linalg.svd(group - middle, full_matrices=False)[2][0]
        order = np.argsort((group - end) @ spread)
        cut = int(np.clip(round(len(group) * rng.uniform(0.3, 0.7)), 1, len(group) - 1))
        stack += [(end, group[order[:cut]]), (end, group[order[cut:]])]


def airways(anatomy: Anatomy) -> tuple[Tube, ...]:
    """Trachea and main and lobar bronchi: air in place of soft tissue, or of lung."""
    organs = Organs(anatomy=anatomy)
    out: list[Tube] = []
    for points, radius, pieces in _AIRWAYS:
        path = np.asarray(anatomy.to_world(smooth_path(points, pieces)))
        middle = (0.5 * (path[1:] + path[:-1])).astype(np.float32)
        depth = np.maximum(*(-organs.lung(side, middle[:, 0], middle[:, 1], middle[:, 2]) for side in SIDES))
        inside = np.clip(0.5 + depth / (2 * radius), 0, 1)
        for i in range(pieces):
            around = MUSCLE + float(inside[i]) * (anatomy.lung_hu - MUSCLE)
            out.append(tube("airway", path[i : i + 2], radius, AIR - around))
    return tuple(out)


#: Centre line (reference mm), radius and pieces of trachea, main and lobar bronchi.
_AIRWAYS = (
    ([(0, -2, 320), (0, -2, 240), (1, 2, 180), (-3, 8, 130), (-2, 9, 105)], 9.6, 24),
    ([(-8, 10, 101), (-18, 11, 92), (-34, 12, 76)], 7.0, 8),
    ([(-35, 12, 74), (-40, 13, 58)], 4.4, 4),
    ([(-27, 12, 95), (-42, 14, 99)], 4.2, 4),
    ([(4, 10, 102), (16, 12, 94), (40, 16, 80)], 6.2, 10),
    ([(41, 16, 78), (46, 18, 64)], 4.0, 4),
    ([(42, 13, 86), (51, 8, 95)], 3.8, 4),
)


def outside(tubes: tuple[Tube, ...], level: Level) -> tuple[Tube, ...]:
    """Those tubes that stay clear of the region ``level`` (the lung edge has moved away from there)."""
    points = np.concatenate([t.path[[0, -1]] for t in tubes]).astype(np.float32)
    clear = level(points[:, 0], points[:, 1], points[:, 2]).reshape(-1, 2).min(axis=1) > 0
    return tuple(t for t, keep in zip(tubes, clear, strict=True) if keep)
