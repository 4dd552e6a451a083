"""Volumes, means and shares of the lungs, against what was put into them."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.ct_bodies import chest_anatomy, volume_of, with_holes

from overread.domain.tissue import Tissue
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy, find_anatomy
from overread.pipeline.analysers.chest_ct.density import Density, measure_density
from overread.pipeline.analysers.chest_ct.grid import coarsen


def measured(anatomy: ChestAnatomy) -> Density:
    density = measure_density(anatomy)
    assert density is not None
    return density


def blocks(noise_hu: float, *, step_mm: float = 1.0) -> ChestAnatomy:
    """Lungs of two slabs, 30% of the right one at -985 HU and the rest at -860, and a trachea; labels by hand."""
    rng = np.random.default_rng(2)
    shape = (40, 48, 100)
    labels = np.full(shape, Tissue.BODY, np.uint8)
    labels[:, 4:44, 4:44] = Tissue.RIGHT_LUNG
    labels[:, 4:44, 56:96] = Tissue.LEFT_LUNG
    labels[:, 16:32, 45:55] = Tissue.AIRWAYS
    hu = np.full(shape, 40.0)
    hu[labels == Tissue.RIGHT_LUNG] = hu[labels == Tissue.LEFT_LUNG] = -860
    hu[:12, 4:44, 4:44] = -985
    hu[labels == Tissue.AIRWAYS] = -1000
    hu = np.maximum(hu + rng.normal(0, noise_hu, shape), -1024)
    return ChestAnatomy(volume=volume_of(hu, mm=(step_mm,) * 3), labels=labels)


def test_shares_are_those_of_each_lung() -> None:
    density = measured(blocks(0.0))
    assert density.right is not None
    assert density.left is not None
    assert density.right.low_percent == pytest.approx(30.0, abs=0.1)
    assert density.left.low_percent == 0.0
    assert density.both.low_percent == pytest.approx(15.0, abs=0.1)
    assert density.right.volume_ml == pytest.approx(64.0)
    assert density.both.mean_hu == pytest.approx(0.15 * -985 + 0.85 * -860, abs=0.01)
    assert density.left.percentile_15_hu == pytest.approx(-860)


def test_noise_of_voxels_is_not_taken_for_emphysema() -> None:
    anatomy = blocks(60.0)
    by_voxel = 100 * np.mean(anatomy.volume.hu[anatomy.labels == Tissue.LEFT_LUNG] < -950)
    assert by_voxel > 5, "counted by voxels it would be"
    density = measured(anatomy)
    assert density.left is not None
    assert density.left.low_percent < 0.1
    assert density.too_noisy == ""


def test_noise_is_measured_though_files_end_at_minus_1024() -> None:
    density = measured(blocks(60.0))
    assert density.noise_hu == pytest.approx(60 / np.sqrt(8), rel=0.25)


def test_too_much_noise_refuses_shares() -> None:
    density = measured(blocks(190.0))
    assert "too noisy" in density.too_noisy
    assert density.by_noise_percent > 1


def test_without_a_trachea_noise_is_unknown_and_shares_are_refused() -> None:
    anatomy = blocks(0.0)
    labels = anatomy.labels.copy()
    labels[labels == Tissue.AIRWAYS] = Tissue.BODY
    assert "without a trachea" in measured(ChestAnatomy(volume=anatomy.volume, labels=labels)).too_noisy


def test_no_lungs_no_density() -> None:
    anatomy = blocks(0.0)
    assert measure_density(ChestAnatomy(volume=anatomy.volume, labels=np.ones_like(anatomy.labels))) is None


def test_a_grid_that_is_at_hand_gives_the_same() -> None:
    anatomy = blocks(10.0)
    again = measure_density(anatomy, coarsen(anatomy.volume))
    assert again is not None
    assert again.both == measured(anatomy).both


@pytest.mark.parametrize("percent", [3.0, 15.0])
def test_emphysema_of_the_phantom_is_found_as_large_as_it_is(percent: float) -> None:
    volume, share = with_holes(percent)
    density = measured(find_anatomy(volume))
    assert density.too_noisy == ""
    assert density.both.low_percent == pytest.approx(share, rel=0.2)


def test_more_emphysema_is_never_less() -> None:
    shares = [measured(find_anatomy(with_holes(p)[0])).both.low_percent for p in (3.0, 15.0)]
    assert measured(chest_anatomy()).both.low_percent < 0.5 < shares[0] < shares[1]
