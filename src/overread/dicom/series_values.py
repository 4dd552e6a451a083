"""What planning a series gives: see `series_plan`."""

from __future__ import annotations

from dataclasses import dataclass

from overread.dicom.series_spacing import Floats
from overread.dicom.slice_header import SliceHeader
from overread.domain.errors import OverreadError, TooLarge
from overread.domain.volume import VolumeWarning

#: Of one volume, int16: 2,048 slices of 512 x 512. A thin chest CT of 600 slices takes 315 MB.
MAX_VOLUME_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """An image that is in no volume. Expected ones are no problem: localizers, reports."""

    #: The file's name, and the frame from 1; None for a whole file.
    name: str
    frame_number: int | None = None
    #: "" if the file could not be read.
    sop_instance_uid: str = ""
    #: LOCALIZER, NOT_CT, DUPLICATE, or the code of an error.
    code: str
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """A volume that can be made: its slices in order, where they lie, and what is odd about them."""

    slices: tuple[SliceHeader, ...]
    #: As `domain.volume.Volume.affine`.
    affine: Floats
    warnings: tuple[VolumeWarning, ...] = ()

    @property
    def nbytes(self) -> int:
        """Of the int16 volume."""
        return 2 * len(self.slices) * self.slices[0].rows * self.slices[0].columns


@dataclass(frozen=True, kw_only=True)
class SeriesPlan:
    """What a series holds: volumes, the one with most slices first; what is in none; and why stacks make none."""

    stacks: tuple[Stack, ...]
    left_out: tuple[LeftOut, ...]
    problems: tuple[OverreadError, ...]


def too_large(stack: Stack, max_bytes: int) -> TooLarge:
    """The error of a stack for which there is no room."""
    first = stack.slices[0]
    return TooLarge(
        f"{len(stack.slices)} slices of {first.rows} x {first.columns} pixels are {stack.nbytes:,} bytes; the "
        f"volumes of a series may have {max_bytes:,} together.",
        remedy="Send thicker slices, or a smaller part of the body.",
        limitBytes=max_bytes,
    )
