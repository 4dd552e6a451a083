"""What can be pointed at, in one form: nodules, consolidation, pleural air and fluid, emphysema.

Confidence is no measured probability: no patient with a known truth was scored. It is a stated function of the size
(or, for nodules, of the shape's score), so that a reader can sort by it, and never more than `MOST_SURE`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from overread.domain.segment import Mask
from overread.domain.tissue import Tissue
from overread.pipeline.analysers.chest_ct.consolidation import Consolidation
from overread.pipeline.analysers.chest_ct.density import EMPHYSEMA_PERCENT, Density
from overread.pipeline.analysers.chest_ct.grid import Box, box_of
from overread.pipeline.analysers.chest_ct.nodules import METHOD as NODULE_METHOD
from overread.pipeline.analysers.chest_ct.nodules import Nodule
from overread.pipeline.analysers.chest_ct.pleura_collection import PleuralCollection

MOST_SURE = 0.95
CONSOLIDATION_METHOD = "opacity thicker than vessels, above -250 HU inside, on a grid of 2 mm"
PLEURA_METHOD = "inside the ribs: HU and shape on a grid of 2 mm, drawn on the voxels"
_PLEURAL_WORDS = {"pneumothorax": "Free pleural air", "pleural_effusion": "Pleural fluid"}
#: Share of a region from which a nodule is the same thing; share of a nodule from which it is part of a region.
_SAME, _INSIDE = 0.5, 0.3
#: Compactness from which a region can be one mass: masses are lumps, lung without air is ragged. Development phantoms:
#: masses 0.90 and more, consolidation 0.77 and less.
_LUMP = 0.83
_SIDES = {Tissue.RIGHT_LUNG: "right", Tissue.LEFT_LUNG: "left"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesion:
    """One finding, in indices of the upright volume."""

    #: Key of `domain.catalogue`.
    key: str
    #: For the list of outlines: "Nodule 2, right".
    name: str
    #: "lung_right", "pleura_left", "lungs".
    site: str
    box: Box
    #: bool, of the shape of `box`; it holds a voxel in the slice `slice_index`.
    mask: Mask
    #: The slice where it is largest.
    slice_index: int
    confidence: float
    method: str
    #: What a radiologist would write, one sentence.
    sentence: str
    #: (measurement type, value, UCUM unit).
    sizes: tuple[tuple[str, float, str], ...]


def sureness(amount: float, half_sure: float) -> float:
    """amount / (amount + half_sure), at most `MOST_SURE`."""
    return min(MOST_SURE, amount / (amount + half_sure))


def nodule_lesions(nodules: tuple[Nodule, ...]) -> list[Lesion]:
    """Nodules, and masses from 30 mm on."""
    found = []
    for number, nodule in enumerate(nodules, start=1):
        side = _SIDES[nodule.lung]
        kind = "mass" if nodule.is_mass else "nodule"
        contact = " on the pleura" if nodule.touches_pleura else ""
        density = str(nodule.density).replace("_", "-")
        index = nodule.slice_index
        if not nodule.mask[min(max(index - nodule.box[0].start, 0), len(nodule.mask) - 1)].any():
            index = nodule.box[0].start + int(nodule.mask.sum(axis=(1, 2)).argmax())
        found.append(
            Lesion(
                key=f"lung_{kind}",
                name=f"{kind.capitalize()} {number}, {side}",
                site=f"lung_{side}",
                box=nodule.box,
                mask=nodule.mask,
                slice_index=int(np.clip(index, nodule.box[0].start, nodule.box[0].stop - 1)),
                confidence=min(MOST_SURE, nodule.score),
                method=NODULE_METHOD,
                sentence=(
                    f"{density.capitalize()} {kind} of {nodule.longest_mm:.1f} x {nodule.perpendicular_mm:.1f} mm"
                    f" ({nodule.volume_ml:.2f} mL) in the {side} lung{contact}."
                ),
                sizes=(
                    ("nodule_longest_diameter", nodule.longest_mm, "mm"),
                    ("nodule_perpendicular_diameter", nodule.perpendicular_mm, "mm"),
                    ("nodule_volume", nodule.volume_ml, "mL"),
                ),
            )
        )
    return found


def consolidation_lesions(regions: tuple[Consolidation, ...]) -> list[Lesion]:
    """Regions of consolidated lung, the largest first."""
    return [
        Lesion(
            key="consolidation",
            name=f"Consolidation {number}, {one.side}",
            site=f"lung_{one.side}",
            box=one.region.box,
            mask=one.region.mask,
            slice_index=one.slice_index,
            confidence=min(MOST_SURE, one.score),
            method=CONSOLIDATION_METHOD,
            sentence=f"Consolidation of {one.volume_ml:.0f} mL in the {one.side} lung, {one.mean_hu:.0f} HU.",
            sizes=((f"consolidation_volume_{one.side}", one.volume_ml, "mL"),),
        )
        for number, one in enumerate(regions, start=1)
    ]


def told_apart(
    nodules: tuple[Nodule, ...], regions: tuple[Consolidation, ...]
) -> tuple[tuple[Nodule, ...], tuple[Consolidation, ...]]:
    """What both steps found, once: a region that is mostly one nodule is that nodule, a nodule in a larger one is none.

    A dense ball is both a nodule and lung without air; a round part of a consolidation is no nodule. What is as long
    as a mass is one only if it is compact, else it is consolidation.
    """
    kept_regions = tuple(region for region in regions if not any(_is_all_of(nodule, region) for nodule in nodules))
    kept_nodules = tuple(
        nodule
        for nodule in nodules
        if not any(_shared(nodule, region) > _INSIDE * np.count_nonzero(nodule.mask) for region in kept_regions)
    )
    return kept_nodules, kept_regions


def _is_all_of(nodule: Nodule, region: Consolidation) -> bool:
    """Whether a region is this one nodule or mass."""
    if nodule.is_mass and region.compactness < _LUMP:
        return False
    return bool(_shared(nodule, region) > _SAME * np.count_nonzero(region.region.mask))


def _shared(nodule: Nodule, region: Consolidation) -> int:
    """Voxels of both."""
    common = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(nodule.box, region.region.box, strict=True)]
    if any(stop <= start for start, stop in common):
        return 0
    parts = (
        mask[tuple(slice(start - s.start, stop - s.start) for (start, stop), s in zip(common, box, strict=True))]
        for mask, box in ((nodule.mask, nodule.box), (region.region.mask, region.region.box))
    )
    return int(np.count_nonzero(np.logical_and(*parts)))


def pleural_lesions(collections: tuple[PleuralCollection, ...]) -> list[Lesion]:
    """Free air and fluid in the pleural space of each side."""
    found = []
    for one in collections:
        what = _PLEURAL_WORDS[one.kind]
        level = ", with a level between air and fluid" if one.air_fluid_level else ""
        found.append(
            Lesion(
                key=one.kind,
                name=f"{what}, {one.side}",
                site=f"pleura_{one.side}",
                box=one.region.box,
                mask=one.region.mask,
                slice_index=one.slice_index,
                confidence=min(MOST_SURE, one.score),
                method=PLEURA_METHOD,
                sentence=(
                    f"{what} on the {one.side}, {one.volume_ml:.0f} mL, up to {one.thickness_mm:.0f} mm thick{level}."
                ),
                sizes=(
                    (f"{one.kind}_volume_{one.side}", one.volume_ml, "mL"),
                    (f"{one.kind}_thickness_{one.side}", one.thickness_mm, "mm"),
                ),
            )
        )
    return found


def emphysema(density: Density) -> Lesion | None:
    """Emphysema, where both lungs together have enough of it; None if they have not."""
    if density.both.low_percent < EMPHYSEMA_PERCENT or not density.low.any():
        return None
    grid = density.grid
    box = box_of(density.low)
    if box is None:
        return None
    fine: Box = tuple(  # type: ignore[assignment]
        slice(s.start * f, min(s.stop * f, n)) for s, f, n in zip(box, grid.factors, grid.fine_shape, strict=True)
    )
    mask = grid.fine(density.low, fine[0].start, fine[0].stop, fine[1], fine[2])
    sides = ", ".join(
        f"{side} {lung.low_percent:.1f} %" for side, lung in (("right", density.right), ("left", density.left)) if lung
    )
    percent = density.both.low_percent
    return Lesion(
        key="emphysema",
        name="Emphysema",
        site="lungs",
        box=fine,
        mask=mask,
        slice_index=fine[0].start + int(mask.sum(axis=(1, 2)).argmax()),
        confidence=sureness(percent, EMPHYSEMA_PERCENT),
        method="LAA-950",
        sentence=f"Emphysema: {percent:.1f} % of both lungs are below -950 HU ({sides}).",
        sizes=(),
    )
