"""What later steps know of a chest CT: where body, lungs and airways are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overread.domain.segment import Mask
from overread.domain.tissue import Tissue
from overread.domain.volume import Volume
from overread.pipeline.analysers.chest_ct.outline import draw
from overread.pipeline.analysers.chest_ct.survey import NotAChest, Survey, survey

__all__ = ["ChestAnatomy", "Labels", "NotAChest", "Tissue", "find_anatomy", "outline"]

Labels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class ChestAnatomy:
    """A volume, upright and in LPS+ (axis 0 to the head, 1 to the back, 2 to the left), and the label of each voxel."""

    volume: Volume
    #: uint8 of the volume's shape, values of `Tissue`.
    labels: Labels

    def lungs(self) -> Mask:
        """Both lungs."""
        return np.asarray((self.labels == Tissue.RIGHT_LUNG) | (self.labels == Tissue.LEFT_LUNG))

    def ml(self, tissue: Tissue) -> float:
        """Volume of a label, mL."""
        return int(np.count_nonzero(self.labels == tissue)) * self.volume.voxel_ml


def find_anatomy(volume: Volume) -> ChestAnatomy:
    """Body, lungs and airways of a chest CT, as stored.

    Pleural air and fluid and lung without air at the pleura are not known yet: `pleura.complete` adds them. Air that
    is in no lung, airway or pleura (stomach, bowel, oesophagus) stays `Tissue.BODY`. Raises `NotAChest` if there are
    no lungs in it or its slices are not axial.
    """
    return outline(survey(volume))


def outline(seen: Survey) -> ChestAnatomy:
    """What the survey found, drawn on the voxels. Raises `NotAChest` if it found no lungs."""
    if seen.lungs is None:
        raise NotAChest("no lungs in it: a CT of another part of the body")
    labels = draw(seen.volume, seen.grid, seen.body, seen.airways, seen.lungs)
    return ChestAnatomy(volume=seen.volume, labels=labels)
