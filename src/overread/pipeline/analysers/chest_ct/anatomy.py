"""What later steps know of a chest CT: where body, lungs and airways are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from overread.domain.segment import Mask
from overread.domain.volume import Volume

Labels = NDArray[np.uint8]


class Tissue(IntEnum):
    """Label of a voxel."""

    OUTSIDE = 0
    #: Everything inside the skin that is none of the following.
    BODY = 1
    #: Everything inside the visceral pleura of one lung: also vessels, nodules and consolidated lung, without the
    #: trachea and the main bronchi; without fluid and free air in the pleural space.
    RIGHT_LUNG = 2
    LEFT_LUNG = 3
    #: Trachea and bronchi outside and inside the lungs, as far as they were followed.
    AIRWAYS = 4
    #: Air within the chest wall that is neither lung nor airway: a pneumothorax.
    PLEURAL_AIR = 5
    PLEURAL_FLUID = 6


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
