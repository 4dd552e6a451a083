"""What a voxel of a chest CT can be: the analyser says it, the phantoms know it."""

from __future__ import annotations

from enum import IntEnum


class Tissue(IntEnum):
    """Label of a voxel."""

    OUTSIDE = 0
    #: Everything inside the skin that is none of the following.
    BODY = 1
    #: Everything inside the visceral pleura of one lung: also vessels, nodules and consolidated lung, without the
    #: trachea and the main bronchi; without fluid and free air in the pleural space.
    RIGHT_LUNG = 2
    LEFT_LUNG = 3
    #: Trachea and bronchi outside and inside the lungs, as far as they were followed (of a phantom: all lumen).
    AIRWAYS = 4
    #: Air within the chest wall that is neither lung nor airway: a pneumothorax.
    PLEURAL_AIR = 5
    PLEURAL_FLUID = 6
