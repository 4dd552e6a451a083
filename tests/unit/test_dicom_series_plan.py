"""Planning of volumes from headers alone: each defect that hospitals send, without a pixel."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ct_series import header, stack

from overread.dicom.series_plan import plan
from overread.dicom.series_spacing import is_regular, missing_positions, regular_parts, tolerance_mm
from overread.dicom.series_values import SeriesPlan
from overread.dicom.slice_header import SliceHeader
from overread.domain.errors import TooLarge
from overread.domain.volume import (
    DuplicatePositions,
    InconsistentPositions,
    IrregularSpacing,
    MissingPosition,
    MissingRescale,
    NotHounsfield,
    TooFewSlices,
    WarningCode,
)

CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def places(found: SeriesPlan) -> list[list[float]]:
    """z of the slices of each stack."""
    return [[s.position[2] for s in stack.slices if s.position] for stack in found.stacks]


def codes(found: SeriesPlan) -> set[WarningCode]:
    return {warning.code for stack in found.stacks for warning in stack.warnings}


def problem(found: SeriesPlan) -> object:
    assert found.stacks == ()
    (only,) = found.problems
    return only


# --- order and spacing -------------------------------------------------------------------------------------


@given(st.randoms(use_true_random=False), st.integers(3, 40), st.floats(0.3, 10), st.floats(-900, 900))
def test_any_order_gives_the_same_volume(order: random.Random, count: int, spacing: float, start: float) -> None:
    series = [header(start + n * spacing, instance_number=n) for n in range(count)]
    shuffled = series.copy()
    order.shuffle(shuffled)
    found = plan(shuffled)
    assert found.problems == ()
    assert [s.name for s in found.stacks[0].slices] == [s.name for s in series]
    np.testing.assert_allclose(found.stacks[0].affine[:3, 0], (0, 0, spacing), atol=1e-6)
    assert found.stacks[0].warnings == ()


def test_instance_numbers_do_not_sort() -> None:
    series = [header(2.0 * n, instance_number=number) for n, number in enumerate([5, 1, 4, 2, 3])]
    assert places(plan(series)) == [[0, 2, 4, 6, 8]]


def test_spacing_comes_from_positions_not_from_thickness() -> None:
    found = plan(stack(np.arange(6) * 1.25, slice_thickness_mm=5.0))
    assert found.stacks[0].affine[2, 0] == pytest.approx(1.25)


@given(st.lists(st.floats(-0.04, 0.04), min_size=3, max_size=60))
def test_rounded_positions_are_regular(noise: list[float]) -> None:
    assert is_regular(np.arange(len(noise)) * 0.625 + noise)


def test_thin_slices_are_not_excused() -> None:
    assert tolerance_mm(0.2) == pytest.approx(0.05)
    assert not is_regular(np.array([0, 0.2, 0.5, 0.7]))


@given(st.lists(st.floats(-100, 100), max_size=40))
def test_parts_are_regular_and_do_not_share(positions: list[float]) -> None:
    ordered = np.sort(np.array(positions))
    end = 0
    for part in regular_parts(ordered):
        assert part.first >= end
        assert part.count >= 3
        assert is_regular(ordered[part.first : part.last])
        end = part.last


# --- gaps --------------------------------------------------------------------------------------------------


def test_a_missing_slice_cuts_the_series_there() -> None:
    found = plan([s for s in stack(np.arange(20) * 2.0) if s.position[2] != 12])
    assert places(found) == [[14.0 + 2 * n for n in range(13)], [0, 2, 4, 6, 8, 10]]
    for one in found.stacks:
        (warning,) = one.warnings
        assert warning.code is WarningCode.MISSING_SLICES
        assert warning.positions_mm == (12,)


def test_several_missing_slices_are_named() -> None:
    missing = {10, 12, 30}
    found = plan([s for s in stack(np.arange(30) * 2.0) if s.position[2] not in missing])
    assert {w.positions_mm for one in found.stacks for w in one.warnings} == {(10, 12, 30)}
    assert missing_positions(np.array([0.0, 1, 4, 5]), 1.0) == (2, 3)


def test_a_lone_slice_before_a_gap_is_left_out() -> None:
    found = plan(stack([0, 4, 6, 8, 10]))
    assert places(found) == [[4, 6, 8, 10]]
    assert [(item.code, item.name) for item in found.left_out] == [("IRREGULAR_SPACING", "z=0")]
    assert WarningCode.MISSING_SLICES in codes(found)
    assert WarningCode.IMAGES_LEFT_OUT in codes(found)


def test_two_spacings_are_two_volumes() -> None:
    found = plan(stack([*np.arange(10) * 5.0, *(45 + 1.5 * np.arange(1, 12))]))
    assert [len(part) for part in places(found)] == [11, 10]
    assert [round(s.affine[2, 0], 3) for s in found.stacks] == [1.5, 5]
    assert WarningCode.VARIABLE_SPACING in codes(found)


def test_slices_at_random_are_refused() -> None:
    error = problem(plan(stack([0, 1, 3.3, 4, 8.1, 9, 13.7, 14, 19.2])))
    assert isinstance(error, IrregularSpacing)
    assert error.code == "IRREGULAR_SPACING"


def test_a_series_in_too_many_pieces_is_refused() -> None:
    error = problem(plan([s for s in stack(np.arange(60) * 2.0) if s.position[2] % 16]))
    assert isinstance(error, IrregularSpacing)
    assert error.details["missing_positions_mm"][:2] == (16, 32)


# --- the same place twice ----------------------------------------------------------------------------------


def test_the_same_image_twice_is_taken_once() -> None:
    series = stack(np.arange(5) * 2.0)
    found = plan([*series, series[2]])
    assert places(found) == [[0, 2, 4, 6, 8]]
    assert [(item.code, item.name) for item in found.left_out] == [("DUPLICATE", "z=4")]


def test_another_image_at_the_same_place_is_refused() -> None:
    error = problem(plan([*stack(np.arange(5) * 2.0), header(4, pixel_hash="other", name="again")]))
    assert isinstance(error, DuplicatePositions)
    assert error.code == "DUPLICATE_POSITIONS"
    assert error.details["positions_mm"] == (4,)


def test_acquisitions_over_the_same_place_are_volumes_of_their_own() -> None:
    series = [*stack(np.arange(5) * 2.0, acquisition=1), *stack(np.arange(5) * 2.0, acquisition=2)]
    found = plan(series[::-1])
    assert places(found) == [[0, 2, 4, 6, 8]] * 2
    assert sorted(str({s.acquisition for s in one.slices}) for one in found.stacks) == ["{1}", "{2}"]
    assert codes(found) == {WarningCode.SEVERAL_ACQUISITIONS}


def test_interleaved_acquisitions_are_not_mixed() -> None:
    found = plan([*stack(np.arange(5) * 2.0, acquisition=1), *stack(1 + np.arange(5) * 2.0, acquisition=2)])
    assert sorted(places(found)) == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]


def test_step_and_shoot_is_one_volume() -> None:
    found = plan([header(2.0 * n, acquisition=n // 4) for n in range(16)])
    assert [len(part) for part in places(found)] == [16]
    assert codes(found) == set()


@pytest.mark.parametrize("label", ["SliceThickness (0018,0050)", "TemporalPositionIdentifier (0020,0100)"])
def test_what_else_tells_stacks_apart(label: str) -> None:
    series = [s for value in "ab" for s in stack(np.arange(5) * 2.0, distinctions=((label, value),))]
    found = plan(series)
    assert places(found) == [[0, 2, 4, 6, 8]] * 2
    assert all(len({s.distinctions for s in one.slices}) == 1 for one in found.stacks)
    assert all(label in one.warnings[0].message for one in found.stacks)


def test_an_attribute_that_differs_in_each_slice_tells_nothing() -> None:
    series = [
        header(2.0 * n, pixel_hash=f"{n}{part}", distinctions=(("AcquisitionTime (0008,0032)", f"{n}{part}"),))
        for part in "ab"
        for n in range(5)
    ]
    assert isinstance(problem(plan(series)), DuplicatePositions)


def test_reconstructions_about_another_centre_are_told_apart() -> None:
    places_ = np.arange(5) * 2.0
    series = stack(places_) + [header(z, position=(-90.0, -180.0, z), pixel_hash=f"b{z}") for z in places_]
    found = plan(series)
    assert [{s.position[0] for s in one.slices} for one in found.stacks] in ([{-180}, {-90}], [{-90}, {-180}])


def test_whole_repetitions_are_told_apart_by_their_numbers() -> None:
    series = [header(2.0 * (n % 5), instance_number=n, pixel_hash=str(n)) for n in range(15)]
    found = plan(series)
    assert places(found) == [[0, 2, 4, 6, 8]] * 3
    assert {tuple(s.instance_number for s in one.slices) for one in found.stacks} == {
        (0, 1, 2, 3, 4),
        (5, 6, 7, 8, 9),
        (10, 11, 12, 13, 14),
    }


# --- images of other kinds ---------------------------------------------------------------------------------


def test_a_localizer_is_left_out() -> None:
    found = plan([*stack(np.arange(5) * 2.0), header(4, localizer=True, orientation=CORONAL)])
    assert places(found) == [[0, 2, 4, 6, 8]]
    assert [item.code for item in found.left_out] == ["LOCALIZER"]
    assert codes(found) == {WarningCode.IMAGES_LEFT_OUT}


def test_other_orientations_are_volumes_of_their_own() -> None:
    coronal = [header(n, position=(0.0, 3.0 * n, 0.0), orientation=CORONAL) for n in range(4)]
    found = plan([*stack(np.arange(5) * 2.0), *coronal])
    assert [len(part) for part in places(found)] == [5, 4]
    assert codes(found) == {WarningCode.MIXED_ORIENTATIONS}
    np.testing.assert_allclose(found.stacks[1].affine[:3, 0], (0, 3, 0))


@pytest.mark.parametrize(
    "fields",
    [
        {"rows": 256},
        {"columns": 768},
        {"pixel_spacing": (0.9, 0.9)},
        {"kernel": "LUNG"},
        {"frame_of_reference_uid": "1.9"},
    ],
)
def test_unlike_images_are_not_mixed(fields: dict[str, object]) -> None:
    found = plan([*stack(np.arange(6) * 2.0), *stack(np.arange(5) * 2.0, **fields)])
    assert [len(part) for part in places(found)] == [6, 5]
    assert codes(found) == {WarningCode.MIXED_IMAGES}


def test_two_series_are_two_volumes_without_a_warning() -> None:
    found = plan([*stack(np.arange(6) * 2.0), *stack(np.arange(6) * 2.0, series_instance_uid="1.7")])
    assert [len(part) for part in places(found)] == [6, 6]
    assert codes(found) == set()


def test_a_few_images_of_another_kind_are_left_out() -> None:
    found = plan([*stack(np.arange(6) * 2.0), header(3, rows=64), header(5, excluded="a dose report")])
    assert [(item.code, item.reason) for item in found.left_out] == [
        ("NOT_CT", "a dose report"),
        ("TOO_FEW_SLICES", "fewer than 3 slices of its kind"),
    ]


# --- what makes no volume ----------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["position", "orientation", "pixel_spacing"])
def test_images_without_a_place_are_left_out_or_refused(field: str) -> None:
    error = problem(plan(stack(np.arange(5) * 2.0, **{field: None})))
    assert isinstance(error, MissingPosition)
    assert error.code == "MISSING_POSITION"
    found = plan([*stack(np.arange(5) * 2.0), header(10, **{field: None})])
    assert places(found) == [[0, 2, 4, 6, 8]]
    assert [item.code for item in found.left_out] == ["MISSING_POSITION"]


@pytest.mark.parametrize("field", ["slope", "intercept"])
def test_a_missing_rescale_is_an_error_not_zero(field: str) -> None:
    series: list[SliceHeader] = [*stack(np.arange(5) * 2.0), header(10, **{field: None})]
    error = problem(plan(series))
    assert isinstance(error, MissingRescale)
    assert error.code == "MISSING_RESCALE"
    assert error.details["files"] == ("z=10",)


def test_other_units_than_hounsfield_are_refused() -> None:
    error = problem(plan(stack(np.arange(5) * 2.0, rescale_type="MGML")))
    assert isinstance(error, NotHounsfield)
    assert codes(plan(stack(np.arange(5) * 2.0, rescale_type="US"))) == {WarningCode.UNIT_UNSPECIFIED}
    assert codes(plan(stack(np.arange(5) * 2.0, rescale_type="HU"))) == set()


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_slices_are_no_volume(count: int) -> None:
    assert isinstance(problem(plan(stack(np.arange(count) * 2.0))), TooFewSlices)


def test_without_ct_there_is_nothing_wrong() -> None:
    assert plan([]) == SeriesPlan(stacks=(), left_out=(), problems=())
    found = plan([header(0, localizer=True)])
    assert (found.stacks, found.problems) == ((), ())


def test_slices_aside_of_the_line_are_refused() -> None:
    series = stack(np.arange(6) * 2.0)
    series[3] = header(6, position=(-175.0, -180.0, 6.0))
    assert isinstance(problem(plan(series)), InconsistentPositions)


def test_one_bad_part_does_not_take_the_others_with_it() -> None:
    aside = [header(30.0 + 2 * n, position=(-180.0 + 9 * (n == 2), -180.0, 30.0 + 2 * n)) for n in range(5)]
    found = plan([*stack(np.arange(5) * 2.0), *aside])
    assert places(found) == [[0, 2, 4, 6, 8]]
    assert [type(error) for error in found.problems] == [InconsistentPositions]


def test_too_large_is_said_before_anything_is_allocated() -> None:
    error = problem(plan(stack(np.arange(5) * 2.0, rows=65535, columns=65535)))
    assert isinstance(error, TooLarge)
    assert isinstance(problem(plan(stack(np.arange(5) * 2.0), max_bytes=5 * 512 * 512 * 2 - 1)), TooLarge)
    assert plan(stack(np.arange(5) * 2.0), max_bytes=5 * 512 * 512 * 2).stacks[0].nbytes == 5 * 512 * 512 * 2


# --- tilt and thickness ------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [-20.0, 5.0, 25.0])
def test_a_tilt_is_seen_by_geometry(degrees: float) -> None:
    # The table moves along z, the slices are turned about x.
    angle = np.radians(degrees)
    turned = (1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(np.sin(angle)))
    series = [header(2.0 * n, orientation=turned, gantry_tilt_degrees=degrees) for n in range(10)]
    found = plan(series)
    assert codes(found) == {WarningCode.GANTRY_TILT}
    assert f"{abs(degrees):.1f} degrees" in found.stacks[0].warnings[0].message
    np.testing.assert_allclose(found.stacks[0].affine[:3, 0], (0, 0, 2), atol=1e-9)


def test_a_tilt_that_only_the_header_knows_is_contradicted() -> None:
    found = plan(stack(np.arange(5) * 2.0, gantry_tilt_degrees=15.0))
    assert codes(found) == {WarningCode.TILT_CONTRADICTED}
    assert codes(plan(stack(np.arange(5) * 2.0, gantry_tilt_degrees=0.0))) == set()


def test_gaps_between_thin_slices_are_told() -> None:
    assert codes(plan(stack(np.arange(5) * 10.0, slice_thickness_mm=1.0))) == {WarningCode.NOT_CONTIGUOUS}
    assert codes(plan(stack(np.arange(5) * 1.0, slice_thickness_mm=5.0))) == set()
