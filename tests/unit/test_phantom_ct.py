"""CT of the phantom: Hounsfield units, geometry, volumes counted in voxels."""

from __future__ import annotations

import numpy as np
import pytest

from overread.phantom.anatomy import Arms, Side
from overread.phantom.ct import CtGeometry, scan
from overread.phantom.findings import PleuralEffusion, Pneumothorax
from overread.phantom.thorax import make_thorax

GEOMETRY = CtGeometry(size=128, slices=75, slice_mm=5.0)


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    thorax = make_thorax(
        np.random.default_rng(4),
        Pneumothorax(side=Side.RIGHT, volume_ml=700.0),
        PleuralEffusion(side=Side.LEFT, volume_ml=400.0),
        arms=Arms.UP,
    )
    return np.stack([s.hu for s in scan(thorax, GEOMETRY, np.random.default_rng(0), noise_hu=0.0)])


def test_tissues_have_their_hounsfield_units(volume: np.ndarray) -> None:
    assert volume.dtype == np.int16
    assert volume.shape == (75, 128, 128)
    assert volume[40, 0, 64] == -1000  # air in front of the patient
    assert volume.max() > 400  # bone
    values, counts = np.unique(volume, return_counts=True)
    common = set(values[np.argsort(counts)[-12:]].tolist())
    assert {-1000, -100, 50} <= common


def test_pleural_air_and_fluid_are_there_in_millilitres(volume: np.ndarray) -> None:
    voxel = GEOMETRY.pixel_mm**2 * GEOMETRY.slice_mm / 1000
    x = (np.arange(128) + 0.5) * GEOMETRY.pixel_mm - GEOMETRY.field_mm / 2
    inside = np.zeros(volume.shape, dtype=bool)
    inside[:, 24:104, :] = True  # the body without the air around it
    air = (volume < -930) & inside & (x < -18) & (x > -150)
    air[:, :, :] &= (
        np.maximum.accumulate(volume > -300, axis=2) & np.maximum.accumulate(volume[:, ::-1] > -300, axis=1)[:, ::-1]
    )
    assert air.sum() * voxel == pytest.approx(700.0, rel=0.2)
    fluid = (volume > 2) & (volume < 22)
    assert 200 < fluid.sum() * voxel < 480


def test_slices_come_in_order_with_their_positions() -> None:
    geometry = CtGeometry(size=64, slices=9, slice_mm=3.0, bottom_mm=20.0)
    thorax = make_thorax(np.random.default_rng(4), arms=Arms.UP)
    slices = list(scan(thorax, geometry, np.random.default_rng(0)))
    assert [s.index for s in slices] == list(range(9))
    np.testing.assert_allclose([s.position[2] for s in slices], 21.5 + 3.0 * np.arange(9), atol=1e-3)
    assert slices[0].position[0] == pytest.approx(-190 + geometry.pixel_mm / 2, abs=1e-3)
    # one slice alone is the same as in the series, but for its noise
    alone = CtGeometry(size=64, slices=1, slice_mm=3.0, bottom_mm=32.0)
    (single,) = scan(thorax, alone, np.random.default_rng(0), noise_hu=0.0)
    quiet = list(scan(thorax, geometry, np.random.default_rng(0), noise_hu=0.0))
    np.testing.assert_allclose(single.hu.astype(int), quiet[4].hu, atol=2)


def test_noise_has_its_deviation() -> None:
    geometry = CtGeometry(size=96, slices=1, slice_mm=5.0, bottom_mm=-100.0)
    thorax = make_thorax(np.random.default_rng(4), arms=Arms.UP)
    (noisy,) = scan(thorax, geometry, np.random.default_rng(1), noise_hu=25.0)
    (clean,) = scan(thorax, geometry, np.random.default_rng(1), noise_hu=0.0)
    difference = (noisy.hu - clean.hu)[clean.hu > -900]
    assert float(difference.std()) == pytest.approx(25.0, rel=0.1)
