"""Single images: quiet on good ones, and never better when they get worse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from tests.unit.quality_images import KINDS, chest, quality

from overread.domain.analysis import QualityLevel
from overread.domain.image import FloatImage
from overread.pipeline.quality import IssueType, measures
from overread.pipeline.quality.edges import edge_blur

Spoil = Callable[[FloatImage, float], FloatImage]


def blurred(image: FloatImage, sigma: float) -> FloatImage:
    return ndimage.gaussian_filter(image, sigma) if sigma else image


def moved(image: FloatImage, length: float) -> FloatImage:
    return ndimage.uniform_filter1d(image, 1 + 2 * round(length), axis=1, mode="nearest")


def noisy(image: FloatImage, sigma: float) -> FloatImage:
    return np.clip(image + sigma * np.random.default_rng(5).normal(0, 1, image.shape), 0, 1).astype(np.float32)


def darker(image: FloatImage, amount: float) -> FloatImage:
    return image ** (1 + amount)


def brighter(image: FloatImage, amount: float) -> FloatImage:
    return np.clip(image * (1 + amount), 0, 1)


def flatter(image: FloatImage, lost: float) -> FloatImage:
    return (0.5 + (image - 0.5) * (1 - lost)).astype(np.float32)


def unfinished(image: FloatImage, lost: float) -> FloatImage:
    out = image.copy()
    out[len(out) - round(lost * len(out)) :] = 0
    return out


def without_top(image: FloatImage, lost: float) -> FloatImage:
    return image[round(lost * len(image)) :]


def without_bottom(image: FloatImage, lost: float) -> FloatImage:
    return image[: len(image) - round(lost * len(image))]


def tilted(image: FloatImage, degrees: float) -> FloatImage:
    return ndimage.rotate(image, degrees, reshape=False, order=1, mode="nearest")


#: Name: (how, the most of it, what it is at the most).
WAYS: dict[str, tuple[Spoil, float, set[IssueType]]] = {
    "blur": (blurred, 5.0, {IssueType.MOTION}),
    "motion": (moved, 9.0, {IssueType.MOTION}),
    "noise": (noisy, 0.25, {IssueType.NOISE}),
    "dark": (darker, 14.0, {IssueType.EXPOSURE, IssueType.CONTRAST}),
    "bright": (brighter, 9.0, {IssueType.EXPOSURE, IssueType.CLIPPING}),
    "flat": (flatter, 0.97, {IssueType.CONTRAST}),
    "rows missing": (unfinished, 0.4, {IssueType.TRUNCATED}),
}
CHEST_WAYS: dict[str, tuple[Spoil, float, set[IssueType]]] = {
    "apices cut": (without_top, 0.35, {IssueType.CUT_OFF}),
    "bases cut": (without_bottom, 0.45, {IssueType.CUT_OFF}),
    "tilt": (tilted, 25.0, {IssueType.POSITIONING}),
}
EVERY = [(kind, way) for kind in KINDS for way in WAYS] + [("chest", way) for way in CHEST_WAYS]
#: A score may waver by this much between two amounts of nearly the same.
WAVER = 0.05
#: Brightness of a windowed CT says nothing, and its bone is white already.
CASES = [case for case in EVERY if case not in {("ct", "dark")}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_a_good_image_has_no_issue(kind: str, seed: int) -> None:
    found = quality(KINDS[kind][0](seed), kind)
    assert [check.description for check in found.issues] == []
    assert found.level is QualityLevel.ADEQUATE
    assert found.score > 0.9
    assert not found.flagged_for_repeat


@pytest.mark.parametrize(("kind", "way"), CASES)
@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 30), more=st.floats(0, 1), less=st.floats(0, 1))
def test_more_of_it_is_never_better(kind: str, way: str, seed: int, more: float, less: float) -> None:
    spoil, most, _ = (WAYS | CHEST_WAYS)[way]
    low, high = sorted((less, more))
    image = KINDS[kind][0](seed)
    better, worse = (quality(spoil(image, amount * most), kind) for amount in (low, high))
    assert worse.score <= better.score + WAVER, (worse.issues, better.issues)
    order = list(QualityLevel)
    if abs(worse.score - better.score) > WAVER:
        assert order.index(worse.level) >= order.index(better.level)


#: Motion along the layers of a tissue leaves only those, and they stay sharp: docs/explanation/quality.md says so.
NOT_SEEN = {("ultrasound", "motion")}


@pytest.mark.parametrize(("kind", "way"), [case for case in CASES if case not in NOT_SEEN])
def test_the_most_of_it_is_named(kind: str, way: str) -> None:
    spoil, most, expected = (WAYS | CHEST_WAYS)[way]
    found = quality(spoil(KINDS[kind][0](1), most), kind)
    assert found.level is not QualityLevel.ADEQUATE
    assert {check.type for check in found.issues if check.grade >= 2} & expected
    assert found.score < 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_exchanged_black_and_white_is_seen(kind: str) -> None:
    found = quality(1 - KINDS[kind][0](2), kind)
    (check,) = (check for check in found.checks if check.type is IssueType.INVERTED)
    assert check.grade >= (2 if kind == "limb" else 3)
    assert "exchanged" in check.description
    assert "PhotometricInterpretation" in check.recommendation


def test_a_chest_beside_the_middle_is_said_so() -> None:
    image = chest(0)
    aside = np.pad(image, ((0, 0), (0, 110)), constant_values=0.05)
    named = [check.description for check in quality(aside, "chest").issues if check.type is IssueType.POSITIONING]
    assert any("beside that of the image" in text for text in named)
    cut = quality(image[:, 95:], "chest")
    assert any("side" in check.description for check in cut.issues if check.type is IssueType.CUT_OFF)


def test_lungs_that_are_not_seen_are_no_issue_of_position() -> None:
    white = np.clip(np.random.default_rng(0).normal(0.6, 0.15, (320, 320)), 0, 1).astype(np.float32)
    found = quality(ndimage.gaussian_filter(white, 1), "chest")
    assert any(note.startswith(("Positioning was not", "Rotation was not")) for note in found.notes)
    assert not [check for check in found.issues if check.type in (IssueType.POSITIONING, IssueType.CUT_OFF)]


def test_small_images_are_not_called_blurred() -> None:
    small = chest(0, side=128)
    found = quality(small, "chest")
    assert found.notes == ("Sharpness was not assessed: 128 x 128 pixels limit it more than the examination.",)
    assert not [check for check in found.checks if check.type is IssueType.MOTION]
    enlarged = ndimage.zoom(small, 4, order=1)
    assert IssueType.MOTION in {check.type for check in quality(enlarged, "chest").issues}


def test_blur_is_said_in_pixels_and_in_millimetres() -> None:
    image = blurred(chest(0), 4)
    (check,) = (c for c in quality(image, "chest", (0.5, 0.5)).issues if c.type is IssueType.MOTION)
    assert "pixels (" in check.description
    assert " mm)" in check.description
    sigma = float(check.description.split("by ")[1].split()[0])
    assert sigma == pytest.approx(4, rel=0.2)
    assert "mm" not in next(c for c in quality(image, "chest").issues if c.type is IssueType.MOTION).description


def test_noise_is_measured_as_it_was_added() -> None:
    flat = np.full((320, 320), 0.5, np.float32)
    assert measures.noise(noisy(flat, 0.05)) == pytest.approx(0.05, rel=0.1)


def test_motion_along_one_axis_is_told_from_blur() -> None:
    down, along = edge_blur(moved(chest(0), 6))
    assert along > 2 * down


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3), (17, 17), (64, 64), (2000, 1200)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_shape_is_assessed(shape: tuple[int, int], kind: str) -> None:
    for image in (np.zeros(shape, np.float32), np.random.default_rng(0).random(shape, np.float32)):
        assert 0 <= quality(image, kind).score <= 1
    assert quality(np.zeros(shape, np.float32), kind).flagged_for_repeat, "nothing to see"


def test_values_that_are_no_numbers_do_not_stop_it() -> None:
    image = chest(0)
    image[5:9, 5:9] = np.nan
    image[0, 0] = np.inf
    assert quality(image, "chest").score > 0.9


def test_a_collimator_is_no_loss() -> None:
    image = chest(0)
    image[:30] = image[-30:] = 0
    image[:, :40] = 0
    assert IssueType.TRUNCATED not in {check.type for check in quality(image, "chest").issues}


def test_large_images_are_reduced_before_they_are_looked_at() -> None:
    reduced = measures.reduce(np.ones((3000, 2500), np.float32))
    assert reduced.factor == 4
    assert max(reduced.pixels.shape) <= measures.WORKING_SIDE
