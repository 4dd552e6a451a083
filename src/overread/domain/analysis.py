"""What an analysis says: findings, measurements, quality, what was not assessed and why.

The wire's `AnalysisResult` (specification, "TypeScript interfaces") is made from these values in `overread.http.wire`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from overread.domain.evidence import Interval, ModelIdentity
from overread.domain.image import BoundingBox
from overread.domain.modality import Modality
from overread.domain.priority import Level


class AnalysisStatus(StrEnum):
    """pending -> processing -> completed | failed | cancelled; a failed one may become pending again (Retry)."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing happens any more unless somebody asks for it."""
        return self in (AnalysisStatus.COMPLETED, AnalysisStatus.FAILED, AnalysisStatus.CANCELLED)


class QualityLevel(StrEnum):
    """The specification's `QualityLevel`."""

    ADEQUATE = "adequate"
    SUBOPTIMAL = "suboptimal"
    INADEQUATE = "inadequate"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that a model or a measurement found in one image."""

    id: UUID
    #: Key of `domain.catalogue`.
    finding_type: str
    severity: Level
    #: Calibrated probability, 0..1.
    confidence: float
    #: SOPInstanceUID (0008,0018) of the image it was found in.
    sop_instance_uid: str
    bounding_box: BoundingBox | None = None
    #: From 1 in the sorted series; None for a projection image.
    slice_number: int | None = None
    description: str = ""
    #: How it was found: a model or a named classical method.
    model: ModelIdentity | None = None
    method: str = "model"
    #: Whether the evidence does not allow this finding to change any order (DESIGN.md 5).
    exploratory: bool = True
    #: Whether the confidence reaches the threshold from which it may raise urgency.
    above_raise_threshold: bool = False
    #: Measured on unseen patients, shown beside the finding.
    sensitivity: Interval | None = None
    specificity: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A number with its unit (UCUM) and method."""

    id: UUID
    measurement_type: str
    value: float
    unit: str
    method: str
    finding_id: UUID | None = None
    #: What else is known of it, for the wire's `metadata`: where it was taken, its uncertainty, the slice.
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class QualityIssue:
    """The specification's `QualityIssue`."""

    type: str
    severity: str
    description: str


@dataclass(frozen=True, kw_only=True)
class QualityAssessment:
    """How usable the images are. `level` None: not assessed, and `recommendations` says so."""

    level: QualityLevel | None
    score: float | None
    issues: tuple[QualityIssue, ...] = ()
    recommendations: str = ""
    flagged_for_repeat: bool = False


@dataclass(frozen=True, kw_only=True)
class NotAssessed:
    """A finding type, or a whole image or study, that was not looked at, and why."""

    #: Key of `domain.catalogue`; "" when the whole image or study is meant, or what `name` says (a part of a type).
    finding_type: str
    name: str
    reason: str
    sop_instance_uid: str | None = None


@dataclass(frozen=True, kw_only=True)
class TriageDecision:
    """Where the study stands and why, in one line."""

    urgency: Level
    reason: str


@dataclass(frozen=True, kw_only=True)
class AnalysisOutcome:
    """What `pipeline.analyse` returns for one study revision."""

    modality: Modality | None
    body_part: str | None
    findings: tuple[Finding, ...]
    not_assessed: tuple[NotAssessed, ...]
    #: Keys of finding types that a model did look for.
    assessed: tuple[str, ...]
    quality: QualityAssessment
    triage: TriageDecision
    models: tuple[ModelIdentity, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    #: Images that could not be read: (file or SOPInstanceUID, code, sentence).
    problems: tuple[InstanceProblem, ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class InstanceProblem:
    """An instance that could not be used: the rest of the study was analysed all the same."""

    instance: str
    code: str
    message: str


def strongest_of_each_type(findings: Iterable[Finding]) -> list[tuple[Finding, int]]:
    """Of each finding type the one with the highest confidence, and how many there are; in the order of the findings.

    For a line of text: a chest CT may have a dozen nodules.
    """
    found: dict[tuple[str, bool], list[Finding]] = {}
    for finding in findings:
        found.setdefault((finding.finding_type, finding.exploratory), []).append(finding)
    return [(max(group, key=lambda f: f.confidence), len(group)) for group in found.values()]
