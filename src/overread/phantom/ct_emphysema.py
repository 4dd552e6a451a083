"""Emphysema of a known share of the lungs: holes grown until a scan without noise shows that share under -950 HU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from overread.domain.tissue import Tissue
from overread.phantom.anatomy import SIDES
from overread.phantom.ct import CtGeometry
from overread.phantom.ct_noise import Kernel, resolve
from overread.phantom.ct_scene import LAA_HU, Scene
from overread.phantom.ct_truth import CtFinding
from overread.phantom.grid import Box, Floats
from overread.phantom.lattice import random_lattice
from overread.phantom.organs import Organs
from overread.phantom.supine import Emphysema

_CHEST: Box = ((-160.0, -115.0, -150.0), (160.0, 115.0, 255.0))
#: Slices that are looked at.
_LOOKED_AT = 12
_EVERYTHING = 1e6


def destroy(
    scene: Scene, geometry: CtGeometry, kernel: Kernel, percent: float, number: int, rng: np.random.Generator
) -> tuple[Scene, float, CtFinding]:
    """The scene with holes in its lungs, the percent reached, and the finding (its ``number`` in the truth).

    The share is counted on some slices of this very scan, as sharp as ``kernel`` makes them, so that the small vessels
    that cross the holes, and partial volume, are in it; and scaled by how much of the holes those slices have. Raises
    ValueError if it cannot be reached.
    """
    holes = Emphysema(
        field=random_lattice(rng, _CHEST, 2.5, smooth=1.7), apex_mm=190.0 * scene.anatomy.height, threshold=0.0
    )
    step = max(1, geometry.slices // _LOOKED_AT)
    looked_at = [_look(scene, holes, geometry, index, number) for index in range(step // 2, geometry.slices, step)]
    lungs = sum(int(lung.sum()) for _, _, _, lung in looked_at)

    def empty(threshold: float) -> list[npt.NDArray[np.bool_]]:
        out = []
        for whole, hollow, values, lung in looked_at:
            share = replace(holes, threshold=threshold).share(values)
            hu = resolve((whole + share * (hollow - whole))[None], geometry.pixel_mm, kernel)[0]
            out.append((np.rint(hu) < LAA_HU) & lung)
        return out

    everywhere = _field_in_lungs(scene, holes, rng)
    seen = np.concatenate([values[lung] for _, _, values, lung in looked_at])
    low, high = -4.0, 4.0
    for _ in range(18):
        threshold = 0.5 * (low + high)
        here = sum(int(e.sum()) for e in empty(threshold)) / max(lungs, 1)
        # the slices may have more or less of the holes than the lungs as a whole
        share_seen, share_all = (float((v < threshold).mean()) for v in (seen, everywhere))
        reached = 100.0 * here * share_all / max(share_seen, 1e-6)
        low, high = (threshold, high) if reached < percent else (low, threshold)
    if abs(reached - percent) > 0.02 * percent + 0.05:
        raise ValueError(f"{percent}% of emphysema cannot be made in this scan, only {reached:.2f}%")
    holes = replace(holes, threshold=threshold)
    centre, box = _extent(empty(threshold), geometry, range(step // 2, geometry.slices, step))
    finding = CtFinding(key="emphysema", side=None, centre_mm=centre, volume_ml=0.0, box_mm=box)
    return replace(scene, emphysema=(number, holes)), reached, finding


def _look(
    scene: Scene, holes: Emphysema, geometry: CtGeometry, index: int, number: int
) -> tuple[Floats, Floats, Floats, npt.NDArray[np.bool_]]:
    """One slice without holes and with nothing but holes, the field of the holes, and where the lungs are."""
    grid = geometry.grid(index, index + 2)
    whole = scene.slab(grid)
    hollow = replace(scene, emphysema=(number, replace(holes, threshold=_EVERYTHING))).slab(grid)
    values = holes.on(holes.field.on(grid), grid.depths[:, None, None])
    lung = (whole.labels == Tissue.RIGHT_LUNG) | (whole.labels == Tissue.LEFT_LUNG)
    return whole.hu[0], hollow.hu[0], values[0], lung[0]


def _field_in_lungs(scene: Scene, holes: Emphysema, rng: np.random.Generator) -> Floats:
    """The field at random points of both lungs, without what air and fluid took of them."""
    low, high = (np.asarray(corner) for corner in _CHEST)
    points = rng.uniform(low, high, size=(500_000, 3)).astype(np.float32)
    x, y, z = points.T
    organs = Organs(anatomy=scene.anatomy)
    inside = np.minimum(*(organs.lung(side, x, y, z) for side in SIDES)) < 0
    for _number, region in scene.pleural:
        inside &= region.level(x, y, z) > 0
    x, y, z = x[inside], y[inside], z[inside]
    return holes.on(holes.field.at(x, y, z), z)


def _extent(
    masks: list[npt.NDArray[np.bool_]], geometry: CtGeometry, indices: range
) -> tuple[tuple[float, float, float], Box]:
    points = []
    for index, mask in zip(indices, masks, strict=True):
        grid = geometry.grid(index, index + 1)
        rows, cols = np.nonzero(mask)
        points.append(np.column_stack([grid.cols[cols], grid.rows[rows], np.full(len(rows), grid.depths[0])]))
    found = np.concatenate(points).astype(np.float64)
    (x, y, z), low, high = found.mean(axis=0).tolist(), found.min(axis=0).tolist(), found.max(axis=0).tolist()
    return (x, y, z), ((low[0], low[1], low[2]), (high[0], high[1], high[2]))
