"""Outlines from a DICOM Segmentation (PS3.3 A.51), of whoever wrote it: the truth that a validation compares with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from overread.dicom.quiet import quiet
from overread.domain.catalogue import Code
from overread.domain.errors import InvalidDicom
from overread.domain.segment import Segment

_MAX_BYTES = 2 << 30


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmentation:
    """What a SEG outlines."""

    #: SeriesInstanceUID (0020,000E) of the images, from ReferencedSeriesSequence (0008,1115); "" if it says none.
    referenced_series: str
    #: One for each frame that holds a pixel, one slice thick, so that it lies where it lies whatever the other slices.
    #: `key` is `key_of` SegmentLabel (0062,0005), `name` the label itself.
    parts: tuple[Segment, ...]


def key_of(label: str) -> str:
    """A label as a key: "Right lung" -> "right_lung"."""
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")


def read_segmentation(data: bytes, *, name: str) -> Segmentation:
    """Binary and fractional ones (at least half); a pixel that two frames claim belongs to both.

    Raises `InvalidDicom` for what is no SEG or lacks positions.
    """
    try:
        with quiet:
            ds = dcmread(BytesIO(data))
            parts = tuple(_parts(ds))
            series = ds.get("ReferencedSeriesSequence") or ()
            referenced = str(series[0].get("SeriesInstanceUID", "")) if series else ""
    except (InvalidDicomError, AttributeError, KeyError, IndexError, ValueError, TypeError, OverflowError) as error:
        raise InvalidDicom(f"{name} cannot be read as a segmentation: {error}.", file=name) from error
    return Segmentation(referenced_series=referenced, parts=parts)


def _parts(ds: Dataset) -> Iterator[Segment]:
    if ds.Modality != "SEG" or ds.SegmentationType not in ("BINARY", "FRACTIONAL"):
        raise ValueError("it is no binary or fractional segmentation")
    if ds.Rows * ds.Columns * int(ds.NumberOfFrames) > _MAX_BYTES:
        raise ValueError("it has too many pixels")
    described = {int(item.SegmentNumber): item for item in ds.SegmentSequence}
    half = 1 if ds.SegmentationType == "BINARY" else int(ds.MaximumFractionalValue) / 2
    frames: NDArray[np.uint8] = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
    shared = ds.SharedFunctionalGroupsSequence[0]
    for pixels, groups in zip(frames, ds.PerFrameFunctionalGroupsSequence, strict=True):
        inside = pixels >= half
        if not inside.any():
            continue
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        affine = _affine(groups, shared)
        affine[:3, 3] += affine[:3, 1] * rows[0] + affine[:3, 2] * columns[0]
        segment = described[int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]
        label = str(segment.SegmentLabel)
        coded = segment.SegmentedPropertyTypeCodeSequence[0]
        yield Segment(
            key=key_of(label),
            name=label,
            code=Code(
                value=str(coded.get("CodeValue", "")),
                scheme=str(coded.get("CodingSchemeDesignator", "")),
                meaning=str(coded.get("CodeMeaning", "")),
            ),
            mask=np.array(inside[None, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], bool),
            affine=affine,
        )


def _affine(groups: Dataset, shared: Dataset) -> NDArray[np.float64]:
    """Of the whole frame, as one slice: index (0, row, column, 1) to mm; axis 0 along the normal, 1 mm."""

    def item(keyword: str) -> Dataset:
        found: Dataset = (groups if keyword in groups else shared)[keyword].value[0]
        return found

    measures = item("PixelMeasuresSequence")
    along, down = np.array(item("PlaneOrientationSequence").ImageOrientationPatient, np.float64).reshape(2, 3)
    affine = np.eye(4)
    affine[:3, 0] = np.cross(along, down)
    affine[:3, 1] = down * float(measures.PixelSpacing[0])
    affine[:3, 2] = along * float(measures.PixelSpacing[1])
    affine[:3, 3] = np.array(item("PlanePositionSequence").ImagePositionPatient, np.float64)
    return affine
