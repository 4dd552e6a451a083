"""Volumes in the patient's space: indices and mm, LPS order, tilted gantries."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from overread.domain.volume import AIR_HU, Volume, VolumeWarning, WarningCode, affine_of, straighten, to_lps

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
UPRIGHT = affine_of((-10.0, -20.0, -30.0), AXIAL, (0.7, 0.8), (0.0, 0.0, 2.5))


def make(hu: NDArray[Any] | None = None, affine: NDArray[np.float64] = UPRIGHT, **fields: Any) -> Volume:
    hu = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) if hu is None else hu
    slices = hu.shape[fields.get("slice_axis", 0)]
    return Volume(
        hu=hu,
        affine=affine.copy(),
        series_instance_uid="1.2",
        frame_of_reference_uid="1.3",
        sop_instance_uids=tuple(f"1.2.{n}" for n in range(slices)),
        frame_numbers=(1,) * slices,
        **fields,
    )


# --- what is no volume -------------------------------------------------------------------------------------


@pytest.mark.parametrize("hu", [np.zeros((2, 3), np.int16), np.zeros((2, 3, 4), np.float64)])
def test_other_shapes_and_types_are_refused(hu: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="int16 or float32"):
        make(hu)


def test_affines_that_map_to_nothing_are_refused() -> None:
    flat = UPRIGHT.copy()
    flat[:3, 0] = 0
    with pytest.raises(ValueError, match="singular"):
        make(affine=flat)
    for bad in (np.full((4, 4), np.nan), np.eye(3)):
        with pytest.raises(ValueError, match="4 x 4"):
            make(affine=bad)


def test_each_slice_needs_its_source() -> None:
    with pytest.raises(ValueError, match="4 slices"):
        Volume(
            hu=np.zeros((4, 5, 6), np.int16),
            affine=UPRIGHT.copy(),
            series_instance_uid="",
            frame_of_reference_uid="",
            sop_instance_uids=("1.2",),
            frame_numbers=(1,),
        )


# --- upright -----------------------------------------------------------------------------------------------


def test_what_a_volume_says() -> None:
    volume = make(warnings=(VolumeWarning(code=WarningCode.GANTRY_TILT, message="x"),))
    assert volume.shape == (4, 5, 6)
    assert volume.spacing_mm == pytest.approx((2.5, 0.7, 0.8))
    assert volume.voxel_ml == pytest.approx(2.5 * 0.7 * 0.8 / 1000)
    assert volume.tilt_degrees == pytest.approx(0)
    assert volume.has(WarningCode.GANTRY_TILT)
    assert not volume.has(WarningCode.MISSING_SLICES)
    np.testing.assert_allclose(volume.to_mm((1, 2, 3)), (-10 + 3 * 0.8, -20 + 2 * 0.7, -30 + 2.5))


def test_nobody_can_change_a_volume() -> None:
    volume = make()
    with pytest.raises(ValueError, match="read-only"):
        volume.hu[0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 0] = 1


@given(st.lists(st.tuples(*[st.floats(-500, 500)] * 3), min_size=1, max_size=5))
def test_mm_and_index_are_inverse(points: list[tuple[float, float, float]]) -> None:
    sheared = affine_of((1.0, 2.0, 3.0), (0.0, 1.0, 0.0, 0.0, 0.0, -1.0), (0.7, 0.8), (2.0, 0.3, -0.4))
    volume = make(affine=sheared)
    np.testing.assert_allclose(volume.to_mm(volume.to_index(np.array(points))), points, atol=1e-9)


# --- LPS ---------------------------------------------------------------------------------------------------

_LPS = affine_of((-5.0, -6.0, -7.0), AXIAL, (0.7, 0.8), (0.0, 0.0, 2.5))


def _reordered(axes: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The volume `make()` in `_LPS`, its array transposed and flipped, its affine with it."""
    hu = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6).transpose(axes)
    affine = _LPS.copy()
    affine[:, :3] = _LPS[:, list(axes)]
    for axis in range(3):
        if flips[axis]:
            hu = np.flip(hu, axis)
            affine[:, 3] += affine[:, axis] * (hu.shape[axis] - 1)
            affine[:, axis] *= -1
    return make(hu.copy(), affine)


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product((False, True), repeat=3)))
def test_however_it_lies_the_lps_volume_is_the_same(axes: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    given_ = _reordered(axes, flips)
    found = to_lps(given_)
    np.testing.assert_array_equal(found.hu, np.arange(4 * 5 * 6).reshape(4, 5, 6))
    np.testing.assert_allclose(found.affine, _LPS, atol=1e-12)
    # Each slice keeps its source, wherever its axis went.
    for n, uid in enumerate(given_.sop_instance_uids):
        there = found.sop_instance_uids.index(uid)
        np.testing.assert_array_equal(
            np.sort(np.take(found.hu, there, found.slice_axis).ravel()), np.sort(given_.hu[n].ravel())
        )


def test_lps_of_lps_copies_nothing() -> None:
    volume = make(affine=_LPS)
    again = to_lps(volume)
    assert np.shares_memory(again.hu, volume.hu)
    assert again.sop_instance_uids == volume.sop_instance_uids


@given(st.floats(-40, 40), st.floats(-40, 40), st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_an_oblique_volume_keeps_each_voxel_in_its_place(
    around_x: float, around_z: float, axes: list[int], flips: tuple[bool, ...]
) -> None:
    x, z = np.radians([around_x, around_z])
    turn = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    volume = _reordered(tuple(axes), flips)
    affine = volume.affine.copy()
    affine[:3] = turn @ affine[:3]
    turned = make(volume.hu.copy(), affine)
    found = to_lps(turned)
    for value in (0, 17, 119):
        before = turned.to_mm(np.argwhere(turned.hu == value)[0])
        np.testing.assert_allclose(found.to_mm(np.argwhere(found.hu == value)[0]), before, atol=1e-9)
    directions = found.affine[:3, :3] / np.linalg.norm(found.affine[:3, :3], axis=0)
    assert all(directions[2 - axis, axis] > 0 for axis in range(3))


# --- tilt --------------------------------------------------------------------------------------------------


def tilted(degrees: float, dtype: Any = np.float32) -> Volume:
    """Axial slices whose place in the plane runs to the back, over a world that is linear in x and y."""
    step = 2.0 * np.array([0, np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])
    affine = affine_of((0.0, 0.0, 0.0), AXIAL, (1.0, 1.0), step)
    k, i, j = np.mgrid[:9, :40, :20]
    y = affine[1] @ np.array([k, i, j, np.ones_like(k)]).reshape(4, -1)
    return make((10 * y).reshape(k.shape).astype(dtype), affine)


@pytest.mark.parametrize("degrees", [-25.0, 7.5, 20.0])
def test_a_tilted_volume_is_straightened(degrees: float) -> None:
    volume = tilted(degrees)
    assert volume.tilt_degrees == pytest.approx(abs(degrees), abs=1e-6)
    found = straighten(volume)
    assert found.tilt_degrees == pytest.approx(0, abs=1e-6)
    assert found.voxel_ml == pytest.approx(volume.voxel_ml)
    assert found.spacing_mm == pytest.approx((2 * np.cos(np.radians(degrees)), 1, 1))
    # Where no border came in, the values are those of the world at each voxel's new place.
    inside = found.hu[:, 6:-6]
    indices = np.argwhere(np.ones(found.shape, bool)).reshape(*found.shape, 3)[:, 6:-6]
    np.testing.assert_allclose(inside, 10 * found.to_mm(indices)[..., 1], atol=1e-3)


def test_what_comes_in_at_the_border_is_air() -> None:
    found = straighten(tilted(20.0, np.int16))
    assert found.hu.dtype == np.int16
    assert (found.hu[0, -1] == AIR_HU).all() or (found.hu[0, 0] == AIR_HU).all()


def test_an_upright_volume_is_left_alone() -> None:
    volume = make()
    assert straighten(volume) is volume


def test_straighten_comes_before_lps() -> None:
    with pytest.raises(ValueError, match="axis 0"):
        straighten(make(slice_axis=1))
