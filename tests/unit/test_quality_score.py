"""From figures to words, and from images to a study."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overread.domain.analysis import QualityLevel
from overread.domain.modality import Modality
from overread.pipeline.quality import Check, ImageQuality, IssueType, Severity, combine
from overread.pipeline.quality.score import NO_REPEAT, NOT_ASSESSED, Scale

SCALE = Scale(clear=1.0, mild=2.0, moderate=4.0, severe=8.0)


def check(grade: float, kind: IssueType = IssueType.NOISE, text: str = "It is so.") -> Check:
    return Check(type=kind, grade=grade, description=text, recommendation=f"Mend the {kind.value}.")


def image(*checks: Check, modality: Modality = Modality.XRAY, notes: tuple[str, ...] = ()) -> ImageQuality:
    return ImageQuality(modality=modality, uid="1.2", checks=checks, notes=notes)


@pytest.mark.parametrize(
    ("figure", "grade"), [(0, 0), (1, 0), (1.5, 0.5), (2, 1), (4, 2), (8, 3), (10, 3.5), (12, 4), (99, 4)]
)
def test_a_scale_runs_through_its_figures(figure: float, grade: float) -> None:
    assert SCALE.grade(figure) == pytest.approx(grade)
    falling = Scale(clear=-1.0, mild=-2.0, moderate=-4.0, severe=-8.0)
    assert falling.grade(-figure) == pytest.approx(grade)


@given(one=st.floats(-100, 100), other=st.floats(-100, 100))
def test_a_scale_is_monotonic(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert SCALE.grade(low) <= SCALE.grade(high)


def test_a_scale_that_turns_is_refused() -> None:
    with pytest.raises(ValueError, match="all rise or all fall"):
        Scale(clear=1.0, mild=2.0, moderate=1.5, severe=3.0)


@pytest.mark.parametrize(
    ("grade", "severity", "level", "repeat"),
    [
        (0.99, None, QualityLevel.ADEQUATE, False),
        (1.0, Severity.MILD, QualityLevel.ADEQUATE, False),
        (2.0, Severity.MODERATE, QualityLevel.SUBOPTIMAL, False),
        (3.0, Severity.SEVERE, QualityLevel.INADEQUATE, True),
    ],
)
def test_the_words_of_a_grade(grade: float, severity: Severity | None, level: QualityLevel, repeat: bool) -> None:
    assert check(grade).severity is severity
    found = image(check(grade), check(0.2))
    assert (found.level, found.flagged_for_repeat) == (level, repeat)


@given(grades=st.lists(st.floats(0, 4), min_size=1, max_size=5), more=st.floats(0, 4))
def test_another_issue_never_raises_the_score(grades: list[float], more: float) -> None:
    before, after = image(*map(check, grades)), image(*map(check, [*grades, more]))
    assert after.score <= before.score


def test_without_images_nothing_was_assessed() -> None:
    found = combine([])
    assert (found.level, found.score, found.recommendations) == (None, None, NOT_ASSESSED)
    assert not found.flagged_for_repeat


def test_a_good_study_needs_no_repeat() -> None:
    found = combine([image(check(0.0))])
    assert (found.level, found.score, found.issues) == (QualityLevel.ADEQUATE, 1.0, ())
    assert found.recommendations == NO_REPEAT


def test_a_study_is_as_good_as_its_worst_image() -> None:
    found = combine(
        [
            image(check(1.2), check(0.5, IssueType.MOTION)),
            image(check(2.5, text="Noise is 9%."), check(3.0, IssueType.CONTRAST), notes=("Rotation was not seen.",)),
            image(notes=("Rotation was not seen.",)),
        ]
    )
    assert found.level is QualityLevel.INADEQUATE
    assert found.score == 0.25
    assert [(issue.type, issue.severity) for issue in found.issues] == [
        ("inadequate_contrast", "severe"),
        ("noise", "moderate"),
    ]
    assert found.issues[1].description == "Noise is 9% (2 of 3 images)."
    assert found.recommendations == "Mend the inadequate_contrast. Rotation was not seen."
    assert found.flagged_for_repeat


def test_one_bad_still_of_many_is_no_reason_to_repeat() -> None:
    bad, fine = image(check(4.0), modality=Modality.ULTRASOUND), image(modality=Modality.ULTRASOUND)
    assert not combine([bad, fine, fine]).flagged_for_repeat
    assert combine([bad, fine]).flagged_for_repeat
    assert combine([fine, fine, image(check(4.0))]).flagged_for_repeat, "a radiograph stands for itself"
    whole = ImageQuality(modality=Modality.CT, uid="1.3", checks=(check(3.0),), is_volume=True)
    assert combine([fine, fine, whole]).flagged_for_repeat
    assert not combine([fine, image(check(2.9))]).flagged_for_repeat
