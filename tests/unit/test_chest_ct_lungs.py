"""Body, lungs and airways of a chest CT, against the phantom's own labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.ct_bodies import chest, chest_anatomy, chest_volume, ellipsoid, volume_of

from overread.domain.tissue import Tissue
from overread.domain.volume import AIR_HU
from overread.phantom.anatomy import Side
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy, NotAChest, find_anatomy
from overread.pipeline.analysers.chest_ct.body import find_body
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid, closed, coarsen, deeper, opened, within
from overread.pipeline.analysers.chest_ct.lungs import _sides, find_lungs

SIDES = ((Tissue.RIGHT_LUNG, Side.RIGHT), (Tissue.LEFT_LUNG, Side.LEFT))


@pytest.fixture(scope="module")
def anatomy() -> ChestAnatomy:
    return chest_anatomy()


def test_lung_volumes_are_within_three_percent(anatomy: ChestAnatomy) -> None:
    for tissue, side in SIDES:
        assert anatomy.ml(tissue) == pytest.approx(chest().truth().lung_ml[side], rel=0.03)


def test_lung_volumes_bear_the_noise_of_a_sharp_kernel() -> None:
    hu = chest_volume().hu + np.random.default_rng(1).normal(0, 60, chest_volume().shape)
    noisy = find_anatomy(replace(chest_volume(), hu=np.clip(hu, -1024, 3071).astype(np.int16)))
    for tissue, side in SIDES:
        assert noisy.ml(tissue) == pytest.approx(chest().truth().lung_ml[side], rel=0.03)


def test_outlines_cover_the_truth(anatomy: ChestAnatomy) -> None:
    truth = chest().labels()
    for tissue, _ in SIDES:
        ours, theirs = anatomy.labels == tissue, truth == tissue
        assert 2 * np.count_nonzero(ours & theirs) / (np.count_nonzero(ours) + np.count_nonzero(theirs)) > 0.98


def test_trachea_and_main_bronchi_are_taken_out(anatomy: ChestAnatomy) -> None:
    truth, found = chest().labels() == Tissue.AIRWAYS, anatomy.labels == Tissue.AIRWAYS
    assert np.count_nonzero(found & truth) > 0.7 * np.count_nonzero(truth)
    assert np.count_nonzero(found & ~truth) < 0.1 * np.count_nonzero(found)


def test_stomach_gas_and_the_table_are_neither_lung_nor_body(anatomy: ChestAnatomy) -> None:
    truth = chest().labels()
    gas = (anatomy.volume.hu < -900) & (truth == Tissue.BODY)
    assert np.count_nonzero(gas) > 100, "the phantom has gas in its stomach"
    assert np.count_nonzero(anatomy.lungs() & gas) < 0.05 * np.count_nonzero(gas)
    table = (anatomy.volume.hu > -800) & (truth == Tissue.OUTSIDE)
    table[:, : table.shape[1] * 3 // 4] = False
    assert np.count_nonzero(anatomy.labels[table] != Tissue.OUTSIDE) < 0.05 * np.count_nonzero(table)


def test_stored_order_and_direction_change_nothing(anatomy: ChestAnatomy) -> None:
    """Slices from the head down and a patient on the belly: the same lungs, left and right included."""
    volume = chest_volume()
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (len(volume.hu) - 1)
    affine[:, 0] *= -1
    down = replace(volume, hu=volume.hu[::-1].copy(), affine=affine, sop_instance_uids=volume.sop_instance_uids[::-1])
    np.testing.assert_array_equal(find_anatomy(down).labels, anatomy.labels)
    # prone: the scanner's rows and columns both run the other way through the patient
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 1] * (volume.shape[1] - 1) + affine[:3, 2] * (volume.shape[2] - 1)
    affine[:, 1:3] *= -1
    prone = replace(volume, hu=volume.hu[:, ::-1, ::-1].copy(), affine=affine)
    np.testing.assert_array_equal(find_anatomy(prone).labels, anatomy.labels)


def test_slices_that_are_not_axial_are_refused() -> None:
    volume = chest_volume()
    affine = volume.affine.copy()
    affine[:3, :3] = affine[:3, :3][:, [1, 0, 2]]  # slices from front to back
    with pytest.raises(NotAChest, match="not axial"):
        find_anatomy(replace(volume, affine=affine))


# --- by hand: two balls of lung in a block of tissue --------------------------------------------------------------

SHAPE = (40, 60, 80)
BALLS = (((20, 30, 24), (15, 22, 16.5)), ((20, 30, 56), (15, 22, 16.5)))


def two_lungs() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    hu = np.full(SHAPE, float(AIR_HU))
    hu[:, 4:-4, 3:-3] = 40
    for centre, radii in BALLS:
        hu[ellipsoid(SHAPE, centre, radii)] = -850
    return hu


def test_lungs_that_touch_are_parted() -> None:
    hu = two_lungs()
    assert hu[20, 30, 40] < -800, "they touch"
    anatomy = find_anatomy(volume_of(hu))
    right, left = anatomy.ml(Tissue.RIGHT_LUNG), anatomy.ml(Tissue.LEFT_LUNG)
    assert right == pytest.approx(left, rel=0.02)
    assert np.flatnonzero((anatomy.labels == Tissue.RIGHT_LUNG).any(axis=(0, 1))).max() <= 41
    assert np.flatnonzero((anatomy.labels == Tissue.LEFT_LUNG).any(axis=(0, 1))).min() >= 39


def test_a_nodule_on_the_chest_wall_is_lung_and_a_rib_is_not() -> None:
    hu = two_lungs()
    hu[:, :, 40] = 40
    nodule = ellipsoid(SHAPE, (20, 30, 10.0), (1.5, 2, 2))
    rib = np.zeros(SHAPE, np.bool_)
    rib[:, 20:40, 4:7] = True
    hu[nodule], hu[rib] = 60, 500
    found = find_anatomy(volume_of(hu)).lungs()
    assert found[nodule].mean() > 0.8
    assert not found[rib].any()


def test_a_lung_alone_is_on_its_side() -> None:
    hu = two_lungs()
    hu[..., 40:77] = 40
    anatomy = find_anatomy(volume_of(hu))
    assert anatomy.ml(Tissue.RIGHT_LUNG) > 500
    assert anatomy.ml(Tissue.LEFT_LUNG) == 0


def test_a_lung_cut_in_two_is_kept_and_bowel_below_is_not() -> None:
    """Consolidation between two parts of the right lung; stool full of gas under the left one."""
    whole = find_anatomy(volume_of(two_lungs()))
    hu = two_lungs()
    hu[:, :, 39:42] = 40
    hu[19:23, :, :39] = 40
    hu[ellipsoid(SHAPE, (4, 30, 56), (3, 10, 10))] = -700
    hu[8:10, :, 42:76] = 40
    anatomy = find_anatomy(volume_of(hu))
    assert anatomy.ml(Tissue.RIGHT_LUNG) > 0.8 * whole.ml(Tissue.RIGHT_LUNG)
    assert not (anatomy.labels[:7, :, 45:68] == Tissue.LEFT_LUNG).any()


def test_gas_without_texture_is_no_lung() -> None:
    hu = two_lungs()
    hu[hu == -850] = -1000
    grid = coarsen(volume_of(hu))
    assert find_lungs(grid, find_body(grid), None) is None


# --- the coarse grid -----------------------------------------------------------------------------------------------


def test_blocks_are_means_also_where_the_last_is_smaller() -> None:
    hu = np.random.default_rng(3).integers(-1000, 400, (5, 7, 8))
    grid = coarsen(volume_of(hu, mm=(1.0, 0.7, 1.0)))
    assert grid.factors == (2, 3, 2)
    assert grid.hu.shape == (3, 3, 4)
    assert grid.hu[0, 0, 0] == pytest.approx(hu[:2, :3, :2].mean(), abs=0.01)
    assert grid.hu[2, 2, 3] == pytest.approx(hu[4:, 6:, 6:].mean(), abs=0.01)
    mask = grid.hu < -300
    np.testing.assert_array_equal(
        grid.fine(mask, 0, 5, slice(0, 7), slice(0, 8)), np.kron(mask, np.ones((2, 3, 2), bool))[:5, :7, :8]
    )


def test_balls_grow_and_shrink_in_mm() -> None:
    ball = ellipsoid((31, 31, 31), (15, 15, 15), (8, 8, 8))
    larger = within(ball, (1.0, 1.0, 1.0), 3.0)
    np.testing.assert_array_equal(
        larger & ellipsoid((31, 31, 31), (15, 15, 15), (10.5,) * 3), ellipsoid((31, 31, 31), (15, 15, 15), (10.5,) * 3)
    )
    assert not deeper(ball, (1.0, 1.0, 1.0), 9.0).any()
    assert deeper(ball, (0.5, 1.0, 1.0), 3.5)[15, 15, 15]
    speck = ball.copy()
    speck[15, 15, 26] = True
    np.testing.assert_array_equal(opened(speck, (1.0, 1.0, 1.0), 2.0) & ~ball, np.zeros_like(ball))
    dented = ball.copy()
    dented[15, 15, 17:22] = False
    np.testing.assert_array_equal(closed(dented, (1.0, 1.0, 1.0), 3.0) & ball, ball)


def test_a_mask_that_is_cut_off_is_not_eaten_at_the_border() -> None:
    column = np.zeros((6, 9, 9), np.bool_)
    column[:, 2:7, 2:7] = True
    assert deeper(column, (1.0, 1.0, 1.0), 2.0)[:, 4, 4].all()


def test_lungs_apart_keep_their_sides_wherever_the_trachea_was_seen() -> None:
    grid = CoarseGrid(
        hu=np.zeros((30, 60, 120), np.float32), factors=(1, 1, 1), spacing_mm=(2.0, 2.0, 2.0), fine_shape=(30, 60, 120)
    )
    right, left = np.zeros(grid.hu.shape, np.bool_), np.zeros(grid.hu.shape, np.bool_)
    right[3:27, 10:50, 12:52], left[3:27, 12:50, 70:105] = True, True
    # a bronchus that was taken for the trachea: its column runs through the right lung
    found_right, found_left, touching = _sides(grid, [right, left], 35.0)
    np.testing.assert_array_equal(found_right, right)
    np.testing.assert_array_equal(found_left, left)
    assert not touching
