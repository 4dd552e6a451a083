"""What stands on the wire: the specification's `AnalysisResult` and its parts, in camelCase, and what we add to it.

Fields that the specification marks with `?` are left out when there is nothing to say; the others are null. Our own
additions are marked below; a client that knows only the specification may ignore them. No web framework in here: the
command line writes the same objects. Instants are UTC, ISO 8601 with Z; `processingTime` is in seconds.
"""

from __future__ import annotations

from datetime import UTC
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from overread.domain import texts
from overread.domain.analysis import AnalysisStatus, QualityLevel
from overread.domain.modality import Modality
from overread.domain.priority import Level

Instant = Annotated[AwareDatetime, AfterValidator(lambda moment: moment.astimezone(UTC))]


def _is_none(value: object) -> bool:
    return value is None


def _absent() -> Any:
    """A field that is left out when it has no value (the specification's `?`)."""
    return Field(default=None, exclude_if=_is_none)


class WireModel(BaseModel):
    """camelCase outside, snake_case inside."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True, frozen=True, protected_namespaces=()
    )


class BoundingBox(WireModel):
    """In pixels of the stored image; (x, y) = (column, row) of the top-left corner, from 0."""

    x: int
    y: int
    width: int
    height: int


class Interval(WireModel):
    """A measured proportion, 0..1, with its 95% confidence interval. (Ours.)"""

    value: float
    low: float
    high: float


class ModelInfo(WireModel):
    """Which model said it. (Ours.)"""

    name: str
    version: str
    sha256: str


class Code(WireModel):
    """A coded concept, SNOMED CT (SCT) or our own scheme (99OVERREAD). (Ours.)"""

    value: str
    scheme: str
    meaning: str


class Finding(WireModel):
    """The specification's `Finding`; from `name` on ours."""

    id: UUID
    analysis_id: UUID
    finding_type: str
    severity: Level
    #: Calibrated probability, 0..1.
    confidence_score: float
    bounding_box: BoundingBox | None = _absent()
    slice_number: int | None = _absent()
    description: str
    radiologist_feedback: str | None = _absent()
    radiologist_comments: str | None = _absent()
    name: str
    code: Code | None = _absent()
    #: Image in which it was found, SOPInstanceUID (0008,0018).
    sop_instance_uid: str
    #: "model", or the name of a classical method.
    method: str
    model: ModelInfo | None = _absent()
    #: The model's measured figures do not meet the bar, so this finding changes no order.
    exploratory: bool
    #: Measured on unseen patients.
    sensitivity: Interval | None = _absent()
    specificity: Interval | None = _absent()


class Measurement(WireModel):
    """The specification's `Measurement`; `unit` is a UCUM code."""

    id: UUID
    analysis_id: UUID
    finding_id: UUID | None = _absent()
    measurement_type: str
    value: float
    unit: str
    method: str
    metadata: dict[str, Any] | None = _absent()


class QualityIssue(WireModel):
    type: str
    severity: str
    description: str


class QualityAssessment(WireModel):
    """The specification's; `overallQuality` and `qualityScore` are null where quality was not assessed."""

    id: UUID
    analysis_id: UUID
    overall_quality: QualityLevel | None
    quality_score: float | None
    issues: list[QualityIssue]
    recommendations: str
    flagged_for_repeat: bool


class ProgressionAnalysis(WireModel):
    """Sizes in mm, growth in mm per month."""

    finding_type: str
    previous_size: float
    current_size: float
    change_percent: float
    growth_rate: float
    trend: str


class TemporalAnalysis(WireModel):
    """`timeInterval` in days."""

    time_interval: int
    overall_trend: str
    significant_changes: bool
    summary: str


class ChangesDetected(WireModel):
    new_findings: list[Finding]
    resolved_findings: list[Finding]
    progression: list[ProgressionAnalysis]


class StudyComparison(WireModel):
    """The specification's `StudyComparison`; no analysis fills it yet."""

    id: UUID
    current_analysis_id: UUID
    prior_study_id: str
    comparison_date: Instant
    changes_detected: ChangesDetected
    temporal_analysis: TemporalAnalysis


class Assessed(WireModel):
    """A finding type that a model did look for. (Ours.)"""

    finding_type: str
    name: str


