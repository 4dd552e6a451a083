"""A part of a volume that a finding of the chest outlines."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import numpy as np

from overread.domain.catalogue import Code
from overread.domain.segment import Mask, Segment
from overread.domain.volume import Volume
from overread.pipeline.analysers.chest_ct.grid import Box, box_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """Voxels of an upright volume, cut to the box around them."""

    #: Slices, rows and columns of the volume.
    box: Box
    #: bool, of the box's size.
    mask: Mask

    @property
    def largest_slice(self) -> int:
        """The slice of the volume, from 0, in which its area is largest."""
        return int(self.box[0].start) + int(self.mask.sum(axis=(1, 2)).argmax())

    def ml(self, volume: Volume) -> float:
        """Voxels times the volume of one, mL."""
        return float(np.count_nonzero(self.mask)) * volume.voxel_ml

    def mean_hu(self, volume: Volume) -> float:
        """Mean Hounsfield units."""
        return float(volume.hu[self.box][self.mask].mean(dtype=np.float64))

    def segment(self, volume: Volume, *, key: str, name: str, code: Code, finding_id: UUID | None = None) -> Segment:
        """It as an outline of `volume`."""
        affine = volume.affine.copy()
        affine[:3, 3] = volume.to_mm([side.start for side in self.box])
        return Segment(key=key, name=name, code=code, mask=self.mask.copy(), affine=affine, finding_id=finding_id)


def region_of(mask: Mask, start: tuple[int, int, int] = (0, 0, 0)) -> Region | None:
    """The region of `mask`, a box of a volume that begins at `start`; None if it is empty."""
    box = box_of(mask)
    if box is None:
        return None
    one, two, three = (slice(s.start + at, s.stop + at) for s, at in zip(box, start, strict=True))
    return Region(box=(one, two, three), mask=np.array(mask[box], dtype=np.bool_))
