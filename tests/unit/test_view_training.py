"""How the view model's images are made and judged: projections, changes, thresholds, intervals."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from training.radiograph_view import degrade, drr, evaluate, synthetic  # noqa: E402
from training.radiograph_view.classes import CLASSES, FRONTAL, LATERAL, NOT, OTHER  # noqa: E402

from overread.pipeline import recognise  # noqa: E402

FILM = np.tile(np.arange(120, dtype=np.uint8), (100, 1))


def test_classes_are_those_that_the_pipeline_asks_for() -> None:
    assert CLASSES == (
        recognise.CHEST_FRONTAL,
        recognise.CHEST_LATERAL,
        recognise.OTHER_RADIOGRAPH,
        recognise.NOT_RADIOGRAPH,
    )


def block() -> drr.Volume:
    """A body 40 voxels wide, 20 deep, with a dense spot at the patient's left front, low."""
    hu = np.full((48, 64, 64), -1000.0, dtype=np.float32)
    hu[:, 22:42, 12:52] = 0.0
    hu[30:40, 23:31, 42:50] = 900.0
    return drr.Volume(hu=hu)


def body_width(image: np.ndarray) -> float:
    """Part of the columns that the body covers."""
    level = image.mean(axis=0)
    return float((level > level.min() + 0.3 * np.ptp(level)).mean())


def test_lateral_projection_is_narrower_than_frontal() -> None:
    """Depth is half of the width; air at the sides may be cut off, so look at uncut ones of several draws."""
    frontal, lateral = [], []
    for seed in range(6):
        frontal.append(drr.project(block(), 0.0, np.random.default_rng(seed)).shape[1])
        lateral.append(drr.project(block(), 90.0, np.random.default_rng(seed)).shape[1])
    assert min(lateral) < min(frontal)


@pytest.mark.parametrize("angle", [0.0, 45.0, 90.0, 270.0])
def test_projection_is_an_image(angle: float) -> None:
    image = drr.project(block(), angle, np.random.default_rng(3))
    assert image.dtype == np.float32
    assert 0.0 <= image.min() < image.max() <= 1.0


def test_frontal_projection_shows_the_left_on_the_right() -> None:
    image = drr.project(block(), 0.0, np.random.default_rng(0))
    columns = image.shape[1]
    assert image[:, columns // 2 :].mean() > image[:, : columns // 2].mean()


@pytest.mark.parametrize("kind", ["frontal", "lateral", "oblique"])
def test_angles_keep_their_kind(kind: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        from_axis = abs((drr.draw_angle(kind, rng) + 45.0) % 90.0 - 45.0)
        side = round(drr.draw_angle(kind, rng) / 90.0) % 2
        if kind == "oblique":
            assert from_axis >= 35.0
        else:
            assert from_axis <= 12.0
            assert side == (1 if kind == "lateral" else 0)


def test_changed_chest_is_another_class() -> None:
    rng = np.random.default_rng(2)
    labels = {degrade.turn(FILM, FRONTAL, rng)[1] for _ in range(60)}
    assert labels == {FRONTAL, OTHER}
    assert {degrade.turn(FILM, LATERAL, rng)[1] for _ in range(60)} == {LATERAL, OTHER}
    assert {degrade.turn(FILM, NOT, rng)[1] for _ in range(60)} == {NOT}


def test_each_change_does_what_it_says() -> None:
    rng = np.random.default_rng(0)
    assert degrade.make_other(FILM, "turned_90", rng).shape == (120, 100)
    assert np.array_equal(degrade.make_other(FILM, "turned_180", rng), FILM[::-1, ::-1])
    assert np.array_equal(degrade.make_other(FILM, "inverted", rng), 255 - FILM)
    detail = degrade.make_other(FILM, "detail", rng)
    assert detail.shape[0] <= 50 and detail.shape[1] <= 60
    assert degrade.make_other(FILM, "two_films", rng).shape[1] >= 240
    with pytest.raises(ValueError, match="melted"):
        degrade.make_other(FILM, "melted", rng)


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(20, 300), columns=st.integers(20, 300))
def test_any_image_can_be_varied(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    varied = degrade.vary(rng.integers(0, 256, (rows, columns), dtype=np.uint8), rng)
    assert varied.dtype == np.uint8
    assert varied.ndim == 2 and min(varied.shape) >= 8


@pytest.mark.parametrize("name", sorted(synthetic.GENERATORS))
def test_drawn_images_follow_their_seed(name: str) -> None:
    draw = synthetic.GENERATORS[name]
    first, again = (draw(np.random.default_rng(9)) for _ in range(2))
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)


@given(value=st.floats(0, 1), n=st.integers(1, 5000))
def test_wilson_holds_its_value(value: float, n: int) -> None:
    low, high = evaluate.wilson(value, n)
    assert 0.0 <= low <= value <= high <= 1.0


def test_wilson_of_the_textbook() -> None:
    """Newcombe 1998, table I: 81 of 263."""
    assert evaluate.wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_rate_counts_patients_not_images() -> None:
    few = evaluate.rate(np.ones(100, dtype=bool), ["a", "b"] * 50)
    assert (few.images, few.groups) == (100, 2)
    assert few.low < 0.4


def test_threshold_lets_the_asked_share_pass() -> None:
    rng = np.random.default_rng(0)
    p = np.clip(rng.normal(0.85, 0.05, 4000), 0, 1)
    assert (p >= evaluate.choose_threshold(p)).mean() >= evaluate.MUST_PASS
    assert evaluate.choose_threshold(np.ones(50)) == evaluate.THRESHOLD_RANGE[1]
    assert evaluate.choose_threshold(np.full(50, 0.1)) == evaluate.THRESHOLD_RANGE[0]


def test_auc() -> None:
    score = np.array([0.1, 0.4, 0.35, 0.8])
    positive = np.array([False, False, True, True])
    assert evaluate.auc(score, positive) == pytest.approx(0.75)
    value, low, high = evaluate.auc_interval(score, positive, list("abcd"))
    assert low <= value <= high
