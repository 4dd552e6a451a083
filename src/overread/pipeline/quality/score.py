"""From measured figures to the specification's words: mild, moderate, severe; adequate, suboptimal, inadequate; repeat.

Every check yields one figure that can only grow (or only fall) as an image gets worse. A `Scale` says from which figure
on that is mild, moderate and severe. The grade runs through them without a step, so that the score has none either.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from overread.domain.analysis import QualityAssessment, QualityIssue, QualityLevel
from overread.domain.modality import Modality

NOT_ASSESSED = "Image quality was not assessed."
NO_REPEAT = "No repeat is needed for the quality of the images."


class IssueType(StrEnum):
    """The first three words are the specification's."""

    MOTION = "motion_artifact"
    POSITIONING = "poor_positioning"
    CONTRAST = "inadequate_contrast"
    NOISE = "noise"
    EXPOSURE = "exposure"
    CLIPPING = "clipping"
    CUT_OFF = "cut_off_anatomy"
    MISSING_SLICES = "missing_slices"
    INVERTED = "inverted"
    TRUNCATED = "truncated"
    METAL = "metal_artifact"


class Severity(StrEnum):
    """The specification's words, mildest first."""

    MILD = "mild"
    MODERATE = "moderate"
    SEVERE = "severe"


#: Grade from which a word holds.
_WORDS = ((3.0, Severity.SEVERE), (2.0, Severity.MODERATE), (1.0, Severity.MILD))
#: Grades and the score that each gets: a mild issue costs little, a severe one leaves a quarter.
_GRADES = (0.0, 1.0, 2.0, 3.0, 4.0)
_SCORES = (1.0, 0.8, 0.55, 0.25, 0.0)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Figures at which an issue starts to cost (`clear`), is mild, moderate and severe.

    They rise, or all fall; raises ValueError if they do neither.
    """

    clear: float
    mild: float
    moderate: float
    severe: float

    def __post_init__(self) -> None:
        steps = np.diff([self.clear, self.mild, self.moderate, self.severe])
        if not (np.all(steps > 0) or np.all(steps < 0)):
            raise ValueError("the figures of a scale must all rise or all fall")

    def grade(self, figure: float) -> float:
        """0 (clear or better) to 4: 1 mild, 2 moderate, 3 severe, linear between. Monotonic in `figure`."""
        points = np.array([self.clear, self.mild, self.moderate, self.severe, 2 * self.severe - self.moderate])
        if self.severe < self.clear:
            points, figure = -points, -figure
        return float(np.interp(figure, points, _GRADES))


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    type: IssueType
    #: 0 to 4, see `Scale.grade`.
    grade: float
    #: One sentence with the measured figure, said only if the grade is at least 1.
    description: str
    #: One sentence for the technician.
    recommendation: str

    @property
    def severity(self) -> Severity | None:
        """None where nothing needs to be said."""
        return next((word for grade, word in _WORDS if self.grade >= grade), None)


@dataclass(frozen=True, kw_only=True)
class ImageQuality:
    """How usable one image, or one volume, is."""

    modality: Modality | None
    #: SOPInstanceUID (0008,0018) of the image or SeriesInstanceUID (0020,000E) of the volume.
    uid: str
    #: Everything that was looked at, also what is fine.
    checks: tuple[Check, ...]
    #: Sentences on what could not be looked at.
    notes: tuple[str, ...] = ()
    is_volume: bool = False

    @property
    def grade(self) -> float:
        """Of the worst check."""
        return max((check.grade for check in self.checks), default=0.0)

    @property
    def score(self) -> float:
        """1 (nothing to say) to 0, by the worst check: several mild issues make no severe one."""
        return float(np.interp(self.grade, _GRADES, _SCORES))

    @property
    def level(self) -> QualityLevel:
        """Inadequate with a severe issue, suboptimal with a moderate one, else adequate."""
        if self.grade >= 3:
            return QualityLevel.INADEQUATE
        return QualityLevel.SUBOPTIMAL if self.grade >= 2 else QualityLevel.ADEQUATE

    @property
    def issues(self) -> tuple[Check, ...]:
        """Mild and worse, worst first."""
        found = [check for check in self.checks if check.grade >= 1]
        return tuple(sorted(found, key=lambda check: -check.grade))

    @property
    def flagged_for_repeat(self) -> bool:
        """Whether this image alone should be taken (or sent) again: with any severe issue."""
        return self.grade >= 3


def combine(qualities: Iterable[ImageQuality]) -> QualityAssessment:
    """The assessment of a study: as good as its worst image or volume.

    Each type of issue is said once, with its worst severity. The study is flagged for repeat if an X-ray image or a
    volume has a severe issue; where many single images make a study (ultrasound, loose slices), if at least half of
    them have one. Without any image the level is None.
    """
    given = tuple(qualities)
    if not given:
        return QualityAssessment(level=None, score=None, recommendations=NOT_ASSESSED)
    worst = max(given, key=lambda quality: quality.grade)
    issues = _merged(given)
    advice = list(dict.fromkeys(check.recommendation for check in worst.issues))[:1] or [NO_REPEAT]
    notes = dict.fromkeys(note for quality in given for note in quality.notes)
    return QualityAssessment(
        level=worst.level,
        score=round(worst.score, 4),
        issues=issues,
        recommendations=" ".join([*advice, *notes]),
        flagged_for_repeat=_repeat(given),
    )


def _repeat(given: Sequence[ImageQuality]) -> bool:
    needed = [quality for quality in given if quality.is_volume or quality.modality in (None, Modality.XRAY)]
    if any(quality.flagged_for_repeat for quality in needed):
        return True
    others = [quality for quality in given if quality not in needed]
    bad = sum(1 for quality in others if quality.flagged_for_repeat)
    return bool(others) and 2 * bad >= len(others)


def _merged(given: Sequence[ImageQuality]) -> tuple[QualityIssue, ...]:
    """Each type once, worst first; says in how many images it is if that is not all."""
    by_type: dict[IssueType, list[Check]] = {}
    for quality in given:
        seen: set[IssueType] = set()
        for check in quality.issues:
            if check.type not in seen:
                seen.add(check.type)
                by_type.setdefault(check.type, []).append(check)
    merged: list[tuple[float, QualityIssue]] = []
    for kind, checks in by_type.items():
        worst = max(checks, key=lambda check: check.grade)
        severity = worst.severity
        if severity is None:
            continue
        share = f" ({len(checks)} of {len(given)} images)" if len(given) > 1 else ""
        text = f"{worst.description.removesuffix('.')}{share}." if share else worst.description
        merged.append((worst.grade, QualityIssue(type=kind.value, severity=severity.value, description=text)))
    return tuple(issue for _, issue in sorted(merged, key=lambda pair: -pair[0]))
