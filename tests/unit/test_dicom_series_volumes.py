"""Volumes from files: Hounsfield units at the right place, whatever the files look like."""

from __future__ import annotations

import random
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from tests.odd_files import to_bytes
from tests.unit.ct_series import COLUMNS, PIXEL, ROWS, ct, enhanced, files, hu_at, world

from overread.dicom.create import Syntax
from overread.dicom.series import SeriesVolumes, plan_of, read_stack, volumes_of
from overread.domain.errors import OverreadError, TooLarge
from overread.domain.volume import AIR_HU, MissingRescale, Volume, VolumeError, WarningCode, straighten, to_lps
from overread.phantom.anatomy import Arms
from overread.phantom.ct import CtGeometry, scan
from overread.phantom.thorax import make_thorax

PLACES = [2.0 * n for n in range(6)]


def one(found: SeriesVolumes) -> Volume:
    assert found.problems == ()
    (volume,) = found.volumes
    return volume


def of_world(volume: Volume, tolerance: float = 1.0) -> None:
    """Each voxel has the Hounsfield units of its place."""
    indices = np.moveaxis(np.indices(volume.shape), 0, -1)
    np.testing.assert_allclose(volume.hu, world(volume.to_mm(indices)), atol=tolerance)


def series(**attributes: object) -> list[Dataset]:
    return [ct(place, **attributes) for place in PLACES]  # type: ignore[arg-type]


