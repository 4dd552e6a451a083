"""From what a phantom shall contain to a scene and the truth about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from overread.phantom.anatomy import AIR, SIDES, Anatomy, Side
from overread.phantom.ct_place import Placer
from overread.phantom.ct_scene import Scene, Textures
from overread.phantom.ct_trees import draw_trees
from overread.phantom.ct_truth import CtFinding, CtTruth, nodule_truth
from overread.phantom.findings import Region, cells
from overread.phantom.grid import Box, Floats, Level, coverage
from overread.phantom.lattice import random_lattice
from overread.phantom.nodules import Contact, Nodule, Shape, draw_nodules, measure_body
from overread.phantom.supine import Lung, consolidation, free_air, free_fluid
from overread.phantom.tubes import Tube

#: Distance of the samples that measure lungs, mm.
_SAMPLE_MM = 2.5
#: Patches of this many mL and more may come in several.
_SPLIT_ML = 120.0


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What to put in; see `ct_case`."""

    nodules: int | Sequence[Nodule]
    effusion_ml: float | Mapping[Side, float]
    pneumothorax_ml: float | Mapping[Side, float]
    consolidation_ml: float | Mapping[Side, float]


def build(anatomy: Anatomy, contents: Contents, rng: np.random.Generator) -> tuple[Scene, CtTruth]:
    """The scene and its truth; raises ValueError for what does not fit."""
    lungs = {side: Lung(anatomy=anatomy, side=side) for side in SIDES}
    trees = draw_trees(anatomy)
    textures = _textures(anatomy)
    cavity_ml = {side: _cavity_ml(lungs[side]) for side in SIDES}
    pleural: tuple[Region, ...] = ()
    for make, amount in ((free_air, contents.pneumothorax_ml), (free_fluid, contents.effusion_ml)):
        for side, ml in _sided(amount, rng):
            pleural += (make(lungs[side], ml, pleural),)
    patches = _patches(contents, lungs, rng, pleural)
    lumen = {side: _tube_ml(trees.lumen, lungs[side].level, pleural) for side in SIDES}
    lung_ml = {
        side: cavity_ml[side] - sum(r.volume_ml for r in pleural if r.side is side) - lumen[side] for side in SIDES
    }
    lung_hu = {side: AIR + (anatomy.lung_hu - AIR) * cavity_ml[side] / (lung_ml[side] + lumen[side]) for side in SIDES}
    placer = Placer(anatomy=anatomy, trees=trees, rng=rng, regions=pleural + patches)
    wanted = contents.nodules
    # the largest first: they are the hardest to place
    chosen = list(draw_nodules(rng, wanted) if isinstance(wanted, int) else wanted)
    chosen.sort(key=lambda n: (n.centre_mm is None, -n.diameter_mm))
    shapes = [placer.put(nodule) for nodule in chosen]
    findings = [_region_truth(r) for r in pleural + patches]
    findings += [_nodule_truth(side, shape, lungs[side]) for side, shape in shapes]
    gravity = float(rng.uniform(30.0, 60.0))
    scene = Scene(
        anatomy=anatomy,
        trees=trees,
        textures=textures,
        lung_hu=lung_hu,
        gravity_hu=gravity,
        pleural=tuple(enumerate(pleural, start=1)),
        patches=tuple(enumerate(patches, start=1 + len(pleural))),
        nodules=tuple(
            (number, side, shape) for number, (side, shape) in enumerate(shapes, start=1 + len(pleural) + len(patches))
        ),
    )
    return scene, CtTruth(findings=tuple(findings), lung_ml=lung_ml, emphysema_percent=0.0)


def _textures(anatomy: Anatomy) -> Textures:
    rng = np.random.default_rng([anatomy.seed, 32])
    chest: Box = ((-160.0, -115.0, -150.0), (160.0, 115.0, 255.0))
    trunk: Box = ((-260.0, -170.0, -180.0), (260.0, 170.0, 300.0))
    return Textures(
        fine=random_lattice(rng, chest, 2.5),
        broad=random_lattice(rng, chest, 9.0),
        soft=random_lattice(rng, trunk, 7.0),
    )


