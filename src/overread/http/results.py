"""Analyses, from the database or from the pipeline, as the objects of `overread.http.wire`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID, uuid5

from overread.domain import catalogue
from overread.domain.analysis import AnalysisOutcome, AnalysisStatus
from overread.domain.analysis import Finding as DomainFinding
from overread.domain.analysis import Measurement as DomainMeasurement
from overread.domain.analysis import NotAssessed as DomainNotAssessed
from overread.domain.analysis import QualityAssessment as DomainQuality
from overread.domain.evidence import Interval as DomainInterval
from overread.domain.evidence import ModelIdentity
from overread.domain.priority import higher
from overread.http.wire import (
    AnalysisResult,
    Assessed,
    BoundingBox,
    Code,
    Finding,
    ImageScores,
    Interval,
    Measurement,
    ModelInfo,
    NotAssessed,
    Outline,
    OutlinedSegment,
    OutlineSummary,
    Problem,
    QualityAssessment,
    QualityIssue,
    SliceOutlines,
    SlicePlace,
    Triage,
)
from overread.render.outlines import SliceOutline
from overread.services.values import AnalysisRow
from overread.services.values import OutlinedSegment as SegmentRow
from overread.services.values import SlicePlace as PlaceRow

_T = TypeVar("_T")


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
        metadata=dict(measurement.metadata) or None,
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


def segments_of(analysis_id: UUID, segments: Sequence[SegmentRow]) -> OutlineSummary:
    """What an analysis outlined, and the slices to look at."""
    return OutlineSummary(
        analysis_id=analysis_id,
        segments=[
            OutlinedSegment(
                segment_number=segment.number,
                key=segment.key,
                name=segment.name,
                finding_id=segment.finding_id,
                slice_count=segment.slice_count,
                first=_place(segment.first),
                last=_place(segment.last),
                largest=_place(segment.largest),
            )
            for segment in segments
        ],
    )


def _place(place: PlaceRow) -> SlicePlace:
    return SlicePlace(
        sop_instance_uid=place.sop_instance_uid, frame=place.frame_number, slice_number=place.slice_index + 1
    )


def outlines_on_slice(
    analysis_id: UUID, sop_instance_uid: str, frame: int, found: Sequence[SliceOutline]
) -> SliceOutlines:
    """The polygons on one slice; none where nothing is outlined."""
    return SliceOutlines(
        analysis_id=analysis_id,
        sop_instance_uid=sop_instance_uid,
        frame=frame,
        outlines=[
            Outline(
                segment_number=o.segment_number,
                key=o.key,
                name=o.name,
                finding_id=o.finding_id,
                slice_number=o.slice_index + 1,
                rings=[list(ring) for ring in o.rings],
            )
            for o in found
        ],
    )


def scores_of(values: Mapping[str, float]) -> dict[str, float]:
    """Confidences rounded to four places, as the wire has them."""
    return {key: round(float(value), 4) for key, value in values.items()}
