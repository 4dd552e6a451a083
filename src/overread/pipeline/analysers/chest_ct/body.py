"""The body on the coarse grid: what the air around the patient does not reach, without the table."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from overread.domain.segment import Mask
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid

#: Between the air around the patient and the fat under the skin, HU.
SKIN_HU = -400.0
#: Half the thickness of what a table, a sheet or a cable has at most, mm.
_THIN_MM = 6.0


def find_body(grid: CoarseGrid) -> Mask:
    """Everything inside the skin, lungs and bowel gas too, bool of the grid's shape. May be empty.

    In each slice the largest piece that the surrounding air bounds; what is thin (the table, blankets) goes before
    pieces are compared, and arms that lie apart are left out.
    """
    inplane = grid.spacing_mm[1:]
    steps = max(1, round(_THIN_MM / max(inplane)))
    out = np.zeros(grid.hu.shape, np.bool_)
    for index, plane in enumerate(grid.hu):
        solid = ndimage.binary_fill_holes(plane > SKIN_HU)
        kept = ndimage.binary_erosion(solid, iterations=steps, border_value=1)
        labels, count = ndimage.label(kept)
        if count == 0:
            continue
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        largest = labels == int(sizes.argmax())
        out[index] = ndimage.binary_dilation(largest, iterations=steps, mask=solid)
    return out