class NotAssessed(WireModel):
    """A finding type that was not looked for; with `findingType` "" an image, a study, or what `name` says. (Ours.)"""

    finding_type: str
    name: str
    reason: str
    sop_instance_uid: str | None = _absent()


class Triage(WireModel):
    """Where the study stands and why, one line; `urgency` is null until the images were read. (Ours.)"""

    urgency: Level | None
    reason: str


class Problem(WireModel):
    """An instance or file that could not be used. (Ours.)"""

    instance: str
    code: str
    message: str


class ImageScores(WireModel):
    """What the models said of one image, also below the threshold to show. (Ours; the command line's only.)"""

    sop_instance_uid: str
    #: The file it came from, as the caller named it.
    file: str | None = _absent()
    #: What the image shows, as a class of the view model ("chest_frontal"), and how sure that is.
    view: str | None
    view_confidence: float | None = _absent()
    #: Why the image was not assessed.
    not_assessed: str | None = _absent()
    #: Calibrated confidence, 0..1, by finding type.
    scores: dict[str, float]


class SlicePlace(WireModel):
    """A slice: where it lies in the files and in the sorted series. (Ours.)"""

    sop_instance_uid: str
    #: Frame of the instance, from 1.
    frame: int
    #: From 1 in the sorted series.
    slice_number: int


class OutlinedSegment(WireModel):
    """A segment (a lung, a nodule) whose outline can be drawn. (Ours.)"""

    #: From 1, as in the DICOM SEG.
    segment_number: int
    #: "lung_right", ..., or the finding type of a lesion.
    key: str
    name: str
    finding_id: UUID | None = _absent()
    slice_count: int
    first: SlicePlace
    last: SlicePlace
    #: Where its outline encloses most.
    largest: SlicePlace


class OutlineSummary(WireModel):
    """What an analysis outlined, without polygons. (Ours.)"""

    analysis_id: UUID
    segments: list[OutlinedSegment]


class Outline(WireModel):
    """A segment on one slice. (Ours.)"""

    segment_number: int
    key: str
    name: str
    finding_id: UUID | None = _absent()
    slice_number: int
    #: Polygons of [x, y] in pixels of the stored slice, whole numbers at pixel centres. The last point joins the first.
    #: Holes are rings too: fill with the even-odd rule.
    rings: list[list[tuple[float, float]]]


class SliceOutlines(WireModel):
    """All that is outlined on one slice. (Ours.)"""

    analysis_id: UUID
    sop_instance_uid: str
    frame: int
    outlines: list[Outline]


class AnalysisResult(WireModel):
    """The specification's `AnalysisResult`; from `patientId` on ours."""

    analysis_id: UUID
    #: StudyInstanceUID (0020,000D), or the file's name for an image that is not DICOM.
    study_id: str
    modality: Modality | None
    status: AnalysisStatus
    findings: list[Finding]
    measurements: list[Measurement]
    quality_assessment: QualityAssessment | None
    prior_comparison: StudyComparison | None = _absent()
    #: Seconds; null until completed.
    processing_time: float | None
    #: Names and versions of the models that were asked, "" if none was.
    model_version: str

    patient_id: str
    body_part: str | None
    #: The higher of queue priority and urgency; nothing automatic lowers it.
    priority: Level
    triage: Triage
    assessed: list[Assessed]
    not_assessed: list[NotAssessed]
    models: list[ModelInfo]
    problems: list[Problem]
    images: list[ImageScores] | None = _absent()
    requested_at: Instant | None = _absent()
    started_at: Instant | None = _absent()
    completed_at: Instant | None = _absent()
    error_code: str | None = _absent()
    error_message: str | None = _absent()
    #: Which revision of the study was read, and whether a later one has replaced this result.
    revision: int | None = _absent()
    superseded: bool | None = _absent()
    #: The study's images name more than one patient; left out where they do not.
    patient_conflict: bool | None = _absent()
    disclaimer: str = texts.DISCLAIMER


def dump(model: WireModel) -> dict[str, Any]:
    """`model` as plain JSON values (camelCase keys)."""
    return model.model_dump(mode="json", by_alias=True)
