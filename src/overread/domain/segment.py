"""A part of a volume that an analyser outlined: a lung, a nodule. DICOM SEG and outlines on the page come from it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from overread.domain.catalogue import Code
from overread.domain.image import BoundingBox
from overread.domain.volume import Floats, Volume

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """Voxels that belong to one thing, cut to the box around them. Frozen: `mask` is made read-only.

    Raises ValueError for a mask that is empty or not (slices, rows, columns) of bool.
    """

    #: "lung_right", "lung_left", "airways", or the finding type of a lesion.
    key: str
    #: What a radiologist would call it, for the list of outlines: "Right lung", "Nodule 2, right".
    name: str
    code: Code
    #: bool (slices, rows, columns).
    mask: Mask
    #: 4 x 4: (index of axis 0, 1, 2 of `mask`, 1) to (x, y, z, 1) in mm, LPS+.
    affine: Floats
    #: The finding that it outlines; None for anatomy.
    finding_id: UUID | None = None

    def __post_init__(self) -> None:
        if self.mask.ndim != 3 or self.mask.dtype != np.bool_:
            raise ValueError(f"expected bool (slices, rows, columns), got {self.mask.dtype} {self.mask.shape}")
        if not self.mask.any():
            raise ValueError(f"the segment {self.key} holds no voxel")
        self.mask.flags.writeable = False

    @property
    def volume_ml(self) -> float:
        """Voxels times the volume of one, mL: partial volume is not considered."""
        return int(np.count_nonzero(self.mask)) * abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000


def cut_out(
    whole: Mask, volume: Volume, *, key: str, name: str, code: Code, finding_id: UUID | None = None
) -> Segment | None:
    """The segment of `whole`, a mask of all of `volume`; None if it is empty."""
    sides: list[slice] = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero(whole.any(axis=others))
        if hit.size == 0:
            return None
        sides.append(slice(int(hit[0]), int(hit[-1]) + 1))
    affine = volume.affine.copy()
    affine[:3, 3] = volume.to_mm([side.start for side in sides])
    mask = np.array(whole[tuple(sides)], dtype=np.bool_)
    return Segment(key=key, name=name, code=code, mask=mask, affine=affine, finding_id=finding_id)


def box_on_slice(points_mm: Floats, stored: Volume) -> BoundingBox:
    """The smallest box, in pixels of a stored slice, around the voxels at `points_mm`, float (N, 3), LPS+.

    `stored` is the volume as `dicom.series` read it, whose axes 1 and 2 are rows and columns of the files.
    """
    indices = np.rint(stored.to_index(points_mm)).astype(int)
    row, column = (np.clip(indices[:, axis], 0, stored.shape[axis] - 1) for axis in (1, 2))
    return BoundingBox(
        x=int(column.min()),
        y=int(row.min()),
        width=int(column.max() - column.min()) + 1,
        height=int(row.max() - row.min()) + 1,
    )
