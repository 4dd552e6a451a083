"""The pleura under a nodule: the lung mask bends in around what is bright at its border, and is pushed out again."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from overread.domain.segment import Mask
from overread.domain.volume import Hounsfield
from overread.pipeline.analysers.chest_ct.nodule_seeds import Spacing
from overread.pipeline.analysers.chest_ct.nodule_shape import Body, cut

#: Radius of the ball that rolls over the lung's surface from outside, and how far the surface moves at most, mm.
_ROLLING_MM, _DEEPEST_MM = 20.0, 3.0
_STEP_MM = 1.0


def push_out(lung: Mask, hu: Hounsfield, spacing: Spacing, body: Body) -> bool:
    """Fill dents of ``lung`` (bool, the volume's shape, changed in place) beside ``body``; whether there were any.

    A ball that rolls over the lung from outside does not reach into them (Armato, Radiographics 1999;19:1303). It does
    follow the diaphragm and the heart, which bend towards the lung by themselves.
    """
    reach = 0.5 * body.diameter_mm + 4.0
    crop = cut(hu, lung, spacing, body.centre, reach + _ROLLING_MM, _STEP_MM)
    away = ndimage.distance_transform_edt(~crop.lung) * _STEP_MM
    closed = ndimage.distance_transform_edt(away <= _ROLLING_MM) * _STEP_MM > _ROLLING_MM
    dents = closed & ~crop.lung & (away <= _DEEPEST_MM)
    if not dents.any():
        return False
    sides, places = [], []
    for axis in range(3):
        low = (body.centre[axis] * spacing[axis] - reach) / spacing[axis]
        high = (body.centre[axis] * spacing[axis] + reach) / spacing[axis]
        start, stop = max(int(np.ceil(low)), 0), min(int(np.floor(high)) + 1, lung.shape[axis])
        sides.append(slice(start, max(stop, start)))
        places.append((np.arange(start, max(stop, start)) - crop.origin[axis]) * spacing[axis] / _STEP_MM)
    place = (sides[0], sides[1], sides[2])
    share = ndimage.map_coordinates(
        (dents | crop.lung).astype(np.float32), np.meshgrid(*places, indexing="ij"), order=1, mode="nearest"
    )
    added = (share >= 0.5) & ~lung[place]
    lung[place] |= added
    return bool(added.any())
