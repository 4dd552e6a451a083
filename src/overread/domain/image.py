"""Pixels with what is needed to interpret them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class BoundingBox:
    """A rectangle in pixels of the stored image; (x, y) = (column, row) of the top-left corner, from 0."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"a box needs a positive size, got {self.width}x{self.height}")

    @property
    def area(self) -> int:
        """In pixels."""
        return self.width * self.height

    def iou(self, other: BoundingBox) -> float:
        """Intersection over union, 0..1."""
        w = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        h = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        if w <= 0 or h <= 0:
            return 0.0
        both = w * h
        return both / (self.area + other.area - both)


@dataclass(frozen=True, kw_only=True)
class GreyImage:
    """One frame as a person would see it on a display, whatever the file looked like.

    `pixels` is float32 (rows, columns), 0..1, bright = dense: modality LUT, VOI LUT or window, presentation LUT and
    MONOCHROME1 are already applied (DICOM PS3.4 N.2), colour is turned to grey.
    """

    pixels: FloatImage
    #: (row, column) distance in mm, from PixelSpacing (0028,0030) or ImagerPixelSpacing (0018,1164); None if unknown.
    spacing_mm: tuple[float, float] | None = None
    #: Whether the file's pixels were grey. A colour image is no radiograph.
    was_colour: bool = False

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != np.float32:
            raise ValueError(f"expected float32 (rows, columns), got {self.pixels.dtype} {self.pixels.shape}")

    @property
    def rows(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def columns(self) -> int:
        return int(self.pixels.shape[1])


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """What an analyser may use of an instance's header; every field can be missing in real files.

    The text fields are cleaned (no control characters). Nothing here identifies the patient.
    """

    sop_instance_uid: str
    series_instance_uid: str = ""
    sop_class_uid: str = ""
    #: DICOM Modality (0008,0060), as it came.
    modality: str | None = None
    #: BodyPartExamined (0018,0015), upper case.
    body_part: str | None = None
    #: ViewPosition (0018,5101), upper case.
    view_position: str | None = None
    #: ImageType (0008,0008) values.
    image_type: tuple[str, ...] = ()
    series_description: str | None = None
    instance_number: int | None = None
    number_of_frames: int = 1
    photometric: str | None = None
    #: BurnedInAnnotation (0028,0301) = YES.
    burned_in: bool = False


@dataclass(frozen=True, kw_only=True)
class ImageInstance:
    """An image of a study, ready for the pipeline: header and decoded first frame."""

    header: ImageHeader
    image: GreyImage


def cast_pixels(array: NDArray[Any]) -> FloatImage:
    """`array` as contiguous float32."""
    return np.ascontiguousarray(array, dtype=np.float32)
