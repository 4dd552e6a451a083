"""CT and MR volumes: quiet on a good one, and never better when they get worse."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from tests.unit.quality_images import thorax_hu, volume

from overread.domain.analysis import QualityLevel
from overread.domain.modality import Modality
from overread.domain.volume import VolumeWarning, WarningCode, to_lps
from overread.pipeline.quality import ImageQuality, IssueType, assess_volume


@pytest.fixture(scope="module")
def good() -> np.ndarray:
    return thorax_hu(1)


def grade(found: ImageQuality, kind: IssueType) -> float:
    return max(check.grade for check in found.checks if check.type is kind)


def noisy(hu: np.ndarray, sigma: float) -> np.ndarray:
    return np.clip(hu + np.random.default_rng(3).normal(0, 1, hu.shape) * sigma, -1024, 3000).astype(np.int16)


def shifted(hu: np.ndarray, pixels: float) -> np.ndarray:
    out = hu.copy()
    for index in range(20, 40):
        out[index] = np.roll(hu[index], round(pixels * np.sin(index * 1.7)), axis=0)
    return out


def blurred(hu: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(hu.astype(np.float32), (0, sigma, sigma))


def without_top(hu: np.ndarray, slices: float) -> np.ndarray:
    return hu[: len(hu) - int(slices)]


def narrow(hu: np.ndarray, pixels: float) -> np.ndarray:
    cut = int(pixels)
    return hu[:, cut : hu.shape[1] - cut, cut : hu.shape[2] - cut]


def windowed(hu: np.ndarray, lost: float) -> np.ndarray:
    return np.clip(hu, -1000, int(1000 - lost)).astype(np.int16)


def blanked(hu: np.ndarray, slices: float) -> np.ndarray:
    out = hu.copy()
    out[30 : 30 + int(slices)] = -1000
    return out


WAYS: dict[str, tuple[Callable[[np.ndarray, float], np.ndarray], tuple[float, ...], IssueType]] = {
    "noise": (noisy, (0, 40, 80, 130, 200), IssueType.NOISE),
    "motion": (shifted, (0, 1, 2, 4, 8), IssueType.MOTION),
    "blur": (blurred, (0, 1, 1.5, 2, 3), IssueType.MOTION),
    "lungs cut": (without_top, (0, 6, 10, 14, 20), IssueType.CUT_OFF),
    "field of view": (narrow, (0, 14, 20, 28, 34), IssueType.CUT_OFF),
    "windowed": (windowed, (0, 700, 960, 970, 980), IssueType.CLIPPING),
    "blank slices": (blanked, (0, 1, 2, 4, 6), IssueType.TRUNCATED),
}


def test_a_good_volume_has_no_issue(good: np.ndarray) -> None:
    found = assess_volume(volume(good))
    assert [check.description for check in found.issues] == []
    assert found.is_volume
    assert found.uid == "1.2.4"
    assert found.score > 0.85


@pytest.mark.parametrize("way", WAYS)
def test_more_of_it_is_never_better_and_the_most_is_named(good: np.ndarray, way: str) -> None:
    spoil, amounts, kind = WAYS[way]
    found = [assess_volume(volume(spoil(good, amount))) for amount in amounts]
    grades = [grade(quality, kind) for quality in found]
    assert all(later >= earlier - 0.1 for earlier, later in pairwise(grades)), grades
    scores = [quality.score for quality in found]
    assert all(later <= earlier + 0.05 for earlier, later in pairwise(scores)), scores
    assert grades[-1] >= 2, grades
    assert found[-1].level is not QualityLevel.ADEQUATE


def test_lungs_cut_says_where_whichever_way_the_slices_run(good: np.ndarray) -> None:
    cut = volume(without_top(good, 20))
    for one in (cut, volume(cut.hu[::-1], spacing=(-5.0, 3.0, 3.0)), to_lps(cut)):
        (check,) = (c for c in assess_volume(one).issues if c.type is IssueType.CUT_OFF)
        assert "cut off at the top" in check.description


def test_the_lungs_that_were_found_are_believed(good: np.ndarray) -> None:
    lungs = np.zeros(good.shape, np.bool_)
    lungs[10:50, 40:60, 30:50] = True
    assert grade(assess_volume(volume(without_top(good, 20)), lungs=lungs[:40]), IssueType.CUT_OFF) > 3
    assert grade(assess_volume(volume(good), lungs=lungs), IssueType.CUT_OFF) == 0
    with pytest.raises(ValueError, match="lungs are"):
        assess_volume(volume(good), lungs=lungs[:, :5])


def test_missing_slices_are_taken_from_the_warnings(good: np.ndarray) -> None:
    grades = []
    for count in (0, 1, 2, 4, 9):
        gap = VolumeWarning(code=WarningCode.MISSING_SLICES, message="", positions_mm=(5.0,) * count)
        found = assess_volume(volume(good, warnings=(gap,) if count else ()))
        grades.append(grade(found, IssueType.MISSING_SLICES))
    assert grades == sorted(grades)
    assert grades[0] == 0
    assert grades[1] >= 1
    assert grades[-1] >= 3
    text = assess_volume(volume(good, warnings=(gap,))).issues[0].description
    assert text == "9 slices are missing, 45 mm of the body."
    odd = VolumeWarning(code=WarningCode.VARIABLE_SPACING, message="")
    assert "cut into parts" in assess_volume(volume(good, warnings=(odd,))).issues[0].description


def test_exchanged_values_are_seen(good: np.ndarray) -> None:
    assert grade(assess_volume(volume((-good).astype(np.int16))), IssueType.INVERTED) >= 3


def test_metal_is_named_only_with_streaks(good: np.ndarray) -> None:
    quiet, loud = good.copy(), good.copy()
    quiet[20:40, 60:66, 60:66] = 3000
    loud[20:40, 60:66, 60:66] = 3000
    columns = np.arange(good.shape[2])
    loud[20:40] += (250 * np.sin(columns * 1.3)).astype(np.int16)
    assert grade(assess_volume(volume(quiet)), IssueType.METAL) == 0
    assert grade(assess_volume(volume(loud)), IssueType.METAL) >= 2


def test_noise_is_measured_in_hounsfield_units() -> None:
    flat = np.random.default_rng(0).normal(40, 50, (12, 96, 96)).astype(np.float32)
    (check,) = (c for c in assess_volume(volume(flat)).checks if c.type is IssueType.NOISE)
    assert float(check.description.split("is ")[1].split(" HU")[0]) == pytest.approx(50, rel=0.12)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 64, 64), (5, 20, 300), (40, 16, 16)])
@pytest.mark.parametrize("modality", [Modality.CT, Modality.MRI])
def test_any_shape_is_assessed(shape: tuple[int, int, int], modality: Modality) -> None:
    for hu in (np.full(shape, -1000, np.int16), np.random.default_rng(0).normal(0, 300, shape).astype(np.float32)):
        found = assess_volume(volume(hu), modality=modality)
        assert 0 <= found.score <= 1
        assert bool(found.notes) == (shape[0] < 5)


def test_an_mr_volume_needs_no_unit() -> None:
    signal = np.clip(thorax_hu(2).astype(np.float32) + 1000, 0, None) * 0.7
    grades = []
    for sigma in (0, 40, 80, 160):
        spoiled = np.abs(signal + np.random.default_rng(1).normal(0, 1, signal.shape) * sigma).astype(np.float32)
        grades.append(grade(assess_volume(volume(spoiled), modality=Modality.MRI), IssueType.NOISE))
    assert grades == sorted(grades)
    assert grades[0] < 1
    assert grades[-1] >= 2


def test_a_part_of_a_series_is_not_cut_where_the_gap_is(good: np.ndarray) -> None:
    part = good[:40]
    gap = VolumeWarning(code=WarningCode.MISSING_SLICES, message="", positions_mm=(200.0, 205.0))
    elsewhere = VolumeWarning(code=WarningCode.MISSING_SLICES, message="", positions_mm=(-5.0,))
    assert grade(assess_volume(volume(part, warnings=(gap,))), IssueType.CUT_OFF) == 0
    assert grade(assess_volume(volume(part, warnings=(elsewhere,))), IssueType.CUT_OFF) >= 3
    assert grade(assess_volume(volume(part)), IssueType.CUT_OFF) >= 3
