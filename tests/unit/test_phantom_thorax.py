"""Thorax phantom: anatomy, findings of known volume, determinism."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from overread.domain import catalogue
from overread.phantom.anatomy import SIDES, Anatomy, Arms, Side, draw_anatomy
from overread.phantom.findings import Consolidation, Finding, PleuralEffusion, Pneumothorax, measure, place
from overread.phantom.organs import Organs
from overread.phantom.skeleton import rib_path, skeleton
from overread.phantom.thorax import Thorax, make_thorax

FINDINGS: list[Finding] = [
    Pneumothorax(side=Side.RIGHT, volume_ml=350.0),
    Pneumothorax(side=Side.LEFT, volume_ml=900.0),
    PleuralEffusion(side=Side.LEFT, volume_ml=500.0),
    PleuralEffusion(side=Side.RIGHT, volume_ml=150.0),
    Consolidation(side=Side.RIGHT, volume_ml=120.0),
    Consolidation(side=Side.LEFT, volume_ml=60.0, centre=(0.6, 0.4, 0.7)),
]


@pytest.mark.parametrize("seed", range(4))
def test_anatomy_is_plausible(seed: int) -> None:
    anatomy = draw_anatomy(np.random.default_rng(seed))
    organs = Organs(anatomy=anatomy)
    volumes = {
        side: measure(lambda x, y, z, s=side: organs.lung(s, x, y, z), organs.lung_box(side), 5.0)[0] for side in SIDES
    }
    assert 1200 < volumes[Side.LEFT] < volumes[Side.RIGHT] < 3800
    for bone in skeleton(anatomy):
        assert np.isfinite(bone.path).all()


def test_ribs_fall_from_back_to_front_and_stay_outside_the_lungs() -> None:
    anatomy = Anatomy()
    organs = Organs(anatomy=anatomy)
    for side in SIDES:
        for number in range(1, 13):
            path = rib_path(anatomy, side, number)
            assert path[-1, 2] < path[0, 2] - 20
            assert (np.sign(path[:, 0]) == side.sign).all()
            x, y, z = (path[:, i].astype(np.float32) for i in range(3))
            # the middle of a rib lies in the chest wall: not more than its own thickness inside the pleura
            assert (organs.lung(side, x, y, z) > -2.0).all()


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda f: f"{type(f).__name__}-{f.side}")
def test_a_finding_has_the_volume_asked_for(finding: Finding) -> None:
    anatomy = draw_anatomy(np.random.default_rng(5))
    region = place(finding, anatomy)
    assert catalogue.is_known(region.key)
    assert region.volume_ml == pytest.approx(finding.volume_ml, rel=0.03)
    # counted again, point by point, on an unrelated lattice
    (low, high) = region.box
    axes = [np.arange(a - 3.1, b + 3.1, 1.7, dtype=np.float32) for a, b in zip(low, high, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    counted = float((np.broadcast_to(region.level(x, y, z), [len(a) for a in axes]) < 0).sum()) * 1.7**3 / 1000
    assert counted == pytest.approx(region.volume_ml, rel=0.05)


def test_air_rises_and_fluid_sinks() -> None:
    anatomy = Anatomy()
    air = place(Pneumothorax(side=Side.RIGHT, volume_ml=300.0), anatomy)
    fluid = place(PleuralEffusion(side=Side.RIGHT, volume_ml=300.0), anatomy)
    x, y, z = np.meshgrid(*[np.arange(-150, 250, 6.0, dtype=np.float32)] * 3, indexing="ij", sparse=True)
    shape = np.broadcast_shapes(x.shape, y.shape, z.shape)
    heights = [
        float(np.broadcast_to(z, shape)[np.broadcast_to(r.level(x, y, z), shape) < 0].mean()) for r in (air, fluid)
    ]
    assert heights[0] > heights[1] + 60
    assert air.box[1][0] < 0 > fluid.box[1][0]


def test_findings_of_one_lung_do_not_overlap() -> None:
    fluid = PleuralEffusion(side=Side.LEFT, volume_ml=400.0)
    patch = Consolidation(side=Side.LEFT, volume_ml=150.0, centre=(0.6, 0.6, 0.35))
    thorax = Thorax(anatomy=Anatomy(), findings=(fluid, patch))
    first, second = thorax.regions
    assert second.volume_ml == pytest.approx(150.0, rel=0.05)
    x, y, z = np.meshgrid(*[np.arange(-150, 250, 4.0, dtype=np.float32)] * 3, indexing="ij", sparse=True)
    assert (np.maximum(first.level(x, y, z), second.level(x, y, z)) >= 0).all()


@pytest.mark.parametrize("volume", [0.0, -5.0, 5000.0])
def test_an_impossible_volume_is_refused(volume: float) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        place(Pneumothorax(side=Side.LEFT, volume_ml=volume), Anatomy())


def test_no_vessel_in_pleural_air_and_none_lost_elsewhere() -> None:
    anatomy = Anatomy(seed=3)
    without = Thorax(anatomy=anatomy)
    thorax = replace(without, findings=(Pneumothorax(side=Side.RIGHT, volume_ml=800.0),))
    (region,) = thorax.regions
    ends = np.concatenate([t.path[[0, -1]] for t in thorax.vessels]).astype(np.float32)
    assert (region.level(ends[:, 0], ends[:, 1], ends[:, 2]) > 0).all()
    left = [sum(t.path[0, 0] > 20 for t in x.vessels) for x in (without, thorax)]
    assert left[0] == left[1] > 300
    # the lung that is pushed together keeps its mass
    assert thorax.lung_hu(Side.RIGHT) > anatomy.lung_hu == thorax.lung_hu(Side.LEFT)


def test_the_same_seed_makes_the_same_thorax() -> None:
    one, two = (make_thorax(np.random.default_rng(8), arms=Arms.DOWN) for _ in range(2))
    assert one == two
    assert np.array_equal(one.vessels[100].path, two.vessels[100].path)
    assert make_thorax(np.random.default_rng(9), arms=Arms.DOWN) != one


def test_a_large_heart_is_a_finding_with_the_volume_of_the_heart() -> None:
    thorax = make_thorax(np.random.default_rng(1), heart=1.25)
    (truth,) = thorax.truths()
    assert truth.key == "cardiomegaly"
    assert truth.side is None
    assert 700 < truth.volume_ml < 1900
    assert make_thorax(np.random.default_rng(1), heart=1.0).truths() == ()


def test_sizes_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="heart"):
        Anatomy(heart=3.0)
