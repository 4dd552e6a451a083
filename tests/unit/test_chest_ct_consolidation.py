"""Consolidated lung against phantoms of known volume, and ground glass against drawn lungs."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.ct_pleura_cases import LEFT, RIGHT, airy, anatomy, before, healthy, truth_ml, wet

from overread.domain.tissue import Tissue
from overread.domain.volume import Volume
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy
from overread.pipeline.analysers.chest_ct.consolidation import HighAttenuation, compactness, find

_SIDES = ((Tissue.RIGHT_LUNG, RIGHT), (Tissue.LEFT_LUNG, LEFT))


def _lung(patch_hu: float, half_mm: int, core_hu: float | None = None) -> HighAttenuation:
    """Two boxes of lung of 2 mm voxels, a cube of `patch_hu` in the right one, and in that a smaller cube."""
    labels = np.full((40, 60, 100), Tissue.BODY, np.uint8)
    labels[2:38, 5:55, 5:45], labels[2:38, 5:55, 55:95] = Tissue.RIGHT_LUNG, Tissue.LEFT_LUNG
    hu = np.array([-1000, 40, -850, -850], np.float32)[labels]
    reach = half_mm // 2
    hu[20 - reach : 20 + reach, 30 - reach : 30 + reach, 25 - reach : 25 + reach] = patch_hu
    if core_hu is not None:
        reach //= 2
        hu[20 - reach : 20 + reach, 30 - reach : 30 + reach, 25 - reach : 25 + reach] = core_hu
    hu += np.random.default_rng(5).normal(0, 12, hu.shape).astype(np.float32)
    volume = Volume(
        hu=hu.astype(np.int16),
        affine=np.array([[0, 0, 2, 0], [0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1]], np.float64),
        series_instance_uid="1.2.3",
        frame_of_reference_uid="",
        sop_instance_uids=("1.2",) * 40,
        frame_numbers=(1,) * 40,
    )
    return find(ChestAnatomy(volume=volume, labels=labels))


def test_a_chest_without_findings_has_none() -> None:
    found = find(anatomy(healthy()))
    assert found.regions == ()
    assert found.consolidated_percent == 0
    assert found.ground_glass_percent < 0.5


@pytest.mark.parametrize("case", [airy, wet])
def test_consolidation_is_measured_within_ten_percent(case) -> None:  # type: ignore[no-untyped-def]
    found = find(anatomy(case()))
    truth = truth_ml(case(), "consolidation", RIGHT)
    assert {region.side for region in found.regions} == {"right"}
    assert sum(region.volume_ml for region in found.regions) == pytest.approx(truth, rel=0.1)
    both = sum(anatomy(case()).ml(tissue) for tissue, _ in _SIDES)
    assert found.consolidated_percent == pytest.approx(100 * sum(r.volume_ml for r in found.regions) / both)


@pytest.mark.parametrize("case", [airy, wet])
def test_lungs_with_airless_parts_are_measured_within_four_percent(case) -> None:  # type: ignore[no-untyped-def]
    for tissue, side in _SIDES:
        assert anatomy(case()).ml(tissue) == pytest.approx(case().truth().lung_ml[side], rel=0.04)
    assert before(wet()).ml(Tissue.RIGHT_LUNG) < 0.96 * wet().truth().lung_ml[RIGHT]


def test_a_region_lies_where_its_slice_and_box_say() -> None:
    done = anatomy(airy())
    for region in find(done).regions:
        lung = done.labels[region.region.box][region.region.mask]
        assert set(np.unique(lung)) == {int(Tissue.RIGHT_LUNG)}
        areas = region.region.mask.sum(axis=(1, 2))
        assert areas[region.slice_index - region.region.box[0].start] == areas.max()
        assert region.volume_ml == pytest.approx(areas.sum() * done.volume.voxel_ml)
        assert -150 < region.mean_hu < 50
        assert 0 < region.score <= 1


def test_a_dense_cube_is_consolidation_and_no_ground_glass() -> None:
    found = _lung(20.0, 16)
    (region,) = found.regions
    assert region.volume_ml == pytest.approx(32**3 / 1000, rel=0.1)
    assert found.ground_glass_percent < 0.3


def test_a_hazy_cube_is_ground_glass_and_no_consolidation() -> None:
    found = _lung(-520.0, 16)
    assert found.regions == ()
    assert found.ground_glass_percent == pytest.approx(100 * 32**3 / (2 * 72 * 100 * 80), rel=0.15)


def test_of_haze_with_a_dense_inside_only_the_inside_is_consolidation() -> None:
    (region,) = _lung(-520.0, 20, core_hu=0.0).regions
    assert region.volume_ml == pytest.approx(20**3 / 1000, rel=0.25)


def test_balls_are_compact_even_hollow_and_ragged_things_are_not() -> None:
    z, y, x = np.mgrid[-24:25, -24:25, -24:25]
    far = np.sqrt(z**2 + y**2 + x**2)
    ball = far <= 20
    assert compactness(ball, (1.0, 1.0, 1.0)) > 0.95
    assert compactness(ball & (far > 8), (1.0, 1.0, 1.0)) > 0.95
    assert compactness(ball & (x % 12 > 2), (1.0, 1.0, 1.0)) < 0.2


def test_consolidation_is_less_compact_than_masses() -> None:
    regions = find(anatomy(airy())).regions
    assert regions
    assert all(region.compactness < 0.82 for region in regions)


def test_vessels_are_neither() -> None:
    found = _lung(30.0, 4)
    assert found.regions == ()
    assert found.ground_glass_percent == 0