# --- place -------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(*[st.floats(-40, 40)] * 3),
    st.floats(0.5, 6),
    st.randoms(use_true_random=False),
)
def test_each_voxel_lies_where_the_scanner_saw_it(
    angles: tuple[float, float, float], start: tuple[float, float, float], spacing: float, order: random.Random
) -> None:
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(angles)):
        one_turn = np.eye(3)
        a, b = [i for i in range(3) if i != axis]
        one_turn[[a, a, b, b], [a, b, a, b]] = (np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle))
        turn = turn @ one_turn
    orientation = (*turn[:, 0], *turn[:, 1])
    slices = [
        ct(position=np.array(start) + n * spacing * turn[:, 2], orientation=orientation, number=n) for n in range(5)
    ]
    order.shuffle(slices)
    volume = one(volumes_of(files(slices)))
    assert volume.shape == (5, ROWS, COLUMNS)
    assert volume.spacing_mm == pytest.approx((spacing, *PIXEL), abs=1e-5)
    of_world(volume)
    of_world(to_lps(volume))


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product((False, True), repeat=2)))
def test_however_the_patient_was_cut_the_lps_volume_is_the_same(
    axes: tuple[int, int, int], flips: tuple[bool, bool]
) -> None:
    # A cube of 16 voxels of 1 mm about the origin, cut along any axis, rows and columns in any direction.
    rng = np.random.default_rng(1)
    cube = rng.integers(-1000, 1000, (16, 16, 16)).astype(np.int16)  # (z, y, x)
    slices = []
    for n in range(16):
        plane = np.moveaxis(cube, axes, (0, 1, 2))[n]
        row, column = np.zeros(3), np.zeros(3)
        column[2 - axes[1]], row[2 - axes[2]] = (-1 if flips[0] else 1), (-1 if flips[1] else 1)
        plane = plane[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1]
        position = np.zeros(3)
        position[2 - axes[0]] = n
        position[2 - axes[1]], position[2 - axes[2]] = 15 * flips[0], 15 * flips[1]
        slices.append(ct(position=position, orientation=(*row, *column), hu=plane.copy(), PixelSpacing=[1, 1]))
    found = to_lps(one(volumes_of(files(slices))))
    np.testing.assert_array_equal(found.hu, cube)
    np.testing.assert_allclose(found.affine, [[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], atol=1e-9)


def test_what_a_volume_knows_of_its_files() -> None:
    slices = series()
    volume = one(volumes_of(files(slices[::-1])))
    assert volume.sop_instance_uids == tuple(ds.SOPInstanceUID for ds in slices)
    assert volume.frame_numbers == (1,) * 6
    assert volume.series_instance_uid == slices[0].SeriesInstanceUID
    assert volume.frame_of_reference_uid == slices[0].FrameOfReferenceUID
    assert volume.slice_thickness_mm == 2
    assert volume.warnings == ()


def test_the_phantom_comes_back_as_it_was_scanned() -> None:
    geometry = CtGeometry(size=64, slices=12, slice_mm=5.0, bottom_mm=0.0)
    thorax = make_thorax(np.random.default_rng(2), arms=Arms.UP)
    scanned = list(scan(thorax, geometry, np.random.default_rng(0)))
    slices = [
        ct(position=s.position, hu=s.hu, PixelSpacing=[str(geometry.pixel_mm)] * 2, SliceThickness="5") for s in scanned
    ]
    volume = one(volumes_of(files(slices[::-1], Syntax.JPEG_LOSSLESS)))
    np.testing.assert_array_equal(volume.hu, np.stack([s.hu for s in scanned]))
    np.testing.assert_allclose(volume.to_mm((0, 0, 0)), scanned[0].position, atol=1e-4)
    assert volume.spacing_mm == pytest.approx((5, geometry.pixel_mm, geometry.pixel_mm), abs=1e-4)


def test_a_tilted_series_is_straightened() -> None:
    angle = np.radians(15)
    turned = (1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(np.sin(angle)))
    volume = one(volumes_of(files([ct(position=(0, 0, 2.0 * n), orientation=turned) for n in range(6)])))
    assert volume.has(WarningCode.GANTRY_TILT)
    assert volume.tilt_degrees == pytest.approx(15, abs=1e-3)
    of_world(volume)
    upright = straighten(volume)
    indices = np.moveaxis(np.indices(volume.shape), 0, -1)[:, 3:-3]
    np.testing.assert_allclose(upright.hu[:, 3:-3], world(upright.to_mm(indices)), atol=1.5)


# --- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", list(Syntax))
def test_each_transfer_syntax(syntax: Syntax) -> None:
    of_world(one(volumes_of(files(series(), syntax))), 0.5)


def stored(ds: Dataset, values: NDArray[np.generic]) -> Dataset:
    """`ds` with these stored values, 16 bits."""
    ds.BitsStored, ds.HighBit = 16, 15
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    ds.PixelData = values.astype(f"<{values.dtype.kind}2").tobytes()
    return ds


def test_a_rescale_that_differs_from_slice_to_slice() -> None:
    slices = []
    for n, place in enumerate(PLACES):
        slope, intercept = 0.5 + 0.1 * n, -1000.0 - n
        ds = ct(place, RescaleSlope=f"{slope:g}", RescaleIntercept=f"{intercept:g}")
        slices.append(stored(ds, np.rint((hu_at((0, 0, place)) - intercept) / slope).astype(np.uint16)))
    of_world(one(volumes_of(files(slices))))


def test_signed_values() -> None:
    slices = [stored(ct(place, RescaleIntercept=0), hu_at((0, 0, place))) for place in PLACES]
    of_world(one(volumes_of(files(slices))), 0.5)


def test_monochrome1_leaves_hounsfield_units_alone() -> None:
    of_world(one(volumes_of(files(series(PhotometricInterpretation="MONOCHROME1")))), 0.5)


@pytest.mark.parametrize(("declared", "vr"), [(-2000, "SS"), (63536, "US")])
def test_padding_is_air(declared: int, vr: str) -> None:
    slices = []
    for place in PLACES:
        values = hu_at((0, 0, place)) + np.int16(1024)
        values[:3] = -2000
        ds = stored(ct(place), values)
        ds.add_new(0x00280120, vr, declared)
        slices.append(ds)
    volume = one(volumes_of(files(slices)))
    assert (volume.hu[:, :3] == AIR_HU).all()
    np.testing.assert_array_equal(volume.hu[2, 3:], hu_at((0, 0, 4.0))[3:])


def test_undeclared_padding_is_no_less_than_air() -> None:
    slices = []
    for place in PLACES:
        values = hu_at((0, 0, place)) + np.int16(1024)
        values[0] = -2000
        slices.append(stored(ct(place), values))
    assert (one(volumes_of(files(slices))).hu[:, 0] == -1024).all()


def test_water_is_not_taken_for_padding() -> None:
    slices = [stored(ct(place, RescaleIntercept=0), hu_at((0, 0, place))) for place in PLACES]
    for ds in slices:
        ds.add_new(0x00280120, "SS", 0)
    volume = one(volumes_of(files(slices)))
    assert volume.has(WarningCode.PADDING_IGNORED)
    of_world(volume, 0.5)


# --- what is refused ---------------------------------------------------------------------------------------


def test_a_missing_rescale_is_refused_before_decoding() -> None:
    found = volumes_of(files([*series()[:5], ct(10.0, remove=("RescaleSlope", "RescaleIntercept"))]))
    assert found.volumes == ()
    with pytest.raises(MissingRescale, match=r"1 of 6 CT images .* 5\.dcm"):
        found.main()


def test_a_slope_of_zero_is_none() -> None:
    with pytest.raises(MissingRescale):
        volumes_of(files(series(RescaleSlope=0))).main()


def test_nothing_but_other_things() -> None:
    found = volumes_of(
        [("a.txt", b"nothing"), *files(series(Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33"))]
    )
    assert found.problems == ()
    assert {item.code for item in found.left_out} == {"INVALID_DICOM", "NOT_CT"}
    with pytest.raises(VolumeError, match="no CT slice"):
        found.main()


def test_all_volumes_together_have_a_limit() -> None:
    size = 2 * 6 * ROWS * COLUMNS
    slices = [
        *series(AcquisitionNumber=1),
        *series(AcquisitionNumber=2, key="b", hu=np.zeros((ROWS, COLUMNS), np.int16)),
    ]
    assert len(volumes_of(files(slices), max_bytes=2 * size).volumes) == 2
    found = volumes_of(files(slices), max_bytes=2 * size - 1)
    assert len(found.volumes) == 1
    assert [type(problem) for problem in found.problems] == [TooLarge]


def test_a_localizer_in_the_series() -> None:
    scout = ct(3.0, orientation=(1, 0, 0, 0, 0, -1), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    found = volumes_of(files([scout, *series()]))
    of_world(one(found))
    assert [(item.name, item.code) for item in found.left_out] == [("0.dcm", "LOCALIZER")]


# --- broken files ------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_read_is_a_missing_slice() -> None:
    slices = files([ct(2.0 * n) for n in range(9)])
    slices[4] = ("cut.dcm", slices[4][1][:-100])
    found = volumes_of(slices)
    assert [v.shape[0] for v in found.volumes] == [4, 4]
    assert [(item.name, item.code) for item in found.left_out] == [("cut.dcm", "PIXEL_DATA_MISMATCH")]
    for volume in found.volumes:
        assert {w.code for w in volume.warnings} == {WarningCode.MISSING_SLICES, WarningCode.IMAGES_LEFT_OUT}
        of_world(volume)


def test_a_slice_that_cannot_be_decoded_is_a_missing_slice() -> None:
    slices = files([ct(2.0 * n) for n in range(9)], Syntax.JPEG_LOSSLESS)
    whole = bytearray(slices[4][1])
    at = whole.index(b"\xff\xda")
    whole[at - 40 : at + 2] = bytes(42)
    slices[4] = ("bad.dcm", bytes(whole))
    found = volumes_of(slices)
    assert [v.shape[0] for v in found.volumes] == [4, 4]
    assert [(item.name, item.code) for item in found.left_out] == [("bad.dcm", "PIXEL_DATA_MISMATCH")]
    for volume in found.volumes:
        assert {w.code for w in volume.warnings} == {WarningCode.MISSING_SLICES, WarningCode.IMAGES_LEFT_OUT}
        of_world(volume, 0.5)


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"SamplesPerPixel": 3}, "UNSUPPORTED_PIXELS"),
        ({"Rows": 33}, "PIXEL_DATA_MISMATCH"),
        ({"Rows": 40000, "Columns": 40000}, "TOO_LARGE"),
    ],
)
def test_pixels_of_another_kind(attributes: dict[str, int], code: str) -> None:
    found = volumes_of(files(series(**attributes)))
    assert found.volumes == ()
    assert code in {item.code for item in found.left_out} | {problem.code for problem in found.problems}


def test_broken_uids_as_hospitals_send_them() -> None:
    broken = series(
        SOPInstanceUID="",
        SeriesInstanceUID="7afb0d48-ec01-4941-9a58-66d15cab76fb",
        StudyInstanceUID="4bae1d63-1eeb-4386-bd1b-68e8ba379989",
    )
    volume = one(volumes_of([(f"{n}.dcm", to_bytes(ds)) for n, ds in enumerate(broken)]))
    of_world(volume)
    assert len(set(volume.sop_instance_uids)) == 6
    assert all(uid.startswith("2.25.") for uid in volume.sop_instance_uids)
    assert volume.has(WarningCode.BROKEN_UIDS)


def test_one_uid_for_all_slices() -> None:
    volume = one(volumes_of(files(series(SOPInstanceUID="1.2.3"))))
    of_world(volume)
    assert volume.sop_instance_uids == ("1.2.3",) * 6
    assert volume.has(WarningCode.BROKEN_UIDS)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_headers_are_never_a_crash(seed: int) -> None:
    rng = random.Random(seed)
    damaged = []
    for name, data in files([ct(2.0 * n) for n in range(4)]) if seed % 2 else files([enhanced(SPOTS)]):
        whole = bytearray(data)
        for _ in range(rng.randint(1, 6)):
            whole[rng.randrange(132, 3000)] = rng.choice(b"0123456789.-+eE\\ \x00\xff")
        damaged.append((name, bytes(whole)))
    found = volumes_of(damaged)
    assert all(np.isfinite(volume.affine).all() for volume in found.volumes)
    assert all(item.code and item.reason for item in found.left_out)
    assert found.volumes or found.left_out or found.problems


# --- reading -----------------------------------------------------------------------------------------------


def test_files_are_read_twice_and_not_kept() -> None:
    calls: list[str] = []
    ready = files(series())

    def reader(name: str, data: bytes) -> bytes:
        calls.append(name)
        return data

    lazy = [(name, lambda name=name, data=data: reader(name, data)) for name, data in ready]  # type: ignore[misc]
    of_world(one(volumes_of(lazy)))
    assert sorted(calls) == sorted([name for name, _ in ready] * 2)


@pytest.mark.parametrize("workers", [1, 3])
def test_as_many_at_once_as_asked_for(workers: int) -> None:
    ready = files([ct(2.0 * n) for n in range(12)], Syntax.JPEG_LOSSLESS)
    planned = plan_of(ready)
    of_world(read_stack(planned.stacks[0], ready, workers=workers), 0.5)


def test_every_problem_has_a_code_and_a_remedy() -> None:
    kinds = VolumeError.__subclasses__()
    assert len({kind.code for kind in kinds}) == len(kinds) == 7
    assert all(issubclass(kind, OverreadError) and not kind.transient for kind in kinds)


# --- enhanced ----------------------------------------------------------------------------------------------

SPOTS = [(0.0, 0.0, z) for z in (4.0, 0.0, 8.0, 2.0, 6.0)]


def test_an_enhanced_image_is_a_volume() -> None:
    ds = enhanced(SPOTS)
    volume = one(volumes_of(files([ds])))
    of_world(volume, 0.5)
    assert volume.frame_numbers == (2, 4, 1, 5, 3)
    assert set(volume.sop_instance_uids) == {ds.SOPInstanceUID}
    assert volume.spacing_mm == pytest.approx((2, *PIXEL))
    assert volume.slice_thickness_mm == 2
    assert not volume.has(WarningCode.BROKEN_UIDS)


@pytest.mark.parametrize("syntax", [Syntax.JPEG_LS, Syntax.RLE, Syntax.JPEG_2000, Syntax.IMPLICIT_LE])
def test_an_enhanced_image_compressed(syntax: Syntax) -> None:
    of_world(one(volumes_of(files([enhanced(SPOTS)], syntax))), 0.5)


def test_an_enhanced_image_with_a_rescale_in_each_frame() -> None:
    rescales = [(1.0 + n / 10, -1000.0 - 3 * n) for n in range(5)]
    of_world(one(volumes_of(files([enhanced(SPOTS, per_frame_rescale=rescales)]))), 2)


def test_a_localizer_among_the_frames() -> None:
    kinds = ["ORIGINAL\\PRIMARY\\AXIAL\\NONE"] * 5 + ["ORIGINAL\\PRIMARY\\LOCALIZER\\NONE"]
    found = volumes_of(files([enhanced([*SPOTS, (0.0, 0.0, 10.0)], frame_types=kinds)]))
    assert one(found).shape[0] == 5
    assert [(item.frame_number, item.code) for item in found.left_out] == [(6, "LOCALIZER")]


def test_an_enhanced_image_without_rescale() -> None:
    ds = enhanced(SPOTS)
    del ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    with pytest.raises(MissingRescale):
        volumes_of(files([ds])).main()


def test_frames_that_are_only_declared_make_nothing() -> None:
    ds = enhanced(SPOTS)
    ds.NumberOfFrames = 2_000_000_000
    found = volumes_of(files([ds]))
    assert found.volumes == ()
    assert {item.code for item in found.left_out} >= {"PIXEL_DATA_MISMATCH"}
