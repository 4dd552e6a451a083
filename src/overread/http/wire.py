"""What stands on the wire: the specification's `AnalysisResult` and its parts, in camelCase, and what we add to it.

Fields that the specification marks with `?` are left out when there is nothing to say; the others are null. Our own
additions are marked below; a client that knows only the specification may ignore them. No web framework in here: the
command line writes the same objects. Instants are UTC, ISO 8601 with Z; `processingTime` is in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID, uuid5

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from overread.domain import catalogue, texts
from overread.domain.analysis import AnalysisOutcome, AnalysisStatus, QualityLevel
from overread.domain.analysis import Finding as DomainFinding
from overread.domain.analysis import Measurement as DomainMeasurement
from overread.domain.analysis import NotAssessed as DomainNotAssessed
from overread.domain.analysis import QualityAssessment as DomainQuality
from overread.domain.evidence import Interval as DomainInterval
from overread.domain.evidence import ModelIdentity
from overread.domain.modality import Modality
from overread.domain.priority import Level, higher
from overread.services.values import AnalysisRow

_T = TypeVar("_T")
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
    """A finding type that was not looked for, or, with `findingType` "", a whole image or study. (Ours.)"""

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


def result_from_row(row: AnalysisRow) -> AnalysisResult:
    """An analysis as the database has it. Findings and the like are empty until it is completed."""
    triage = row.outcome.triage if row.outcome else None
    return AnalysisResult(
        analysis_id=row.id,
        study_id=row.study.study_instance_uid,
        modality=row.modality or row.study.modality,
        status=row.status,
        processing_time=None if row.processing_ms is None else row.processing_ms / 1000,
        model_version=row.model_version,
        patient_id=row.study.patient_id,
        body_part=(row.outcome.body_part if row.outcome else None) or row.study.body_part,
        priority=higher(row.priority, row.queue_priority, row.urgency),
        triage=Triage(
            urgency=row.urgency or (triage.urgency if triage else None),
            reason=row.reason or (triage.reason if triage else ""),
        ),
        requested_at=row.requested_at,
        started_at=row.started_at,
        completed_at=row.completed_at,
        error_code=row.error_code,
        error_message=row.error_message,
        revision=row.revision,
        superseded=row.superseded,
        patient_conflict=row.study.patient_conflict or None,
        **_parts(row.outcome, row.id),
    )


def result_from_outcome(
    outcome: AnalysisOutcome,
    *,
    analysis_id: UUID,
    study_id: str,
    patient_id: str = "",
    processing_seconds: float | None = None,
    requested_at: datetime | None = None,
    started_at: datetime | None = None,
    completed_at: datetime | None = None,
    images: Sequence[ImageScores] | None = None,
    error: tuple[str, str] | None = None,
) -> AnalysisResult:
    """A finished analysis that no database knows, as the command line makes it.

    `error` is (code, message) of an analysis that could read nothing: its status is then `failed`.
    """
    return AnalysisResult(
        analysis_id=analysis_id,
        study_id=study_id,
        modality=outcome.modality,
        status=AnalysisStatus.FAILED if error else AnalysisStatus.COMPLETED,
        processing_time=processing_seconds,
        model_version=model_version(outcome.models),
        patient_id=patient_id,
        body_part=outcome.body_part,
        priority=outcome.triage.urgency,
        triage=Triage(urgency=outcome.triage.urgency, reason=outcome.triage.reason),
        images=None if images is None else list(images),
        requested_at=requested_at,
        started_at=started_at,
        completed_at=completed_at,
        error_code=error[0] if error else None,
        error_message=error[1] if error else None,
        **_parts(outcome, analysis_id),
    )


def model_version(models: Sequence[ModelIdentity]) -> str:
    """The wire's `modelVersion`: "chest_xray 1.0.0, radiograph_view 1.0.0"; "" if no model was asked."""
    return ", ".join(str(model) for model in models)


def _parts(outcome: AnalysisOutcome | None, analysis_id: UUID) -> dict[str, Any]:
    """The fields that both sources fill alike; empty where there is no outcome yet."""
    return {
        "findings": [_finding(f, analysis_id) for f in outcome.findings] if outcome else [],
        "measurements": [_measurement(m, analysis_id) for m in outcome.measurements] if outcome else [],
        "quality_assessment": _quality(outcome.quality, analysis_id) if outcome else None,
        "assessed": [Assessed(finding_type=key, name=_name(key)) for key in outcome.assessed] if outcome else [],
        "not_assessed": [_not_assessed(n) for n in outcome.not_assessed] if outcome else [],
        "models": [_model(m) for m in outcome.models] if outcome else [],
        "problems": [Problem(instance=p.instance, code=p.code, message=p.message) for p in outcome.problems]
        if outcome
        else [],
    }


def _not_assessed(item: DomainNotAssessed) -> NotAssessed:
    return NotAssessed(
        finding_type=item.finding_type, name=item.name, reason=item.reason, sop_instance_uid=item.sop_instance_uid
    )


def _finding(finding: DomainFinding, analysis_id: UUID) -> Finding:
    box = finding.bounding_box
    entry = catalogue.entry(finding.finding_type) if catalogue.is_known(finding.finding_type) else None
    return Finding(
        id=finding.id,
        analysis_id=analysis_id,
        finding_type=finding.finding_type,
        severity=finding.severity,
        confidence_score=round(finding.confidence, 4),
        bounding_box=BoundingBox(x=box.x, y=box.y, width=box.width, height=box.height) if box else None,
        slice_number=finding.slice_number,
        description=finding.description,
        name=_name(finding.finding_type),
        code=Code(value=entry.code.value, scheme=entry.code.scheme, meaning=entry.code.meaning) if entry else None,
        sop_instance_uid=finding.sop_instance_uid,
        method=finding.method,
        model=_maybe(_model, finding.model),
        exploratory=finding.exploratory,
        sensitivity=_maybe(_interval, finding.sensitivity),
        specificity=_maybe(_interval, finding.specificity),
    )


def _measurement(measurement: DomainMeasurement, analysis_id: UUID) -> Measurement:
    return Measurement(
        id=measurement.id,
        analysis_id=analysis_id,
        finding_id=measurement.finding_id,
        measurement_type=measurement.measurement_type,
        value=measurement.value,
        unit=measurement.unit,
        method=measurement.method,
    )


def _quality(quality: DomainQuality, analysis_id: UUID) -> QualityAssessment:
    return QualityAssessment(
        id=uuid5(analysis_id, "quality"),
        analysis_id=analysis_id,
        overall_quality=quality.level,
        quality_score=quality.score,
        issues=[QualityIssue(type=i.type, severity=i.severity, description=i.description) for i in quality.issues],
        recommendations=quality.recommendations,
        flagged_for_repeat=quality.flagged_for_repeat,
    )


def _model(model: ModelIdentity) -> ModelInfo:
    return ModelInfo(name=model.name, version=model.version, sha256=model.sha256)


def _interval(interval: DomainInterval) -> Interval:
    return Interval(value=interval.value, low=interval.low, high=interval.high)


def _maybe(make: Callable[[Any], _T], value: object | None) -> _T | None:
    return None if value is None else make(value)


def _name(key: str) -> str:
    return catalogue.entry(key).name if catalogue.is_known(key) else key


def scores_of(values: Mapping[str, float]) -> dict[str, float]:
    """Confidences rounded to four places, as the wire has them."""
    return {key: round(float(value), 4) for key, value in values.items()}
