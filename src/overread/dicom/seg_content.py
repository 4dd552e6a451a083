"""What a SEG says of its segments and frames: codes, algorithm, tracking; positions and source images."""

from __future__ import annotations

import numpy as np
from highdicom.content import (
    AlgorithmIdentificationSequence,
    PixelMeasuresSequence,
    PlaneOrientationSequence,
    PlanePositionSequence,
)
from highdicom.enum import CoordinateSystemNames
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sequence import Sequence as Items

from overread.domain.catalogue import Code
from overread.domain.ids import uid_from_uuid
from overread.domain.segment import Segment
from overread.domain.volume import Floats, Volume
from overread.services.values import SegRequest

OWN_SCHEME = "99OVERREAD"
SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"

#: Segmentation property categories, CID 7150.
_ANATOMY = CodedConcept("123037004", "SCT", "Anatomical Structure")
_LESION = CodedConcept("49755003", "SCT", "Morphologically Altered Structure")
#: Algorithm family, CID 7162.
_FAMILY = CodedConcept("123110", "DCM", "Artificial Intelligence")
_SEGMENTATION = CodedConcept("113076", "DCM", "Segmentation")
_SOURCE_IMAGE = CodedConcept("121322", "DCM", "Source Image for Image Processing Operation")


def concept(code: Code) -> CodedConcept:
    """A code of the catalogue as DICOM wants it; CodeMeaning has at most 64 characters."""
    return CodedConcept(code.value, code.scheme, code.meaning[:64])


def segment_descriptions(request: SegRequest) -> Items:
    """SegmentSequence (0062,0002): what each segment is, who outlined it, and how it is followed over time."""
    return Items([_description(number, segment, request) for number, segment in enumerate(request.segments, start=1)])


def _description(number: int, segment: Segment, request: SegRequest) -> SegmentDescription:
    tracked = None if segment.finding_id is None else request.tracking_uids.get(segment.finding_id)
    if segment.finding_id is not None and tracked is None:
        tracked = uid_from_uuid(segment.finding_id)
    return SegmentDescription(
        segment_number=number,
        segment_label=segment.name[:64],
        segmented_property_category=_ANATOMY if segment.finding_id is None else _LESION,
        segmented_property_type=concept(segment.code),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=request.model.name[:64], family=_FAMILY, version=request.model.version[:64], source="Overread"
        ),
        tracking_uid=tracked,
        tracking_id=None if tracked is None else segment.name[:64],
    )


def shared_groups(stored: Volume) -> Items:
    """SharedFunctionalGroupsSequence (5200,9229): what is the same of all frames."""
    step, down, along = (stored.affine[:3, axis] for axis in range(3))
    normal = np.cross(along, down)
    distance = abs(float(step @ normal)) / float(np.linalg.norm(normal))
    group = Dataset()
    group.PixelMeasuresSequence = PixelMeasuresSequence(
        pixel_spacing=[float(np.linalg.norm(down)), float(np.linalg.norm(along))],
        slice_thickness=stored.slice_thickness_mm or distance,
        spacing_between_slices=distance,
    )
    group.PlaneOrientationSequence = PlaneOrientationSequence(
        CoordinateSystemNames.PATIENT, [*(along / np.linalg.norm(along)), *(down / np.linalg.norm(down))]
    )
    return Items([group])


def per_frame(number: int, index: int, stored: Volume, sop_class_uid: str, *, multi_frame: bool) -> Dataset:
    """An item of PerFrameFunctionalGroupsSequence (5200,9230): segment `number` on slice `index` of `stored`.

    `multi_frame`: the source is an enhanced image, whose frame is named too. The dimension indices are the caller's.
    """
    which = Dataset()
    which.ReferencedSegmentNumber = number
    frame = Dataset()
    frame.SegmentIdentificationSequence = Items([which])
    frame.PlanePositionSequence = _position(stored.affine[:3, 3] + index * stored.affine[:3, 0])
    frame.DerivationImageSequence = Items([_derived_from(index, stored, sop_class_uid, multi_frame)])
    return frame


def _position(point: Floats) -> PlanePositionSequence:
    return PlanePositionSequence(CoordinateSystemNames.PATIENT, [float(value) for value in point])


def _derived_from(index: int, stored: Volume, sop_class_uid: str, multi_frame: bool) -> Dataset:
    image = Dataset()
    image.ReferencedSOPClassUID = sop_class_uid
    image.ReferencedSOPInstanceUID = stored.sop_instance_uids[index]
    if multi_frame:
        image.ReferencedFrameNumber = stored.frame_numbers[index]
    image.PurposeOfReferenceCodeSequence = Items([_SOURCE_IMAGE])
    image.SpatialLocationsPreserved = "YES"
    derivation = Dataset()
    derivation.DerivationCodeSequence = Items([_SEGMENTATION])
    derivation.SourceImageSequence = Items([image])
    return derivation