def _sided(amount: float | Mapping[Side, float], rng: np.random.Generator) -> list[tuple[Side, float]]:
    if isinstance(amount, Mapping):
        return [(side, amount[side]) for side in SIDES if amount.get(side, 0.0) > 0]
    if amount < 0:
        raise ValueError(f"{amount} mL")
    side = SIDES[int(rng.integers(2))]
    return [(side, float(amount))] if amount else []


def _cavity_ml(lung: Lung) -> float:
    grid = cells(lung.box, _SAMPLE_MM)
    part = coverage(np.broadcast_to(lung.level(*grid.points()), grid.shape), _SAMPLE_MM)
    return float(part.sum(dtype=np.float64)) * _SAMPLE_MM**3 / 1000.0


def _tube_ml(tubes: tuple[Tube, ...], lung: Level, taken: tuple[Region, ...] = ()) -> float:
    """Volume, mL, of what of the tubes lies in a lung; pieces that overlap count twice."""
    total = 0.0
    for item in tubes:
        middle = (0.5 * (item.path[1:] + item.path[:-1])).astype(np.float32)
        length = np.linalg.norm(np.diff(item.path, axis=0), axis=1)
        depth = lung(middle[:, 0], middle[:, 1], middle[:, 2])
        for region in taken:
            depth = np.maximum(depth, -region.level(middle[:, 0], middle[:, 1], middle[:, 2]))
        share = np.clip(0.5 - depth / (2 * item.half_across), 0, 1)
        total += float((np.pi * item.half_across**2 * length * share).sum()) / 1000.0
    return total


def _patches(
    contents: Contents, lungs: Mapping[Side, Lung], rng: np.random.Generator, taken: tuple[Region, ...]
) -> tuple[Region, ...]:
    out: tuple[Region, ...] = ()
    for side, ml in _sided(contents.consolidation_ml, rng):
        count = int(rng.integers(1, 4)) if ml >= _SPLIT_ML else 1
        shares = rng.dirichlet(np.full(count, 4.0)) if count > 1 else np.array([1.0])
        low, high = (np.asarray(c) for c in lungs[side].box)
        for share in shares:
            for attempt in range(120):
                x, y, z = rng.uniform(low, high).tolist()
                point = [np.array([v], dtype=np.float32) for v in (x, y, z)]
                radius = (3000.0 * ml * share / (4 * np.pi)) ** (1 / 3)
                # crowded lungs: nearer and nearer to each other, but never in the same place
                apart = 8.0 + 1.15 * radius if attempt < 60 else 0.5 * radius
                inside = float(lungs[side].level(*point)[0]) < -0.3 * radius
                clear = all(float(r.level(*point)[0]) > apart for r in taken + out if r.side is side)
                if not inside or not clear:
                    continue
                args = (float(ml * share), (x, y, z), int(rng.integers(2**31)), taken + out)
                try:
                    out += (consolidation(lungs[side], *args, hu=float(rng.uniform(-30.0, 35.0))),)
                except ValueError:  # too small a lobe there
                    continue
                break
            else:
                raise ValueError(f"no place for {ml * share:.0f} mL of consolidation in the {side} lung")
    return out


def _region_truth(region: Region) -> CtFinding:
    grid = cells(region.box, 2.0)
    part = coverage(np.broadcast_to(region.level(*grid.points()), grid.shape), 2.0).astype(np.float64)
    axes = (grid.cols, grid.rows, grid.depths)
    sums = (part.sum(axis=(0, 1)), part.sum(axis=(0, 2)), part.sum(axis=(1, 2)))
    x, y, z = (float((a * s).sum() / part.sum()) for a, s in zip(axes, sums, strict=True))
    return CtFinding(
        key=region.key, side=region.side, centre_mm=(x, y, z), volume_ml=region.volume_ml, box_mm=region.box
    )


def _nodule_truth(side: Side, shape: Shape, lung: Lung) -> CtFinding:
    """Of the shape itself; beyond the pleura it is cut off."""

    def level(x: Floats, y: Floats, z: Floats) -> Floats:
        return np.asarray(np.maximum(shape.level(x, y, z), lung.level(x, y, z)))

    nodule = shape.nodule
    cut = nodule.contact is Contact.PLEURA or nodule.centre_mm is not None
    size = measure_body(level if cut else shape.level, shape.box, float(np.clip(nodule.diameter_mm / 36, 0.12, 0.7)))
    return nodule_truth(nodule, size, side)
