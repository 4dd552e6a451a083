"""CT phantoms: what the truth says is what the voxels show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy import ndimage

from overread.dicom import phantoms
from overread.dicom.phantoms import write_ct_series, write_demo_phantoms
from overread.dicom.series import volumes_of
from overread.domain.catalogue import CHEST_CT
from overread.domain.tissue import Tissue
from overread.domain.volume import Volume, WarningCode
from overread.phantom.anatomy import Side
from overread.phantom.ct import CtGeometry
from overread.phantom.ct_case import CtCase, CtScan, ct_case
from overread.phantom.ct_noise import Kernel, noise, noise_hu
from overread.phantom.ct_trees import Pieces
from overread.phantom.grid import Grid, axis_points
from overread.phantom.nodules import Contact, Density, Nodule, Shape, draw_nodules, measure_body
from overread.phantom.organs import Organs


@pytest.fixture(scope="module")
def ill() -> CtCase:
    """4 mm slices of 3 mm pixels: quick, and fine enough for volumes of organs."""
    return ct_case(
        7,
        effusion_ml={Side.LEFT: 400.0},
        pneumothorax_ml={Side.RIGHT: 300.0},
        consolidation_ml={Side.LEFT: 150.0},
        dose=25.0,
        size=128,
        slice_mm=4.0,
    )


@pytest.fixture(scope="module")
def seen(ill: CtCase) -> CtScan:
    return ill.scan()


def test_volumes_of_the_truth_are_those_of_the_labels(ill: CtCase, seen: CtScan) -> None:
    truth, labels, lesions = ill.truth(), seen.labels, seen.lesion_labels
    ml = seen.volume.voxel_ml
    assert labels.shape == lesions.shape == seen.volume.shape
    for side, tissue in ((Side.RIGHT, Tissue.RIGHT_LUNG), (Side.LEFT, Tissue.LEFT_LUNG)):
        assert (labels == tissue).sum() * ml == pytest.approx(truth.lung_ml[side], rel=0.01)
    for key, tissue, asked in (
        ("pneumothorax", Tissue.PLEURAL_AIR, 300),
        ("pleural_effusion", Tissue.PLEURAL_FLUID, 400),
    ):
        assert (labels == tissue).sum() * ml == pytest.approx(truth.ml(key), rel=0.02)
        assert truth.ml(key) == pytest.approx(asked, rel=0.03)
    for number, finding in enumerate(truth.findings, start=1):
        assert (lesions == number).sum() * ml == pytest.approx(finding.volume_ml, rel=0.03), finding
    assert truth.ml("consolidation") == pytest.approx(150, rel=0.03)
    assert {f.key for f in truth.findings} <= {entry.key for entry in CHEST_CT}


def test_tissues_have_their_hounsfield_units(ill: CtCase, seen: CtScan) -> None:
    labels, lesions, hu = seen.labels, seen.lesion_labels, seen.volume.hu

    def inside(mask: np.ndarray) -> np.ndarray:
        return hu[ndimage.binary_erosion(mask, iterations=1)]

    assert np.median(inside(labels == Tissue.PLEURAL_AIR)) == pytest.approx(-1000, abs=15)
    assert np.median(inside(labels == Tissue.PLEURAL_FLUID)) == pytest.approx(12, abs=8)
    assert np.median(inside(labels == Tissue.AIRWAYS)) < -900
    assert -900 < np.median(inside((labels == Tissue.RIGHT_LUNG) & (lesions == 0))) < -720
    numbers = [n for n, f in enumerate(ill.truth().findings, start=1) if f.key == "consolidation"]
    assert -60 < np.median(inside(np.isin(lesions, numbers))) < 50


def test_air_lies_in_front_and_fluid_at_the_back(ill: CtCase, seen: CtScan) -> None:
    (air,), (fluid,) = ill.truth().of("pneumothorax"), ill.truth().of("pleural_effusion")
    assert air.centre_mm[1] < -10 < 50 < fluid.centre_mm[1]
    assert air.centre_mm[0] < 0 < fluid.centre_mm[0]
    labels = seen.labels
    rows = np.arange(labels.shape[1])[None, :, None]
    lung = labels == Tissue.LEFT_LUNG
    assert (rows * (labels == Tissue.PLEURAL_FLUID)).max() > (rows * lung).max()


def test_the_back_of_the_lung_is_denser(seen: CtScan) -> None:
    lung = ndimage.binary_erosion(seen.labels == Tissue.RIGHT_LUNG, iterations=2)
    rows = np.nonzero(lung)[1]
    front, back = np.percentile(rows, [25, 75])
    hu = seen.volume.hu[lung]
    assert 5 < np.median(hu[rows > back]) - np.median(hu[rows < front]) < 60


def test_emphysema_has_its_percentage(seen: CtScan) -> None:
    case = ct_case(5, emphysema_percent=12.0, dose=400.0, size=80, slice_mm=7.0)
    scan = case.scan()
    lung = np.isin(scan.labels, (Tissue.RIGHT_LUNG, Tissue.LEFT_LUNG))
    percent = 100 * float((scan.volume.hu[lung] < -950).mean())
    assert percent == pytest.approx(case.truth().emphysema_percent, abs=0.8)
    assert case.truth().emphysema_percent == pytest.approx(12.0, abs=0.3)
    (finding,) = case.truth().of("emphysema")
    assert finding.volume_ml == pytest.approx(0.12 * sum(case.truth().lung_ml.values()), rel=0.03)
    healthy = np.isin(seen.labels, (Tissue.RIGHT_LUNG, Tissue.LEFT_LUNG))
    assert (seen.volume.hu[healthy] < -955).mean() < 0.003


# ---- nodules -----------------------------------------------------------------------------------------------------


def test_a_sphere_has_its_size() -> None:
    shape = Shape(nodule=Nodule(diameter_mm=10.0), centre=(3.0, -4.0, 5.0))
    size = measure_body(shape.level, shape.box, 0.2)
    assert size.volume_ml == pytest.approx(np.pi / 6, rel=0.01)
    assert size.diameter_mm == pytest.approx(10.0, abs=0.15)
    assert size.perpendicular_mm == pytest.approx(10.0, abs=0.15)
    np.testing.assert_allclose(size.centre_mm, (3, -4, 5), atol=0.02)


def test_an_irregular_nodule_has_the_diameter_that_was_asked_for() -> None:
    for seed in range(4):
        nodule = Nodule(diameter_mm=14.0, flatness=(0.8, 0.7), lobulation=0.2, shape_seed=seed)
        shape = Shape(nodule=nodule, centre=(0.0, 0.0, 0.0))
        size = measure_body(shape.level, shape.box, 0.25)
        assert size.diameter_mm == pytest.approx(14.0, abs=0.3)
        assert size.perpendicular_mm < size.diameter_mm


@pytest.fixture(scope="module")
def spotted() -> CtCase:
    kinds = [Nodule(diameter_mm=8.0, contact=contact) for contact in Contact]
    kinds += [
        Nodule(diameter_mm=12.0, density=density, flatness=(0.9, 0.8), shape_seed=3)
        for density in (Density.PART_SOLID, Density.GROUND_GLASS)
    ]
    return ct_case(4, nodules=[*kinds, Nodule(diameter_mm=20.0)], size=64, slice_mm=6.0)


def _around(point: tuple[float, float, float], half: float) -> Grid:
    """0.6 mm pixels and 1 mm slices around a point."""
    x, y, z = point
    depths = axis_points(z - half, z + half, 1.0)
    rows, cols = axis_points(y - half, y + half, 0.6), axis_points(x - half, x + half, 0.6)
    return Grid(normal=2, row_axis=1, col_axis=0, depths=depths, rows=rows, cols=cols, shrink=np.ones_like(depths))


def test_rendered_nodules_measure_what_their_truth_says(spotted: CtCase) -> None:
    scene = spotted.scene
    without = replace(scene, nodules=())
    for number, truth in enumerate(spotted.truth().nodules, start=1):
        assert truth.diameter_mm is not None
        grid = _around(truth.centre_mm, 0.5 * truth.diameter_mm + 6.0)
        slab = scene.slab(grid)
        lesion = slab.lesions == number
        assert lesion.sum() * 0.36e-3 == pytest.approx(truth.volume_ml, rel=0.04), truth
        x, y, z = grid.points()
        middle = sum((p - c) ** 2 for p, c in zip((x, y, z), truth.centre_mm, strict=True)) < 2.0**2
        expected = -600 if truth.density is Density.GROUND_GLASS else 30
        assert np.median(slab.hu[middle]) == pytest.approx(expected, abs=20), truth
        if truth.density is Density.SOLID and truth.contact is Contact.NONE:
            # full width at half maximum in the largest slice
            added = slab.hu - without.slab(grid).hu
            plane = added[int(lesion.sum(axis=(1, 2)).argmax())] > 0.5 * np.percentile(added[lesion], 80)
            points = np.argwhere(ndimage.binary_opening(plane)) * 0.6
            longest = np.linalg.norm(points[:, None] - points[None, :], axis=-1).max() + 0.6
            assert longest == pytest.approx(truth.diameter_mm, abs=0.9)


def test_nodules_lie_where_they_belong(spotted: CtCase) -> None:
    found = spotted.truth().nodules
    assert len(found) == 6
    organs, trees = Organs(anatomy=spotted.scene.anatomy), spotted.scene.trees
    for nodule in found:
        point = np.array([nodule.centre_mm])
        assert nodule.side is not None
        x, y, z = point.astype(np.float32).T
        depth = -float(organs.lung(nodule.side, x, y, z)[0])
        radius = 0.5 * (nodule.diameter_mm or 0)
        if nodule.contact is Contact.PLEURA:
            assert 0 < depth < radius
        else:
            assert depth > 0.95 * radius
        if nodule.contact is Contact.VESSEL:
            assert Pieces.of(trees.blood).thicker(0.9).clearance(point)[0] < radius
        assert Pieces.of(trees.walled).clearance(point)[0] > 0.95 * radius
    for i, one in enumerate(found):
        for two in found[:i]:
            gap = np.linalg.norm(np.subtract(one.centre_mm, two.centre_mm))
            assert gap > 0.5 * ((one.diameter_mm or 0) + (two.diameter_mm or 0))


def test_random_nodules_are_realistic() -> None:
    drawn = [n for seed in range(60) for n in draw_nodules(np.random.default_rng(seed))]
    diameters = np.array([n.diameter_mm for n in drawn])
    assert diameters.min() >= 4
    assert diameters.max() <= 30
    assert np.median(diameters) < 9
    assert {n.density for n in drawn} == set(Density)
    assert {n.contact for n in drawn} == set(Contact)


def test_what_cannot_be_is_refused() -> None:
    for wrong in (
        lambda: ct_case(1, effusion_ml=9000.0),
        lambda: ct_case(1, dose=0.0),
        lambda: ct_case(1, consolidation_ml=-1.0),
        lambda: Nodule(diameter_mm=1.0),
        lambda: ct_case(1, nodules=[Nodule(diameter_mm=8.0, centre_mm=(0.0, 0.0, 0.0))]),
    ):
        with pytest.raises(ValueError):
            wrong()


# ---- scanner -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", list(Kernel))
def test_noise_falls_with_the_root_of_the_dose(kernel: Kernel) -> None:
    def middle(dose: float) -> float:
        grain = noise((256, 256), 0.75, kernel, dose, np.random.default_rng(1))
        return float(grain[96:160, 96:160].std())

    assert middle(1.0) == pytest.approx(noise_hu(kernel, 1.0), rel=0.12)
    assert middle(1.0) / middle(4.0) == pytest.approx(2.0, rel=0.01)


def test_a_soft_kernel_has_coarser_and_weaker_noise() -> None:
    def neighbours(kernel: Kernel) -> float:
        grain = noise((256, 256), 0.75, kernel, 1.0, np.random.default_rng(1))
        return float(np.corrcoef(grain[:, 1:].ravel(), grain[:, :-1].ravel())[0, 1])

    assert neighbours(Kernel.SOFT) > neighbours(Kernel.SHARP) + 0.2
    assert noise_hu(Kernel.SOFT, 1.0) < noise_hu(Kernel.SHARP, 1.0)


def test_the_same_seed_gives_the_same_scan_and_another_one_another() -> None:
    geometry = CtGeometry(size=64, slices=5, slice_mm=12.0, bottom_mm=30.0)
    one, two, other = (ct_case(seed, nodules=2, geometry=geometry) for seed in (3, 3, 4))
    first, second, third = one.volume(), two.volume(), other.volume()
    np.testing.assert_array_equal(first.hu, second.hu)
    assert first.sop_instance_uids == second.sop_instance_uids
    assert one.truth() == two.truth() != other.truth()
    assert first.series_instance_uid != third.series_instance_uid
    assert len(set(first.sop_instance_uids)) == first.shape[0]
    rows, columns, slices = first.affine[1, 1], first.affine[0, 2], first.affine[2, 0]
    assert rows > 0
    assert columns > 0
    assert slices == pytest.approx(12.0)


def test_motion_doubles_contours_in_a_part_of_the_scan() -> None:
    geometry = CtGeometry(size=64, slices=9, slice_mm=14.0, bottom_mm=-60.0)
    moving = ct_case(3, motion_mm=8.0, geometry=geometry)
    still = replace(moving, motion=None)
    assert moving.motion is not None
    difference = np.abs(moving.clean_volume().hu.astype(int) - still.clean_volume().hu).mean(axis=(1, 2))
    z = geometry.bottom_mm + 14.0 * (np.arange(len(difference)) + 0.5)
    band = (z > moving.motion.low_mm + 5) & (z < moving.motion.high_mm - 5)
    outside = (z < moving.motion.low_mm) | (z > moving.motion.high_mm)
    assert band.sum() >= 4
    assert difference[band].min() > 5
    assert difference[outside].max() == 0


# ---- DICOM -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> CtCase:
    return ct_case(9, nodules=1, geometry=CtGeometry(size=64, slices=16, slice_mm=6.0, bottom_mm=20.0))


def _volumes(paths: list[Path]) -> tuple[Volume, ...]:
    return volumes_of([(p.name, p.read_bytes) for p in paths]).volumes


def test_a_series_comes_back_as_it_was_written(small: CtCase, tmp_path: Path) -> None:
    paths = write_ct_series(small, tmp_path, shuffle_seed=3, localizer=True)
    assert len(paths) == 17
    (volume,) = _volumes(paths)
    expected = small.volume()
    np.testing.assert_array_equal(volume.hu, expected.hu)
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-3)
    assert volume.sop_instance_uids == expected.sop_instance_uids
    assert volume.series_instance_uid == expected.series_instance_uid


def test_bad_series_are_bad(small: CtCase, tmp_path: Path) -> None:
    volume = _volumes(write_ct_series(small, tmp_path / "gap", missing=(7,)))[0]
    assert volume.has(WarningCode.MISSING_SLICES)
    paths = write_ct_series(small, tmp_path / "bare", strip=("RescaleIntercept", "BodyPartExamined"))
    found = volumes_of([(p.name, p.read_bytes) for p in paths])
    assert not found.volumes
    assert {problem.code for problem in found.problems} == {"MISSING_RESCALE"}


def test_the_demos_scan_is_rendered_once(small: CtCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = []

    def scan() -> CtCase:
        rendered.append(small)
        return small

    monkeypatch.setattr(phantoms, "demo_studies", tuple)
    monkeypatch.setattr(phantoms, "_demo_ct", scan)
    (tmp_path / "ct-1.part").mkdir()
    (tmp_path / "ct-1.part" / "left-over.dcm").write_bytes(b"of a run that was killed")
    heard: list[tuple[int, int]] = []
    first = write_demo_phantoms(tmp_path, lambda done, total: heard.append((done, total)))
    assert first == write_demo_phantoms(tmp_path)
    assert len(first) == 16
    assert len(rendered) == 1
    assert heard == [(1, 1)]
    assert len(_volumes(first)) == 1
    said = pydicom.dcmread(first[0])
    assert said.QualityControlImage == "YES"
    assert str(said.PatientName).startswith("PHANTOM^")
    assert "not a patient" in said.ImageComments
