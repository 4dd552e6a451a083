"""Nodule candidates in made-up lungs: found, measured, and little else called a nodule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.tissue import Tissue
from overread.domain.volume import Volume
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy
from overread.pipeline.analysers.chest_ct.nodule_measure import NoduleDensity
from overread.pipeline.analysers.chest_ct.nodule_seeds import find_seeds
from overread.pipeline.analysers.chest_ct.nodule_shape import depth_of, distance_to
from overread.pipeline.analysers.chest_ct.nodules import LEAST_MM, Nodule, bodies, find_nodules, least_mm

LUNG, SOLID, GLASS = -860.0, 30.0, -600.0
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Ball:
    """A nodule, mm from the corner of the volume along axes 0, 1, 2."""

    at: tuple[float, float, float]
    diameter: float
    hu: float = SOLID
    #: Diameter of a solid core.
    core: float = 0.0


@dataclass(frozen=True)
class Rod:
    """A vessel from one point to another, mm."""

    start: tuple[float, float, float]
    stop: tuple[float, float, float]
    radius: float


@dataclass
class Scene:
    """A block of lung in soft tissue."""

    size: tuple[float, float, float] = (60.0, 80.0, 80.0)
    spacing: Spacing = (1.25, 0.8, 0.8)
    wall: float = 8.0
    balls: Sequence[Ball] = ()
    rods: Sequence[Rod] = ()
    noise: float = 18.0
    open_ends: bool = False
    origin: tuple[float, float, float] = field(default=(-40.0, -30.0, 200.0))

    def anatomy(self) -> ChestAnatomy:
        shape = tuple(max(1, round(s / d)) for s, d in zip(self.size, self.spacing, strict=True))
        fine = 3
        axes = [((np.arange(n * fine) + 0.5) / fine - 0.5) * d for n, d in zip(shape, self.spacing, strict=True)]
        points = np.meshgrid(*[a.astype(np.float32) for a in axes], indexing="ij", sparse=True)
        inside = np.ones([n * fine for n in shape], dtype=np.bool_)
        for axis, p in enumerate(points):
            if axis or not self.open_ends:
                inside &= (p > self.wall) & (p < self.size[axis] - self.wall)
        hu = np.where(inside, np.float32(LUNG), np.float32(40))
        for rod in self.rods:
            hu[inside & (_from_line(points, rod) < rod.radius**2)] = 40.0
        for ball in self.balls:
            away = sum((p - c) ** 2 for p, c in zip(points, ball.at, strict=True))
            hu[inside & (away < (ball.diameter / 2) ** 2) & (hu < ball.hu)] = ball.hu
            hu[inside & (away < (ball.core / 2) ** 2)] = SOLID
        hu = _pooled(hu, fine)
        lung = _pooled(inside.astype(np.float32), fine) >= 0.5
        hu = ndimage.gaussian_filter(hu, (0, 0.5 / self.spacing[1], 0.5 / self.spacing[2]))
        grain = ndimage.gaussian_filter(
            np.random.default_rng(5).standard_normal(shape, dtype=np.float32), (0, 0.7, 0.7)
        )
        hu = hu + grain * np.float32(self.noise / 0.4)
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *self.spacing, 1.0
        affine[:3, 3] = self.origin
        volume = Volume(
            hu=np.rint(hu).astype(np.int16),
            affine=affine,
            series_instance_uid="1.2",
            frame_of_reference_uid="1.3",
            sop_instance_uids=tuple(f"1.2.{i}" for i in range(shape[0])),
            frame_numbers=(1,) * shape[0],
        )
        labels = np.where(lung, Tissue.LEFT_LUNG, Tissue.BODY).astype(np.uint8)
        return ChestAnatomy(volume=volume, labels=labels)

    def mm(self, ball: Ball) -> tuple[float, float, float]:
        z, y, x = ball.at
        return self.origin[0] + x, self.origin[1] + y, self.origin[2] + z


def _from_line(points: Sequence[NDArray[np.float32]], rod: Rod) -> NDArray[np.float32]:
    """Squared distance from a segment."""
    start, along = np.asarray(rod.start), np.subtract(rod.stop, rod.start)
    offsets = [p - c for p, c in zip(points, start, strict=True)]
    t = np.clip(sum(o * a for o, a in zip(offsets, along, strict=True)) / (along @ along), 0, 1)
    return sum((o - t * a) ** 2 for o, a in zip(offsets, along, strict=True))


def _pooled(values: NDArray[np.float32], fine: int) -> NDArray[np.float32]:
    a, b, c = (n // fine for n in values.shape)
    return values.reshape(a, fine, b, fine, c, fine).mean(axis=(1, 3, 5))


#: Vessels that branch, bend and cross, from 1 to 5 mm.
TREE = (
    Rod((5, 20, 40), (30, 38, 42), 2.5),
    Rod((30, 38, 42), (48, 60, 30), 1.8),
    Rod((30, 38, 42), (40, 30, 65), 1.6),
    Rod((40, 30, 65), (52, 18, 72), 1.0),
    Rod((48, 60, 30), (52, 70, 12), 1.1),
    Rod((20, 12, 12), (24, 68, 20), 1.3),
    Rod((12, 60, 68), (50, 64, 60), 1.5),
    Rod((10, 50, 10), (16, 48, 70), 0.9),
)
SOLID_8 = Ball((18.0, 25.0, 66.0), 8.0)
PART = Ball((42.0, 25.0, 24.0), 15.0, GLASS, 7.0)
GROUND_GLASS = Ball((22.0, 62.0, 38.0), 11.0, GLASS)
#: Its middle lies 2 mm under the pleura.
AT_PLEURA = Ball((34.0, 44.0, 69.5), 10.0)
#: Beside the last but one of the vessels.
AT_VESSEL = Ball((26.0, 56.2, 65.5), 9.0)
SCENE = Scene(balls=(SOLID_8, PART, GROUND_GLASS, AT_PLEURA, AT_VESSEL), rods=TREE)


@pytest.fixture(scope="module")
def anatomy() -> ChestAnatomy:
    return SCENE.anatomy()


@pytest.fixture(scope="module")
def found(anatomy: ChestAnatomy) -> tuple[Nodule, ...]:
    return find_nodules(anatomy)


def at(found: Sequence[Nodule], scene: Scene, ball: Ball) -> Nodule:
    near = [n for n in found if np.linalg.norm(np.subtract(n.centre_mm, scene.mm(ball))) < 0.35 * ball.diameter]
    assert len(near) == 1, (ball, [(n.centre_mm, n.longest_mm) for n in found])
    return near[0]


def volume_ml(diameter: float) -> float:
    return np.pi / 6 * diameter**3 / 1000


@pytest.mark.parametrize(
    ("ball", "density"),
    [
        (SOLID_8, NoduleDensity.SOLID),
        (PART, NoduleDensity.PART_SOLID),
        (GROUND_GLASS, NoduleDensity.GROUND_GLASS),
        (AT_VESSEL, NoduleDensity.SOLID),
    ],
)
def test_each_kind_is_found_and_measured(found: tuple[Nodule, ...], ball: Ball, density: NoduleDensity) -> None:
    nodule = at(found, SCENE, ball)
    assert nodule.density is density
    assert nodule.longest_mm == pytest.approx(ball.diameter, abs=max(1.0, 0.1 * ball.diameter))
    assert nodule.perpendicular_mm == pytest.approx(ball.diameter, abs=max(1.0, 0.1 * ball.diameter))
    assert nodule.perpendicular_mm <= nodule.longest_mm
    assert nodule.volume_ml == pytest.approx(volume_ml(ball.diameter), rel=0.15)
    assert nodule.effective_mm == pytest.approx(ball.diameter, rel=0.05)
    assert abs(nodule.slice_index - ball.at[0] / SCENE.spacing[0]) <= 2
    assert not nodule.touches_pleura
    assert not nodule.is_mass


def test_the_solid_core_is_measured(found: tuple[Nodule, ...]) -> None:
    assert at(found, SCENE, PART).core_mm == pytest.approx(PART.core, abs=1.0)
    assert at(found, SCENE, GROUND_GLASS).core_mm == 0
    assert at(found, SCENE, SOLID_8).core_mm == at(found, SCENE, SOLID_8).longest_mm


def test_a_nodule_at_the_pleura_is_its_part_inside_the_lung(found: tuple[Nodule, ...]) -> None:
    nodule = at(found, SCENE, AT_PLEURA)
    radius, deep = AT_PLEURA.diameter / 2, 72.0 - AT_PLEURA.at[2]
    height = radius + deep
    cap = np.pi * height**2 * (3 * radius - height) / 3 / 1000
    assert nodule.touches_pleura
    assert nodule.volume_ml == pytest.approx(cap, rel=0.15)
    assert nodule.longest_mm == pytest.approx(AT_PLEURA.diameter, abs=1.0)


def test_a_vessel_beside_a_nodule_is_noticed_and_not_measured(found: tuple[Nodule, ...]) -> None:
    assert at(found, SCENE, AT_VESSEL).touches_vessel
    assert not at(found, SCENE, SOLID_8).touches_vessel


def test_best_first_and_little_else(found: tuple[Nodule, ...]) -> None:
    scores = [n.score for n in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0.5 <= s <= 1 for s in scores)
    assert len(found) <= len(SCENE.balls) + 1


def test_mask_and_box_lie_on_the_voxels(anatomy: ChestAnatomy, found: tuple[Nodule, ...]) -> None:
    for nodule in found:
        assert nodule.mask.shape == tuple(s.stop - s.start for s in nodule.box)
        assert nodule.mask.any()
        assert not nodule.mask.flags.writeable
        voxels = np.count_nonzero(nodule.mask) * anatomy.volume.voxel_ml
        assert voxels == pytest.approx(nodule.volume_ml, rel=0.25)
        middle = ndimage.center_of_mass(nodule.mask) + np.array([s.start for s in nodule.box])
        assert np.linalg.norm(anatomy.volume.to_mm(middle) - nodule.centre_mm) < 1.5
        assert nodule.lung is Tissue.LEFT_LUNG


def test_vessels_alone_are_hardly_ever_nodules() -> None:
    assert len(find_nodules(Scene(rods=TREE, noise=30.0).anatomy())) <= 1


def test_noise_alone_is_none() -> None:
    assert find_nodules(Scene(noise=45.0).anatomy()) == ()


def test_without_lungs_there_is_nothing() -> None:
    whole = Scene(size=(10.0, 30.0, 30.0)).anatomy()
    empty = ChestAnatomy(volume=whole.volume, labels=np.zeros_like(whole.labels))
    assert find_nodules(empty) == ()


def test_one_slice_is_no_error() -> None:
    flat = Scene(
        size=(2.5, 60.0, 60.0), spacing=(2.5, 0.8, 0.8), balls=(Ball((0.0, 30.0, 30.0), 10.0),), open_ends=True
    )
    assert flat.anatomy().volume.shape[0] == 1
    for nodule in find_nodules(flat.anatomy()):
        assert nodule.slice_index == 0


def test_thick_slices() -> None:
    scene = Scene(spacing=(3.0, 0.7, 0.7), balls=(Ball((30.0, 40.0, 40.0), 10.0), Ball((31.0, 20.0, 60.0), 16.0)))
    found = find_nodules(scene.anatomy())
    for ball in scene.balls:
        nodule = at(found, scene, ball)
        assert nodule.longest_mm == pytest.approx(ball.diameter, abs=max(1.0, 0.1 * ball.diameter))
        assert nodule.volume_ml == pytest.approx(volume_ml(ball.diameter), rel=0.15)


def test_a_nodule_that_the_volume_cuts_off_stays_inside_it() -> None:
    scene = Scene(size=(30.0, 60.0, 60.0), balls=(Ball((1.0, 30.0, 30.0), 14.0),), open_ends=True)
    anatomy = scene.anatomy()
    found = find_nodules(anatomy)
    assert found
    for nodule in found:
        assert all(0 <= s.start < s.stop <= n for s, n in zip(nodule.box, anatomy.labels.shape, strict=True))
        assert nodule.volume_ml < volume_ml(14.0)


def test_a_mass_is_called_one() -> None:
    scene = Scene(size=(70.0, 84.0, 84.0), spacing=(2.0, 1.0, 1.0), balls=(Ball((35.0, 42.0, 42.0), 36.0),))
    (mass,) = find_nodules(scene.anatomy())
    assert mass.is_mass
    assert mass.longest_mm == pytest.approx(36.0, rel=0.05)
    assert mass.volume_ml == pytest.approx(volume_ml(36.0), rel=0.05)


def test_excluded_lung_is_not_looked_at(anatomy: ChestAnatomy, found: tuple[Nodule, ...]) -> None:
    hidden = at(found, SCENE, SOLID_8)
    exclude = np.zeros(anatomy.labels.shape, dtype=np.bool_)
    exclude[hidden.box] = True
    others = find_nodules(anatomy, exclude=exclude)
    assert {n.centre_mm for n in others} == {n.centre_mm for n in found} - {hidden.centre_mm}
    with pytest.raises(ValueError, match="exclude has the shape"):
        find_nodules(anatomy, exclude=exclude[1:])


def test_a_ball_is_round_at_its_own_size_and_a_vessel_is_not() -> None:
    anatomy = Scene(balls=(SOLID_8,), rods=TREE[5:6]).anatomy()
    seeds = find_seeds(anatomy.volume.hu, anatomy.lungs(), anatomy.volume.spacing_mm)
    place = np.asarray(SOLID_8.at)
    near = [s for s in seeds if np.linalg.norm(np.multiply(s.index, anatomy.volume.spacing_mm) - place) < 1.5]
    best = max(near, key=lambda s: s.answer)
    assert best.diameter_mm == 8.0
    assert best.roundness > 0.7
    assert best.fill > 0.95
    rod = TREE[5]
    on_vessel = [
        s
        for s in seeds
        if _from_line([np.float32(i * d) for i, d in zip(s.index, anatomy.volume.spacing_mm, strict=True)], rod) < 1
    ]
    assert all(s.roundness < 0.7 for s in on_vessel if 16 < s.index[1] * anatomy.volume.spacing_mm[1] < 64)


def test_a_part_solid_nodule_on_a_vessel_as_thick_as_its_core_is_found() -> None:
    nodule = Ball((30.0, 40.0, 40.0), 9.0, GLASS, 4.0)
    vessel = Rod((12.0, 20.0, 46.0), (48.0, 66.0, 44.0), 2.0)
    scene = Scene(size=(60.0, 70.0, 80.0), balls=(nodule,), rods=(vessel,))
    found = [n for n in find_nodules(scene.anatomy()) if np.linalg.norm(np.subtract(n.centre_mm, scene.mm(nodule))) < 3]
    assert len(found) == 1
    assert found[0].density is not NoduleDensity.SOLID
    assert found[0].longest_mm == pytest.approx(nodule.diameter, abs=2.0)


def test_a_small_part_solid_nodule_is_measured_with_its_ground_glass() -> None:
    free, beside = Ball((24.0, 24.0, 24.0), 7.5, GLASS, 3.7), Ball((40.0, 50.0, 50.0), 7.5, GLASS, 3.7)
    vessel = Rod((16.0, 34.0, 55.0), (52.0, 66.0, 53.0), 1.5)
    scene = Scene(balls=(free, beside), rods=(vessel,))
    found = find_nodules(scene.anatomy())
    for ball in scene.balls:
        nodule = at(found, scene, ball)
        assert nodule.density is not NoduleDensity.SOLID
        assert nodule.longest_mm == pytest.approx(ball.diameter, abs=1.0)
        assert nodule.volume_ml == pytest.approx(volume_ml(ball.diameter), rel=0.25)


def test_a_small_solid_nodule_has_no_ground_glass_around_it() -> None:
    """Its blur is a rim of the same Hounsfield units."""
    balls = tuple(Ball((20.0 + 10 * i, 22.0 + 16 * i, 24.0 + 14 * i), 5.5 + i) for i in range(3))
    scene = Scene(spacing=(2.5, 0.7, 0.7), balls=balls)
    found = find_nodules(scene.anatomy())
    for ball in balls:
        nodule = at(found, scene, ball)
        assert nodule.density is NoduleDensity.SOLID
        assert nodule.longest_mm == pytest.approx(ball.diameter, abs=1.0)


def test_nothing_shorter_than_fleischner_measures_is_reported() -> None:
    small, large = Ball((20.0, 25.0, 25.0), 3.6), Ball((40.0, 50.0, 50.0), 6.0)
    scene = Scene(balls=(small, large), noise=8.0)
    anatomy = scene.anatomy()
    (only,) = find_nodules(anatomy)
    assert np.linalg.norm(np.subtract(only.centre_mm, scene.mm(large))) < 1.5
    assert only.longest_mm >= LEAST_MM == 4.0
    assert any(
        np.linalg.norm(np.subtract(anatomy.volume.to_mm(body.centre), scene.mm(small))) < 1.5
        for body in bodies(anatomy, Tissue.LEFT_LUNG)
    )


def test_the_shortest_depends_on_pixels_and_slices() -> None:
    assert least_mm((2.5, 0.78, 0.78)) == least_mm((1.0, 0.5, 0.5)) == LEAST_MM
    assert least_mm((3.0, 1.5, 1.2)) == 7.5
    assert least_mm((5.0, 0.7, 0.7)) == 8.0


def test_both_lungs_at_once_give_what_each_gives_alone(anatomy: ChestAnatomy) -> None:
    right = anatomy.labels.copy()
    half = right[:, :, :60]
    half[half == Tissue.LEFT_LUNG] = Tissue.RIGHT_LUNG
    both = find_nodules(ChestAnatomy(volume=anatomy.volume, labels=right))
    assert {n.lung for n in both} == {Tissue.RIGHT_LUNG, Tissue.LEFT_LUNG}
    alone: set[tuple[float, float, float]] = set()
    for lung in (Tissue.RIGHT_LUNG, Tissue.LEFT_LUNG):
        labels = np.where(right == lung, right, np.uint8(Tissue.BODY))
        alone |= {n.centre_mm for n in find_nodules(ChestAnatomy(volume=anatomy.volume, labels=labels))}
    assert {n.centre_mm for n in both} == alone


def test_distances_near_a_mask_are_those_of_the_whole() -> None:
    mask = np.random.default_rng(3).random((14, 16, 18)) > 0.995
    mask[6:9, 7:10, 8:12] = True
    whole = ndimage.distance_transform_edt(~mask)
    near = distance_to(mask, 3.2)
    assert np.allclose(near[whole <= 3.2], whole[whole <= 3.2])
    assert np.isinf(near[whole > 3.2]).all()
    assert np.allclose(depth_of(~mask), ndimage.distance_transform_edt(np.pad(~mask, 1))[1:-1, 1:-1, 1:-1])
    assert np.isinf(distance_to(np.zeros_like(mask), 2.0)).all()
