"""The DICOM Segmentation (PS3.3 A.51) of an analysis: BINARY, uncompressed, on the slices of the source images.

Every frame is one segment on one stored slice, with the position of that slice, so that it lies where the image lies
whatever the gantry's tilt or the order of the slices. Frames without a pixel of the segment are left out. It is built
frame by frame: highdicom's own constructor wants all segments of all slices as one array, which is 2 GB for 25 nodules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian

from overread import __version__
from overread.dicom.attributes import Attributes
from overread.dicom.scan import scan
from overread.dicom.seg_content import OWN_SCHEME, SEGMENTATION_STORAGE, per_frame, segment_descriptions, shared_groups
from overread.dicom.sr_source import COPIED, Source, read_source
from overread.dicom.store_message import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from overread.domain.errors import NoSegmentation
from overread.domain.ids import is_valid_uid
from overread.domain.segment import Segment
from overread.domain.volume import Volume, WarningCode
from overread.render.segment_slices import SegmentSlice, segment_slices
from overread.services.values import SegRequest

#: Legacy converted enhanced CT and enhanced CT: one object of many slices.
MULTI_FRAME_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"})
SERIES_NUMBER = 99_002
SERIES_DESCRIPTION = "Overread AI outlines, not diagnostic"
#: What PixelData of native frames may hold (its length has 32 bits, even).
_MAX_BYTES = 2**32 - 2


class HighdicomSegWriter:
    """`services.ports.SegWriter`."""

    def write(self, request: SegRequest) -> bytes:
        """A DICOM file (Explicit VR Little Endian, UTF-8).

        Raises `NoSegmentation` where the images cannot be referred to, or no segment has a pixel on them, and
        `InvalidDicom` if `evidence` cannot be read.
        """
        buffer = BytesIO()
        dcmwrite(buffer, document(request), enforce_file_format=True)
        return buffer.getvalue()


def document(request: SegRequest) -> Dataset:
    """The SEG as a data set. Raises as `HighdicomSegWriter.write` does."""
    stored = request.stored
    _check(stored)
    source = read_source([request.evidence])
    ds = _identified(request, source)
    _add_equipment(ds)
    _add_image(ds, request, _lossy(request.evidence))
    ds.SegmentSequence = segment_descriptions(request)
    ds.CodingSchemeIdentificationSequence = Items(
        [
            CodingSchemeIdentificationItem(
                designator=OWN_SCHEME, name="Overread finding types", responsible_organization="Overread"
            )
        ]
    )
    ds.SharedFunctionalGroupsSequence = shared_groups(stored)
    _add_dimensions(ds, request.dimension_uid)
    _add_frames(ds, request.segments, stored, source.images[0].sop_class_uid)
    _add_references(ds, stored, source.images[0].sop_class_uid)
    return ds


def _check(stored: Volume) -> None:
    """Raises `NoSegmentation` if nothing says which images, or which space, the SEG would belong to."""
    if not is_valid_uid(stored.frame_of_reference_uid):
        raise NoSegmentation(
            "No segmentation was written: the images have no usable FrameOfReferenceUID (0020,0052), so that nothing "
            "would say where it lies.",
            remedy="Have the sender keep the UIDs that the scanner gave.",
        )
    frames = set(zip(stored.sop_instance_uids, stored.frame_numbers, strict=True))
    usable = all(is_valid_uid(uid) for uid in (*stored.sop_instance_uids, stored.series_instance_uid))
    if len(frames) < len(stored.sop_instance_uids) or not usable or stored.has(WarningCode.BROKEN_UIDS):
        raise NoSegmentation(
            "No segmentation was written: the images have no usable SOPInstanceUID (0008,0018) each, so that it could "
            "not refer to them.",
            remedy="Have the sender keep the UIDs that the scanner gave.",
        )


def _identified(request: SegRequest, source: Source) -> Dataset:
    """Patient, study, series, instance, frame of reference."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    ds.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = SEGMENTATION_STORAGE
    ds.SOPInstanceUID = request.sop_instance_uid
    for keyword in COPIED:
        if keyword in source.header:
            setattr(ds, keyword, source.header[keyword].value)
    ds.StudyInstanceUID = source.header.StudyInstanceUID
    ds.Modality = "SEG"
    ds.SeriesInstanceUID = request.series_instance_uid
    ds.SeriesNumber = SERIES_NUMBER
    ds.SeriesDescription = SERIES_DESCRIPTION
    ds.InstanceNumber = 1
    ds.FrameOfReferenceUID = request.stored.frame_of_reference_uid
    ds.PositionReferenceIndicator = None
    # Times in DICOM are local time unless the object says otherwise, and the study's, copied here, do not.
    local = request.completed_at.astimezone()
    ds.ContentDate = ds.SeriesDate = ds.InstanceCreationDate = local.strftime("%Y%m%d")
    ds.ContentTime = ds.SeriesTime = ds.InstanceCreationTime = local.strftime("%H%M%S.%f")
    return ds


