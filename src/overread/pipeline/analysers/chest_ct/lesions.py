"""What can be pointed at, in one form: nodules, consolidation, pleural air and fluid, emphysema.

Confidence is no measured probability: no patient with a known truth was scored. It is a stated function of the size
(or, for nodules, of the shape's score), so that a reader can sort by it, and never more than `MOST_SURE`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from overread.domain.segment import Mask
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy
from overread.pipeline.analysers.chest_ct.consolidation import Consolidation
from overread.pipeline.analysers.chest_ct.density import EMPHYSEMA_PERCENT, Density
from overread.pipeline.analysers.chest_ct.grid import Box, box_of
from overread.pipeline.analysers.chest_ct.nodules import METHOD as NODULE_METHOD
from overread.pipeline.analysers.chest_ct.nodules import Nodule
from overread.pipeline.analysers.chest_ct.tissue import Tissue

MOST_SURE = 0.95
#: Amount from which it is reported, and at which the confidence is 0.5.
LEAST_FLUID_ML, HALF_SURE_FLUID_ML = 15.0, 30.0
LEAST_AIR_ML, HALF_SURE_AIR_ML = 5.0, 10.0
HALF_SURE_CONSOLIDATION_ML = 10.0
CONSOLIDATION_METHOD = "lung above -250 HU thicker than vessels, on a grid of 2 mm"
#: Share of a region from which a nodule is the same thing; share of a nodule from which it is part of a region.
_SAME, _INSIDE = 0.5, 0.3
PLEURA_METHOD = "rib cage without lung, by HU on a grid of 2 mm"
SIDES = {Tissue.RIGHT_LUNG: "right", Tissue.LEFT_LUNG: "left"}


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


def cut(whole: Mask) -> tuple[Box, Mask, int] | None:
    """(box, mask in it, slice with the largest area) of a mask of the volume; None if it is empty."""
    box = box_of(whole)
    if box is None:
        return None
    mask = whole[box]
    return box, mask, box[0].start + int(mask.sum(axis=(1, 2)).argmax())


def nodule_lesions(nodules: tuple[Nodule, ...]) -> list[Lesion]:
    """Nodules, and masses from 30 mm on."""
    found = []
    for number, nodule in enumerate(nodules, start=1):
        side = SIDES[nodule.lung]
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
            confidence=sureness(one.volume_ml, HALF_SURE_CONSOLIDATION_ML),
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

    A dense ball is both a nodule and lung without air; a round part of a consolidation is no nodule.
    """
    kept_regions = tuple(
        region
        for region in regions
        if not any(_shared(nodule, region) > _SAME * np.count_nonzero(region.region.mask) for nodule in nodules)
    )
    kept_nodules = tuple(
        nodule
        for nodule in nodules
        if not any(_shared(nodule, region) > _INSIDE * np.count_nonzero(nodule.mask) for region in kept_regions)
    )
    return kept_nodules, kept_regions


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


def pleural_lesions(anatomy: ChestAnatomy) -> list[Lesion]:
    """Free air and fluid in the pleural space of each side."""
    found = []
    for key, tissue, least, half_sure, what in (
        ("pneumothorax", Tissue.PLEURAL_AIR, LEAST_AIR_ML, HALF_SURE_AIR_ML, "Free pleural air"),
        ("pleural_effusion", Tissue.PLEURAL_FLUID, LEAST_FLUID_ML, HALF_SURE_FLUID_ML, "Pleural fluid"),
    ):
        for side, whole in _by_side(anatomy, tissue):
            ml = int(np.count_nonzero(whole)) * anatomy.volume.voxel_ml
            place = cut(whole)
            if ml < least or place is None:
                continue
            box, mask, index = place
            found.append(
                Lesion(
                    key=key,
                    name=f"{what}, {side}",
                    site=f"pleura_{side}",
                    box=box,
                    mask=mask,
                    slice_index=index,
                    confidence=sureness(ml, half_sure),
                    method=PLEURA_METHOD,
                    sentence=f"{what} on the {side}, {ml:.0f} mL.",
                    sizes=((f"{key}_volume_{side}", ml, "mL"),),
                )
            )
    return found


def _by_side(anatomy: ChestAnatomy, tissue: Tissue) -> list[tuple[str, Mask]]:
    """The voxels of a label on each side of the midline between the lungs; nothing if there are none."""
    whole = anatomy.labels == tissue
    if not whole.any():
        return []
    columns = np.arange(whole.shape[2])
    middles = []
    for lung in (Tissue.RIGHT_LUNG, Tissue.LEFT_LUNG):
        across = (anatomy.labels == lung).sum(axis=(0, 1))
        if across.any():
            middles.append(float((across * columns).sum() / across.sum()))
    middle = round(float(np.mean(middles))) if middles else whole.shape[2] // 2
    right, left = whole.copy(), whole.copy()
    right[..., middle:] = False
    left[..., :middle] = False
    return [("right", right), ("left", left)]


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
