"""Makes small CT series for tests: slices of a world whose Hounsfield units are known at each point."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from overread.dicom.create import CtAttributes, ImageIdentity, Syntax, create_ct, encode, stable_uid
from overread.dicom.slice_header import SliceHeader

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
#: JPEG 2000 wants 32 pixels.
ROWS, COLUMNS = 32, 36
PIXEL = (0.7, 0.9)


def world(points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hounsfield units at (..., 3) points of the patient: different in each direction, within -1000..1000 nearby."""
    return points_mm @ np.array([2.0, 3.0, 5.0])


def hu_at(position: Sequence[float], orientation: Sequence[float] = AXIAL) -> NDArray[np.int16]:
    """A slice of the world whose first pixel is at `position`."""
    i, j = np.mgrid[:ROWS, :COLUMNS]
    down = np.multiply.outer(i * PIXEL[0], np.asarray(orientation[3:]))
    along = np.multiply.outer(j * PIXEL[1], np.asarray(orientation[:3]))
    return np.rint(world(np.asarray(position) + down + along)).astype(np.int16)


def ct(
    place: float = 0.0,
    *,
    position: Sequence[float] | None = None,
    orientation: Sequence[float] = AXIAL,
    hu: NDArray[np.int16] | None = None,
    number: int = 1,
    key: str = "",
    remove: tuple[str, ...] = (),
    **attributes: Any,
) -> Dataset:
    """A slice at `place` mm along its normal, or at `position`; then `attributes` are set and `remove` taken out."""
    normal = np.cross(orientation[:3], orientation[3:])
    at = normal * place if position is None else np.asarray(position, float)
    identity = ImageIdentity(
        study_uid=stable_uid("study"),
        series_uid=stable_uid("series"),
        sop_uid=stable_uid("slice", key, str(tuple(at)), str(tuple(orientation))),
        patient_id="P",
        patient_name="PHANTOM^CT",
        acquired=datetime(2026, 1, 2, tzinfo=UTC),
        instance_number=number,
    )
    values = CtAttributes(position=(0, 0, 0), pixel_mm=1.0, slice_mm=2.0, frame_uid=stable_uid("frame"))
    ds = create_ct(hu_at(at, orientation) if hu is None else hu, identity, values)
    ds.ImagePositionPatient = [f"{v:.9g}"[:16] for v in at]
    ds.ImageOrientationPatient = [f"{v:.10f}"[:16] for v in orientation]
    ds.PixelSpacing = [str(v) for v in PIXEL]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)
    for keyword in remove:
        delattr(ds, keyword)
    return ds


def files(datasets: Sequence[Dataset], syntax: Syntax = Syntax.EXPLICIT_LE) -> list[tuple[str, bytes]]:
    """DICOM files, named by their place in the list."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [(f"{n}.dcm", encode(ds, syntax)) for n, ds in enumerate(datasets)]


def header(place: float = 0.0, **fields: Any) -> SliceHeader:
    """A slice for plans without files, axial at z = `place` unless `fields` say else."""
    base = SliceHeader(
        file=0,
        name=f"z={place:g}",
        sop_instance_uid=f"1.2.3.{crc32(repr((place, fields)).encode())}",
        rows=512,
        columns=512,
        position=(-180.0, -180.0, place),
        orientation=AXIAL,
        pixel_spacing=(0.7, 0.7),
        slope=1.0,
        intercept=-1024.0,
        pixel_hash=f"{place}{fields}",
    )
    return dataclasses.replace(base, **fields)


def stack(places: Sequence[float], **fields: Any) -> list[SliceHeader]:
    """Headers at these places."""
    return [header(place, **fields) for place in places]


def enhanced(
    positions: Sequence[Sequence[float]],
    *,
    per_frame_rescale: Sequence[tuple[float, float]] | None = None,
    frame_types: Sequence[str] | None = None,
    signed: bool = False,
) -> Dataset:
    """An enhanced multi-frame CT of axial frames at `positions`, in this order."""
    ds = ct(0.0, remove=("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"))
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        delattr(ds, keyword)
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [str(v) for v in PIXEL], "2"
    plane.ImageOrientationPatient = list(AXIAL)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([plane])
    if per_frame_rescale is None:
        shared.PixelValueTransformationSequence = Items([_rescale(1.0, -1024.0)])
    ds.SharedFunctionalGroupsSequence = Items([shared])
    frames, pixels = [], []
    for n, position in enumerate(positions):
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = [f"{v:g}" for v in position]
        frame.PlanePositionSequence = Items([place])
        slope, intercept = (1.0, -1024.0) if per_frame_rescale is None else per_frame_rescale[n]
        if per_frame_rescale is not None:
            frame.PixelValueTransformationSequence = Items([_rescale(slope, intercept)])
        if frame_types is not None:
            kind = Dataset()
            kind.FrameType = frame_types[n].split("\\")
            frame.CTImageFrameTypeSequence = Items([kind])
        frames.append(frame)
        pixels.append(np.rint((hu_at(position) - intercept) / slope))
    ds.PerFrameFunctionalGroupsSequence = Items(frames)
    ds.NumberOfFrames = len(positions)
    ds.PixelRepresentation = int(signed)
    ds.BitsStored, ds.HighBit = 16, 15
    ds.PixelData = np.stack(pixels).astype("<i2" if signed else "<u2").tobytes()
    return ds


def _rescale(slope: float, intercept: float) -> Dataset:
    item = Dataset()
    item.RescaleSlope, item.RescaleIntercept, item.RescaleType = slope, intercept, "HU"
    return item
