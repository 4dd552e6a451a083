"""Our DICOM SEG, read back by pydicom and highdicom, and the service that puts it. Foreign readers: tests/interop."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from uuid import UUID

import numpy as np
import pytest
from highdicom.seg import Segmentation, segread
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from tests.fakes import FakeObjects
from tests.segmented import (
    CHEST_CT,
    NODULE_ID,
    TILTED,
    WHEN,
    ball,
    boxes,
    found,
    lung,
    nodule,
    request_of,
    series,
)
from tests.unit.ct_series import COLUMNS, ROWS, ct, enhanced, files

from overread.dicom.create import stable_uid
from overread.dicom.seg import HighdicomSegWriter
from overread.dicom.series import volumes_of
from overread.domain.errors import NoSegmentation, StorageFull
from overread.domain.study import TenantId
from overread.domain.volume import Volume, VolumeWarning, WarningCode, straighten, to_lps
from overread.services.segmentation import SegmentationService


def written(segments: list, stored: Volume, evidence: bytes) -> Segmentation:
    return segread(BytesIO(HighdicomSegWriter().write(request_of(segments, stored, evidence))))


def voxels_mm(seg: Segmentation, number: int) -> NDArray[np.float64]:
    """Centres of the segment's pixels in mm, from nothing but the SEG's own positions; sorted."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    points = []
    for frame, plane in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber != number:
            continue
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in np.argwhere(plane):
            points.append(position + orientation[3:] * row * spacing[0] + orientation[:3] * column * spacing[1])
    return ordered(np.array(points))


def ordered(points: NDArray[np.float64]) -> NDArray[np.float64]:
    rounded = np.round(points, 3) + 0.0
    return rounded[np.lexsort(rounded.T)]


