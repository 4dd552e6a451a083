"""Fluid and free air of the pleural space as findings: how much, how thick, where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from overread.domain.segment import Mask
from overread.domain.tissue import Tissue
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy, Labels
from overread.pipeline.analysers.chest_ct.pleura_region import Region, region_of

#: Less than this is no finding, mL: a trace of fluid is physiological, and so small amounts are not told reliably.
LEAST_ML = {"pleural_effusion": 15.0, "pneumothorax": 8.0}
#: Volume from which a finding is certain, mL: the score rises up to it.
_CERTAIN_ML = {"pleural_effusion": 60.0, "pneumothorax": 40.0}
#: A level between air and fluid: fluid straight behind free air over at least this area of the level, cm2.
_LEVEL_CM2 = 3.0


@dataclass(frozen=True, kw_only=True, eq=False)
class PleuralCollection:
    """Fluid or free air in one pleural space."""

    #: Key of `domain.catalogue`: "pleural_effusion" or "pneumothorax".
    kind: str
    #: "right" or "left".
    side: str
    volume_ml: float
    mean_hu: float
    #: Twice the largest distance from its border, mm, within an axial slice.
    thickness_mm: float
    #: Slice of the volume, from 0, in which its area is largest.
    slice_index: int
    region: Region
    #: 0 to 1, no probability: the square root of the volume, relative to one that is certain (60 mL of fluid, 40 of
    #: air), at most 1.
    score: float
    #: Whether air lies on fluid with a level between them (hydropneumothorax), on the same side.
    air_fluid_level: bool


def fluid_and_air(anatomy: ChestAnatomy) -> tuple[PleuralCollection, ...]:
    """Effusions and pneumothoraces of an anatomy that `pleura.complete` has completed; the largest first."""
    middle = _midline(anatomy.labels)
    level = {side: _level_cm2(anatomy, side, middle) >= _LEVEL_CM2 for side in ("right", "left")}
    found = []
    for kind, tissue in (("pleural_effusion", Tissue.PLEURAL_FLUID), ("pneumothorax", Tissue.PLEURAL_AIR)):
        whole = region_of(anatomy.labels == tissue)
        if whole is None:
            continue
        for side in ("right", "left"):
            mask = _half(whole, side, middle)
            region = region_of(mask, (whole.box[0].start, whole.box[1].start, whole.box[2].start))
            if region is None:
                continue
            ml = region.ml(anatomy.volume)
            if ml < LEAST_ML[kind]:
                continue
            found.append(
                PleuralCollection(
                    kind=kind,
                    side=side,
                    volume_ml=ml,
                    mean_hu=region.mean_hu(anatomy.volume),
                    thickness_mm=_thickness_mm(anatomy, region),
                    slice_index=region.largest_slice,
                    region=region,
                    score=min(1.0, ml / _CERTAIN_ML[kind]) ** 0.5,
                    air_fluid_level=level[side],
                )
            )
    return tuple(sorted(found, key=lambda c: -c.volume_ml))


def _midline(labels: Labels) -> int:
    """The first column of the left half: half-way between the outer borders of what lies within the chest wall."""
    columns = np.flatnonzero((labels[::4, ::4] >= Tissue.RIGHT_LUNG).any(axis=(0, 1)))
    return int(columns[0] + columns[-1] + 1) // 2 if columns.size else labels.shape[2] // 2


def _half(whole: Region, side: str, middle: int) -> Mask:
    """What of a region lies in one half: columns grow to the left."""
    at = int(np.clip(middle - whole.box[2].start, 0, whole.mask.shape[2]))
    mask = whole.mask.copy()
    if side == "right":
        mask[..., at:] = False
    else:
        mask[..., :at] = False
    return mask


def _thickness_mm(anatomy: ChestAnatomy, region: Region) -> float:
    _, row_mm, column_mm = anatomy.volume.spacing_mm
    thickest = 0.0
    # the thickest slice has nearly the largest area: look at the larger half of them
    areas = region.mask.sum(axis=(1, 2))
    for plane in region.mask[areas >= np.median(areas)][::2]:
        distance = ndimage.distance_transform_edt(np.pad(plane, 1), sampling=(row_mm, column_mm))
        thickest = max(thickest, float(distance.max()))
    return max(0.0, 2 * thickest - min(row_mm, column_mm))


def _level_cm2(anatomy: ChestAnatomy, side: str, middle: int) -> float:
    """Area over which free air lies straight in front of fluid of the same half, cm2."""
    columns = slice(0, middle) if side == "right" else slice(middle, None)
    labels = anatomy.labels[..., columns]
    slice_mm, row_mm, column_mm = anatomy.volume.spacing_mm
    gap = max(1, round(2.0 / row_mm))
    air, fluid = labels[:, :-gap] == Tissue.PLEURAL_AIR, labels[:, gap:] == Tissue.PLEURAL_FLUID
    meets = (air & fluid).any(axis=1)
    return float(np.count_nonzero(meets)) * slice_mm * column_mm / 100