def _add_equipment(ds: Dataset) -> None:
    ds.Manufacturer = ds.ManufacturerModelName = "Overread"
    ds.DeviceSerialNumber = ds.SoftwareVersions = __version__


def _lossy(evidence: bytes) -> Dataset:
    """LossyImageCompression (0028,2110) of the source, which the SEG takes over with its ratio and method."""
    a = Attributes(scan(evidence, "an image of the series"))
    ds = Dataset()
    ds.LossyImageCompression = "01" if a.text(0x00282110) == "01" else "00"
    if ds.LossyImageCompression == "01":
        ratios, methods = a.numbers(0x00282112, b"DS"), a.texts(0x00282114)
        if ratios and methods:
            ds.LossyImageCompressionRatio = [f"{ratio:g}"[:16] for ratio in ratios]
            ds.LossyImageCompressionMethod = list(methods)
    return ds


def _add_image(ds: Dataset, request: SegRequest, lossy: Dataset) -> None:
    """Image pixel and segmentation image modules (PS3.3 C.7.6.3, C.8.20.2)."""
    _, rows, columns = request.stored.shape
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 1, 1, 0, 0
    ds.update(lossy)
    ds.SegmentationType = "BINARY"
    # A nodule lies within a lung.
    ds.SegmentsOverlap = "UNDEFINED" if len(request.segments) > 1 else "NO"
    ds.ContentLabel = "OVERREAD"
    ds.ContentDescription = "Outlines by an algorithm, not reviewed"
    ds.ContentCreatorName = None


def _add_frames(ds: Dataset, segments: Sequence[Segment], stored: Volume, sop_class_uid: str) -> None:
    """Dimensions (segment, then slice), per-frame groups and pixels."""
    _, rows, columns = stored.shape
    bits = rows * columns
    multi_frame = sop_class_uid in MULTI_FRAME_CLASSES
    places: list[tuple[int, int]] = []
    frames: list[Dataset] = []
    packed: list[bytes] = []
    rest = np.zeros(0, np.uint8)
    for number, segment in enumerate(segments, start=1):
        for part in segment_slices(segment, stored):
            places.append((number, part.index))
            frames.append(per_frame(number, part.index, stored, sop_class_uid, multi_frame=multi_frame))
            plane = np.concatenate([rest, _plane(part, rows, columns)])
            # Frames follow each other without a gap (PS3.5 8.1.1).
            whole = len(plane) // 8 * 8
            packed.append(np.packbits(plane[:whole], bitorder="little").tobytes())
            rest = plane[whole:]
    if not frames:
        raise NoSegmentation("No segmentation was written: no segment holds a pixel of the images.")
    if math.ceil(len(frames) * bits / 8) > _MAX_BYTES:
        raise NoSegmentation(f"No segmentation was written: {len(frames)} frames are more than one object can hold.")
    packed.append(np.packbits(rest, bitorder="little").tobytes())
    pixels = b"".join(packed)
    ds.NumberOfFrames = len(frames)
    ds.PerFrameFunctionalGroupsSequence = Items(frames)
    ds.add_new(0x7FE00010, "OB", pixels + b"\0" * (len(pixels) % 2))
    # Indices of a dimension count what is there from 1 (PS3.3 C.7.6.17.1).
    order = {index: at for at, index in enumerate(sorted({index for _, index in places}), start=1)}
    for frame, (number, index) in zip(frames, places, strict=True):
        content = Dataset()
        content.DimensionIndexValues = [number, order[index]]
        frame.FrameContentSequence = Items([content])


def _plane(part: SegmentSlice, rows: int, columns: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    plane = np.zeros((rows, columns), np.uint8)
    height, width = part.share.shape
    plane[part.row : part.row + height, part.column : part.column + width] = part.share >= 0.5
    return plane.ravel()


def _add_dimensions(ds: Dataset, uid: str) -> None:
    """Multi-frame dimension module (PS3.3 C.7.6.17): what `DimensionIndexValues` of a frame count."""
    organization = Dataset()
    organization.DimensionOrganizationUID = uid
    ds.DimensionOrganizationSequence = Items([organization])
    indices = []
    for pointer, group, label in (
        (0x0062000B, 0x0062000A, "Segment Number"),
        (0x00200032, 0x00209113, "Image Position Patient"),
    ):
        index = Dataset()
        index.DimensionIndexPointer, index.FunctionalGroupPointer = pointer, group
        index.DimensionOrganizationUID = uid
        index.DimensionDescriptionLabel = label
        indices.append(index)
    ds.DimensionIndexSequence = Items(indices)


def _add_references(ds: Dataset, stored: Volume, sop_class_uid: str) -> None:
    """Every image of the volume, also those without a segment: the SEG says that nothing is there."""
    series = Dataset()
    series.SeriesInstanceUID = stored.series_instance_uid
    instances = []
    for uid in dict.fromkeys(stored.sop_instance_uids):
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sop_class_uid, uid
        instances.append(reference)
    series.ReferencedInstanceSequence = Items(instances)
    ds.ReferencedSeriesSequence = Items([series])
