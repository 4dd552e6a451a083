"""Lesions inserted into a scan that is given."""

from __future__ import annotations

import numpy as np
import pytest

from overread.domain.tissue import Tissue
from overread.domain.volume import Volume
from overread.phantom.ct import CtGeometry
from overread.phantom.ct_case import CtScan, ct_case
from overread.phantom.insert import insert_consolidation, insert_nodule, propose_places
from overread.phantom.nodules import Density, Nodule


@pytest.fixture(scope="module")
def scan() -> CtScan:
    return ct_case(11, geometry=CtGeometry(size=256, field_mm=360.0, slices=26, slice_mm=3.0, bottom_mm=60.0)).scan()


@pytest.fixture(scope="module")
def lungs(scan: CtScan) -> np.ndarray:
    return np.isin(scan.labels, (Tissue.RIGHT_LUNG, Tissue.LEFT_LUNG))


@pytest.mark.parametrize("density", list(Density))
def test_an_inserted_nodule_has_its_mass_and_its_noise(scan: CtScan, lungs: np.ndarray, density: Density) -> None:
    volume = scan.volume
    rng = np.random.default_rng(5)
    nodule = Nodule(diameter_mm=15.0, density=density, flatness=(0.9, 0.85), core=0.6)
    (place,) = propose_places(volume, lungs, 15.0, rng)
    done = insert_nodule(volume, place, nodule, rng)
    np.testing.assert_allclose(done.truth.centre_mm, place, atol=0.3)
    assert done.truth.diameter_mm == pytest.approx(15.0, abs=0.2)
    assert done.share.sum() * volume.voxel_ml == pytest.approx(done.truth.volume_ml, rel=0.02)
    after = done.volume.hu[done.place].astype(float)
    outside = np.ones(volume.shape, dtype=bool)
    outside[done.place] = done.share == 0
    np.testing.assert_array_equal(volume.hu[outside], done.volume.hu[outside])
    core = done.share > 0.999
    if density is Density.SOLID:
        assert after[core].mean() == pytest.approx(30, abs=6)
        # as noisy as the soft tissue of the scan, in which the noise is about 13 HU
        assert 5 < after[core].std() < 20
    elif density is Density.GROUND_GLASS:
        assert np.median(after[core]) == pytest.approx(-600, abs=25)
        assert after[core].std() > 5
    else:
        assert after[core].max() > 0
        assert np.percentile(after[core], 20) < -400


def test_places_are_in_aerated_lung_and_apart(scan: CtScan, lungs: np.ndarray) -> None:
    avoid = np.zeros(lungs.shape, dtype=bool)
    avoid[:13] = True
    places = propose_places(scan.volume, lungs, 8.0, np.random.default_rng(2), count=5, avoid=avoid)
    assert len(places) == 5
    for place in places:
        slice_, row, column = np.rint(scan.volume.to_index(place)).astype(int)
        assert slice_ >= 13
        around = lungs[slice_ - 1 : slice_ + 2, row - 3 : row + 4, column - 3 : column + 4]
        assert around.mean() > 0.96  # a twig of the airways may pass
    gaps = [np.linalg.norm(np.subtract(a, b)) for i, a in enumerate(places) for b in places[:i]]
    assert min(gaps) > 20
    assert propose_places(scan.volume, np.zeros_like(lungs), 8.0, np.random.default_rng(2)) == ()


def test_an_inserted_consolidation_has_its_volume(scan: CtScan, lungs: np.ndarray) -> None:
    volume: Volume = scan.volume
    rng = np.random.default_rng(8)
    (place,) = propose_places(volume, lungs, 20.0, rng)
    done = insert_consolidation(volume, lungs, place, 60.0, rng)
    assert done.truth.volume_ml == pytest.approx(60.0, rel=0.02)
    dense = lungs & (done.volume.hu > -420) & (volume.hu < -600)
    vessels = lungs & (volume.hu > -600)
    near = np.zeros_like(lungs)
    near[done.place] = done.share >= 0.5
    found = (dense | (vessels & near)).sum() * volume.voxel_ml
    assert found == pytest.approx(60.0, rel=0.1)
    assert np.median(done.volume.hu[done.place][done.share > 0.99]) == pytest.approx(15, abs=20)
    with pytest.raises(ValueError, match="mL of lung"):
        insert_consolidation(volume, lungs, place, 9000.0, rng)


def test_a_place_outside_is_refused(scan: CtScan) -> None:
    with pytest.raises(ValueError, match="outside"):
        insert_nodule(scan.volume, (0.0, 0.0, 999.0), Nodule(diameter_mm=8.0), np.random.default_rng(0))
