"""The first look at a CT volume, on the coarse grid: where body, airways and lungs are, if there are any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from overread.domain.errors import InferenceError
from overread.domain.segment import Mask
from overread.domain.volume import Volume, straighten, to_lps
from overread.pipeline.analysers.chest_ct.airways import Airways, find_airways
from overread.pipeline.analysers.chest_ct.body import find_body
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid, coarsen
from overread.pipeline.analysers.chest_ct.lungs import CoarseLungs, find_lungs

#: Fewer slices say nothing of a chest.
_FEWEST_SLICES = 3
#: Cosine of the largest angle between the slices' normal and the patient's long axis.
_AXIAL = 0.9


class NotAChest(InferenceError):
    """The volume shows no lungs, or cannot be looked at; the message says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """What the coarse grid shows. Masks have its shape."""

    #: Upright and in LPS+.
    volume: Volume
    grid: CoarseGrid
    body: Mask
    airways: Airways | None
    #: None if nothing in it looks like a lung.
    lungs: CoarseLungs | None


def survey(volume: Volume) -> Survey:
    """Look at `volume`, as stored. Raises `NotAChest` for slices that are not axial, and for fewer than three."""
    upright = to_lps(straighten(volume) if volume.slice_axis == 0 else volume)
    step = upright.affine[:3, 0]
    normal = np.cross(upright.affine[:3, 1], upright.affine[:3, 2])
    if upright.slice_axis != 0 or abs(float(normal[2])) < _AXIAL * float(np.linalg.norm(normal)):
        raise NotAChest("its slices are not axial")
    if len(upright.hu) < _FEWEST_SLICES or float(np.linalg.norm(step)) <= 0:
        raise NotAChest(f"only {len(upright.hu)} slice(s), too few to tell what they show")
    grid = coarsen(upright)
    body = find_body(grid)
    airways = find_airways(upright, grid, body)
    return Survey(volume=upright, grid=grid, body=body, airways=airways, lungs=find_lungs(grid, body, airways))
