"""Radiographs of the phantom: projection, boxes, exposure, presentation, the demo's cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from overread.phantom.anatomy import Side
from overread.phantom.findings import Consolidation, Finding, PleuralEffusion, Pneumothorax
from overread.phantom.presentation import Exposure, expose, present
from overread.phantom.radiograph import Geometry, Projection, View, project
from overread.phantom.study import demo_studies
from overread.phantom.thorax import make_thorax

SMALL = Geometry(size=160, field_mm=410.0, detail_mm=2.6, plane_mm=6.0)
QUIET = Exposure(bits=12, marker="")


@pytest.fixture(scope="module")
def plain() -> Projection:
    return project(make_thorax(np.random.default_rng(21)), SMALL)


@pytest.mark.parametrize(
    ("finding", "sign"),
    [
        (Pneumothorax(side=Side.RIGHT, volume_ml=700.0), -1),
        (PleuralEffusion(side=Side.LEFT, volume_ml=500.0), 1),
        (Consolidation(side=Side.RIGHT, volume_ml=150.0), 1),
    ],
    ids=["pneumothorax", "effusion", "consolidation"],
)
def test_the_box_holds_what_the_finding_changes(plain: Projection, finding: Finding, sign: int) -> None:
    seen = project(make_thorax(np.random.default_rng(21), finding), SMALL)
    (truth,) = seen.truths
    assert truth.box is not None
    change = sign * (seen.attenuation - plain.attenuation)
    rows, cols = np.nonzero(change > 0.25 * change.max())
    margin = 3  # pixels of 2.6 mm: the border of a finding fades, a vessel may end outside it
    assert truth.box.x - margin <= cols.min()
    assert cols.max() < truth.box.x + truth.box.width + margin
    assert truth.box.y - margin <= rows.min()
    assert rows.max() < truth.box.y + truth.box.height + margin
    # the patient's right is at the left of the image
    assert (truth.box.x + truth.box.width / 2 < SMALL.size / 2) == (finding.side is Side.RIGHT)


def test_lungs_are_dark_and_the_middle_dense(plain: Projection) -> None:
    image = plain.attenuation
    assert image.min() >= 0
    assert 2.5 < image[80, 80] < 7.5  # spine and heart
    assert image[70, 40] < 0.6 * image[80, 80]  # right lung
    assert image[70, 120] < 0.6 * image[80, 80]  # left lung
    assert image[145, 40] > 1.4 * image[70, 40]  # liver


def test_a_large_heart_has_its_ratio_on_frontal_views_only() -> None:
    ratios = {}
    for view in View:
        (truth,) = project(make_thorax(np.random.default_rng(4), heart=1.22), replace(SMALL, view=view)).truths
        ratios[view] = truth.cardiothoracic_ratio
    assert ratios[View.LATERAL] is None
    assert ratios[View.PA] is not None
    assert ratios[View.AP] is not None
    assert 0.52 < ratios[View.PA] < ratios[View.AP] < 0.75


def test_parallel_rays_show_the_thorax_smaller_than_a_point_source() -> None:
    thorax = make_thorax(np.random.default_rng(4), heart=1.22)
    boxes = [project(thorax, replace(SMALL, detail_mm=4.0, distance_mm=d)).truths[0].box for d in (0.0, 1800.0, 1000.0)]
    widths = [b.width for b in boxes if b is not None]
    assert widths == sorted(widths)
    assert widths[0] < widths[2]


def test_a_finding_outside_the_image_has_no_box() -> None:
    finding = Consolidation(side=Side.RIGHT, volume_ml=100.0)
    elsewhere = replace(SMALL, field_mm=80.0, centre_mm=(400.0, 0.0), size=40)
    (truth,) = project(make_thorax(np.random.default_rng(3), finding), elsewhere).truths
    assert truth.box is None


def test_signal_falls_with_attenuation() -> None:
    steps = np.repeat(np.linspace(0.0, 6.0, 64, dtype=np.float32)[None, :], 64, axis=0)
    clean = Exposure(scatter=0.0, blur_mm=0.0, photons_per_mm2=1e9)
    signal = expose(steps, 1.0, clean, np.random.default_rng(0))
    np.testing.assert_allclose(signal, np.exp(-steps), rtol=0.02)
    assert (np.diff(signal.mean(axis=0)) < 0).all()
    # scatter adds light, most of all in relation where little comes through
    veiled = expose(steps, 1.0, replace(clean, scatter=0.2), np.random.default_rng(0))
    assert (veiled > signal).all()


@pytest.mark.parametrize("photons", [1e4, 1e5, 1e6])
def test_noise_follows_the_exposure(photons: float) -> None:
    flat = np.full((200, 200), 2.0, dtype=np.float32)
    exposure = Exposure(scatter=0.0, blur_mm=0.0, photons_per_mm2=photons)
    signal = expose(flat, 0.5, exposure, np.random.default_rng(1))
    expected = 1 / np.sqrt(photons * 0.25 * np.exp(-2.0))
    assert float(signal.std() / signal.mean()) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("bits", [8, 12, 14, 16])
def test_presentation_uses_the_bits_and_its_inverse_is_exact(plain: Projection, bits: int) -> None:
    signal = expose(plain.attenuation, SMALL.pixel_mm, QUIET, np.random.default_rng(2))
    upright = present(signal, SMALL.pixel_mm, replace(QUIET, bits=bits))
    inverted = present(signal, SMALL.pixel_mm, replace(QUIET, bits=bits, inverted=True))
    top = 2**bits - 1
    assert upright.dtype == np.uint16
    assert upright.max() <= top
    assert upright.max() > 0.8 * top
    assert np.array_equal(upright + inverted.astype(int), np.full(upright.shape, top))


def test_the_marker_stands_on_the_side_that_it_names(plain: Projection) -> None:
    signal = expose(plain.attenuation, SMALL.pixel_mm, QUIET, np.random.default_rng(2))
    blank = present(signal, SMALL.pixel_mm, QUIET).astype(int)
    for letter in ("R", "L"):
        marked = present(signal, SMALL.pixel_mm, replace(QUIET, marker=letter)).astype(int)
        rows, cols = np.nonzero(marked != blank)
        assert rows.max() < 20
        assert (cols.max() < 25) if letter == "R" else (cols.min() > 135)
    with pytest.raises(KeyError):
        present(signal, SMALL.pixel_mm, replace(QUIET, marker="Q"))


def test_the_collimated_border_is_black(plain: Projection) -> None:
    exposure = replace(QUIET, border_mm=(10.0, 20.0, 30.0, 0.0))
    signal = expose(plain.attenuation, SMALL.pixel_mm, exposure, np.random.default_rng(2))
    image = present(signal, SMALL.pixel_mm, exposure)
    assert image[:3].max() < 40
    assert image[-7:].max() < 40
    assert image[:, :11].max() < 40
    assert image[40:100, -1].max() > 40


@pytest.mark.parametrize("changes", [{"bits": 7}, {"bits": 17}, {"photons_per_mm2": 0.0}])
def test_an_impossible_exposure_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"bits|photons"):
        Exposure(**changes)  # type: ignore[arg-type]


def test_an_empty_field_is_still_an_image() -> None:
    signal = expose(np.zeros((32, 32), dtype=np.float32), 1.0, QUIET, np.random.default_rng(0))
    assert present(signal, 1.0, QUIET).shape == (32, 32)


def test_demo_has_its_cases_and_each_renders_its_truth() -> None:
    cases = demo_studies(seed=7, size=96)
    assert len({c.key for c in cases}) == len({c.patient.patient_id for c in cases}) == len(cases) == 9
    assert all(c.patient.name.startswith("PHANTOM^") for c in cases)
    assert [c.view for c in cases].count(View.LATERAL) == 1
    wanted = {"no-finding": (), "pneumothorax": ("pneumothorax",), "effusion": ("pleural_effusion",),
              "opacity": ("consolidation",), "cardiomegaly": ("cardiomegaly",), "lateral": ()}  # fmt: skip
    for case in cases:
        if case.key[-1] != "1":  # one of each kind
            continue
        coarse = replace(case, geometry=replace(case.geometry, detail_mm=4.0, plane_mm=8.0))
        image = coarse.render()
        assert image.pixels.shape == (96, 96)
        assert tuple(t.key for t in image.truths) == wanted[case.key.rsplit("-", 1)[0]]
        assert all(t.box is not None for t in image.truths)
    assert demo_studies(seed=7, size=96) == cases
    assert demo_studies(seed=8, size=96) != cases


def test_a_case_renders_the_same_pixels_twice() -> None:
    case = demo_studies(seed=2, size=64)[3]
    coarse = replace(case, geometry=replace(case.geometry, detail_mm=6.0, plane_mm=10.0))
    assert np.array_equal(coarse.render().pixels, coarse.render().pixels)