def mask_mm(volume: Volume, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return ordered(volume.to_mm(np.argwhere(mask)))


def test_segments_lie_where_their_voxels_lie():
    stored, made = series()
    one, other = boxes(stored)
    seg = written([lung(stored, one), nodule(stored, other)], stored, made[0][1])
    assert seg.number_of_segments == 2
    assert (seg.Rows, seg.Columns) == (ROWS, COLUMNS)
    np.testing.assert_allclose(voxels_mm(seg, 1), mask_mm(stored, one), atol=2e-3)
    np.testing.assert_allclose(voxels_mm(seg, 2), mask_mm(stored, other), atol=2e-3)
    back = seg.get_volume(segment_numbers=[2], combine_segments=False)
    assert int((back.array > 0).sum()) == other.sum()
    assert seg.NumberOfFrames == 7 + 2, "slices without a pixel are left out"


@pytest.mark.parametrize("kind", ["reversed and prone", "tilted", "tilted and straightened"])
def test_odd_geometry_is_kept(kind):
    if kind == "reversed and prone":
        orientation = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
        made = files([ct(0.0, position=(0, 0, -z), orientation=orientation) for z in range(0, 24, 2)])
    else:
        made = files([ct(0.0, position=np.array(TILTED) * n) for n in range(12)])
    stored = volumes_of(made).main()
    centre = stored.to_mm((5.0, 16.0, 18.0))
    seen = to_lps(straighten(stored)) if kind == "tilted and straightened" else to_lps(stored)
    mask = ball(seen, centre, 8.0)
    seg = written([lung(seen, mask)], stored, made[0][1])
    if kind != "tilted and straightened":
        np.testing.assert_allclose(voxels_mm(seg, 1), mask_mm(seen, mask), atol=2e-3)
        return
    # Pixels of a straightened slice lie half a pixel beside the stored ones: the same ball on another grid.
    points = voxels_mm(seg, 1)
    assert np.linalg.norm(points - centre, axis=1).max() < 8.0 + 0.9
    np.testing.assert_allclose(points.mean(axis=0), mask_mm(seen, mask).mean(axis=0), atol=0.36)
    assert len(points) == pytest.approx(mask.sum(), rel=0.03)


def test_frames_name_the_image_that_they_were_made_of():
    stored, made = series()
    one, _ = boxes(stored)
    seg = written([lung(stored, one)], stored, made[0][1])
    for frame in seg.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        z = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        (name,) = [
            dcmread(BytesIO(b)) for _, b in made if dcmread(BytesIO(b)).SOPInstanceUID == image[0x00081155].value
        ]
        assert float(name.ImagePositionPatient[2]) == pytest.approx(z)
        assert "ReferencedFrameNumber" not in image
    (listed,) = seg.ReferencedSeriesSequence
    assert listed.SeriesInstanceUID == stored.series_instance_uid
    assert len(listed.ReferencedInstanceSequence) == len(made)
    indices = [tuple(f.FrameContentSequence[0].DimensionIndexValues) for f in seg.PerFrameFunctionalGroupsSequence]
    assert indices == [(1, n) for n in range(1, 8)]


def test_frames_of_an_enhanced_image_are_named_by_their_number():
    ds = enhanced([(0, 0, z) for z in (6, 4, 2, 0, 8, 10)])
    ((_, data),) = made = files([ds])
    stored = volumes_of(made).main()
    mask = np.zeros(stored.shape, np.bool_)
    mask[0:2, 4:9, 5:11] = True
    seg = written([lung(stored, mask)], stored, data)
    sources = [f.DerivationImageSequence[0].SourceImageSequence[0] for f in seg.PerFrameFunctionalGroupsSequence]
    places = [float(f.PlanePositionSequence[0].ImagePositionPatient[2]) for f in seg.PerFrameFunctionalGroupsSequence]
    frame_at = {0.0: 4, 2.0: 3, 4.0: 2, 6.0: 1, 8.0: 5, 10.0: 6}
    assert [source.ReferencedFrameNumber for source in sources] == [frame_at[z] for z in places]
    np.testing.assert_allclose(voxels_mm(seg, 1), mask_mm(stored, mask), atol=2e-3)
    assert len(seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 1


def test_frames_that_do_not_fill_their_last_byte_follow_each_other_without_a_gap():
    made = files([ct(float(z), hu=np.full((33, 35), z, np.int16)) for z in range(8)])
    stored = volumes_of(made).main()
    mask = np.random.default_rng(0).random(stored.shape) < 0.4
    seg = written([lung(stored, mask)], stored, made[0][1])
    assert len(seg.PixelData) == -(-33 * 35 * 8 // 16) * 2
    np.testing.assert_allclose(voxels_mm(seg, 1), mask_mm(stored, mask), atol=2e-3)


def test_segments_say_what_they_are_and_who_outlined_them():
    stored, made = series()
    one, other = boxes(stored)
    seg = written([lung(stored, one), nodule(stored, other)], stored, made[0][1])
    organ, lesion = seg.SegmentSequence
    assert (organ.SegmentNumber, organ.SegmentLabel, organ.SegmentAlgorithmType) == (1, "Right lung", "AUTOMATIC")
    assert organ.SegmentedPropertyTypeCodeSequence[0].CodeValue == "3341006"
    assert organ.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004", "anatomical structure"
    assert "TrackingUID" not in organ
    assert lesion.SegmentedPropertyTypeCodeSequence[0].CodeValue == "786838002"
    assert lesion.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003", "morphologically altered"
    assert (lesion.TrackingUID, lesion.TrackingID) == ("2.25.99", "Nodule 1, right")
    algorithm = lesion.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("chest_ct", "1.2.0")


def test_it_is_a_series_of_its_own_in_the_patients_study():
    stored, made = series()
    one, _ = boxes(stored)
    source = dcmread(BytesIO(made[0][1]))
    seg = written([lung(stored, one)], stored, made[0][1])
    assert (seg.SOPInstanceUID, seg.SeriesInstanceUID) == ("2.25.10", "2.25.11")
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "FrameOfReferenceUID"):
        assert seg[keyword].value == source[keyword].value
    assert (seg.Modality, seg.SegmentationType, seg.BitsAllocated) == ("SEG", "BINARY", 1)
    assert (seg.LossyImageCompression, seg.ImageType) == ("00", ["DERIVED", "PRIMARY"])
    assert seg.ContentDate == WHEN.astimezone().strftime("%Y%m%d")


def test_a_lossy_source_makes_a_lossy_seg():
    made = files(
        [
            ct(
                z,
                LossyImageCompression="01",
                LossyImageCompressionRatio=["10"],
                LossyImageCompressionMethod="ISO_10918_1",
            )
            for z in (0.0, 2.0, 4.0)
        ]
    )
    stored = volumes_of(made).main()
    seg = written([lung(stored, np.ones(stored.shape, np.bool_))], stored, made[0][1])
    assert (seg.LossyImageCompression, seg.LossyImageCompressionMethod) == ("01", "ISO_10918_1")


def without_frame_of_reference(stored: Volume) -> Volume:
    return replace(stored, frame_of_reference_uid="")


def with_one_uid_twice(stored: Volume) -> Volume:
    return replace(stored, sop_instance_uids=(stored.sop_instance_uids[1], *stored.sop_instance_uids[1:]))


def with_replaced_uids(stored: Volume) -> Volume:
    return replace(stored, warnings=(VolumeWarning(code=WarningCode.BROKEN_UIDS, message="all of them"),))


@pytest.mark.parametrize("broken", [without_frame_of_reference, with_one_uid_twice, with_replaced_uids])
def test_without_usable_uids_there_is_no_seg_and_the_reason(broken):
    stored, made = series()
    one, _ = boxes(stored)
    with pytest.raises(NoSegmentation, match=r"^No segmentation was written: the images have no usable .*UID"):
        HighdicomSegWriter().write(request_of([lung(stored, one)], broken(stored), made[0][1]))


def test_a_segment_beside_the_images_is_no_seg():
    stored, made = series()
    far = replace(stored, affine=stored.affine + np.array([[0, 0, 0, 5000], [0] * 4, [0] * 4, [0] * 4]))
    with pytest.raises(NoSegmentation, match="no segment holds a pixel"):
        HighdicomSegWriter().write(request_of([lung(far, boxes(far)[0])], stored, made[0][1]))


class Recording:
    """Keeps what it was asked, and raises what it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.requests: list = []

    def write(self, request) -> bytes:
        self.requests.append(request)
        if self.error:
            raise self.error
        return b"seg"


TENANT = TenantId(slug="a")


def put(writer, objects, segments=None):
    stored, made = series()
    mine = [nodule(stored, boxes(stored)[1])] if segments is None else segments
    return SegmentationService(objects=objects, writer=writer).write_seg(
        TENANT,
        analysis_id=UUID(int=1),
        study_id=UUID(int=2),
        segments=mine,
        stored=stored,
        evidence=made[0][1],
        findings=[found(stored.sop_instance_uids[4])],
        model=CHEST_CT,
        now=WHEN,
    )


def test_the_object_is_put_under_the_analysis_and_a_second_run_writes_the_same():
    objects, writer = FakeObjects(), Recording()
    first, second = put(writer, objects), put(writer, objects)
    assert first.object_key == second.object_key == f"seg/{UUID(int=1)}.dcm"
    assert objects.get(TENANT, first.object_key) == b"seg"
    one, two = writer.requests
    assert (one.sop_instance_uid, one.series_instance_uid) == (two.sop_instance_uid, two.series_instance_uid)
    assert one.tracking_uids[NODULE_ID] == two.tracking_uids[NODULE_ID]


def test_what_cannot_be_written_is_a_problem_beside_the_findings():
    objects = FakeObjects()
    made = put(Recording(NoSegmentation("No segmentation was written: no space.")), objects)
    assert made.object_key is None
    assert made.problem.code == "NO_SEGMENTATION"
    assert made.problem.message == "No segmentation was written: no space."
    assert put(Recording(), objects, segments=[]).object_key is None


def test_what_may_work_later_is_tried_later():
    with pytest.raises(StorageFull):
        put(Recording(StorageFull("No room.")), FakeObjects())


def test_of_many_nodules_no_array_of_all_is_made():
    """One frame at a time: the SEG is as large as its frames, not segments times slices."""
    stored, made = series()
    masks = []
    for number in range(40):
        mask = np.zeros(stored.shape, np.bool_)
        mask[number % 12, 5:8, 6:9] = True
        masks.append(nodule(stored, mask, UUID(int=number + 1)))
    seg: Dataset = written(masks, stored, made[0][1])
    assert seg.NumberOfFrames == 40
    assert len(seg.PixelData) == 40 * ROWS * COLUMNS // 8
    assert {s.TrackingUID for s in seg.SegmentSequence} >= {"2.25.99"}
    assert stable_uid("frame") == seg.FrameOfReferenceUID
