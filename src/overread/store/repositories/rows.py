"""Database rows to the values that the services know."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from overread.domain.analysis import (
    AnalysisOutcome,
    AnalysisStatus,
    Finding,
    Measurement,
    QualityAssessment,
)
from overread.domain.features import NotAnalysed
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.services.values import AnalysisRow, StudyRow
from overread.store.cipher import Values
from overread.store.codec import from_json
from overread.store.repositories.identifiers import Row, open_study

_LEVELS = (Level.ROUTINE, Level.URGENT, Level.CRITICAL)


def level(rank: int) -> Level:
    """0, 1, 2 as stored."""
    return _LEVELS[rank]


STUDY_COLUMNS = """
    s.id AS s_id, s.study_instance_uid, s.identifiers, s.patient_id, s.issuer_of_patient_id, s.patient_name,
    s.patient_birth_date, s.patient_sex, s.accession_number, s.study_description, s.study_datetime,
    s.modality AS s_modality, s.dicom_modalities, s.body_part, s.revision AS s_revision, s.instance_count,
    s.image_count, s.received_first, s.received_last, s.queue_priority AS s_queue_priority, s.patient_conflict,
    s.not_analysed_why
"""

ANALYSIS_COLUMNS = """
    a.id, a.revision, a.modality, a.status, a.priority, a.queue_priority, a.urgency, a.reason, a.requested_by,
    a.requested_at, a.started_at, a.completed_at, a.processing_ms, a.model_version, a.error_code, a.error_message,
    a.attempts, a.superseded, a.sr_object_key, a.seg_object_key,
    a.seg_segment_count, a.seg_removed_at, a.claim, a.outcome
"""


def study_row(row: Row, values: Values) -> StudyRow:
    """From STUDY_COLUMNS."""
    who = open_study(values, row)
    return StudyRow(
        id=row["s_id"],
        study_instance_uid=row["study_instance_uid"],
        patient_id=who["patient_id"],
        issuer_of_patient_id=who["issuer_of_patient_id"],
        patient_name=who["patient_name"],
        patient_birth_date=who["patient_birth_date"],
        patient_sex=who["patient_sex"],
        accession_number=who["accession_number"],
        study_description=who["study_description"],
        study_datetime=row["study_datetime"],
        modality=Modality(row["s_modality"]) if row["s_modality"] else None,
        dicom_modalities=tuple(row["dicom_modalities"]),
        body_part=row["body_part"],
        revision=row["s_revision"],
        instance_count=row["instance_count"],
        image_count=row["image_count"],
        received_first=row["received_first"],
        received_last=row["received_last"],
        queue_priority=level(row["s_queue_priority"]),
        patient_conflict=row["patient_conflict"],
        not_analysed=from_json(NotAnalysed, row["not_analysed_why"]) if row["not_analysed_why"] else None,
    )


def analysis_row(
    row: Row,
    values: Values,
    findings: Sequence[Row] = (),
    measurements: Sequence[Row] = (),
    quality: Row | None = None,
) -> AnalysisRow:
    """From ANALYSIS_COLUMNS and STUDY_COLUMNS, with the rows of the tables beside it."""
    outcome = None
    if row["outcome"] is not None:
        outcome = from_json(
            AnalysisOutcome,
            row["outcome"]
            | {
                "findings": [_finding(f) for f in findings],
                "measurements": [_measurement(m) for m in measurements],
                "quality": _quality(quality),
            },
        )
    tracking: dict[UUID, str] = {f["id"]: f["tracking_uid"] for f in findings}
    return AnalysisRow(
        id=row["id"],
        study=study_row(row, values),
        revision=row["revision"],
        status=AnalysisStatus(row["status"]),
        modality=Modality(row["modality"]) if row["modality"] else None,
        priority=level(row["priority"]),
        queue_priority=level(row["queue_priority"]),
        urgency=None if row["urgency"] is None else level(row["urgency"]),
        reason=row["reason"],
        requested_by=row["requested_by"],
        requested_at=row["requested_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        processing_ms=row["processing_ms"],
        model_version=row["model_version"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        attempts=row["attempts"],
        superseded=row["superseded"],
        sr_object_key=row["sr_object_key"],
        seg_object_key=row["seg_object_key"],
        seg_segment_count=row["seg_segment_count"],
        seg_removed_at=row["seg_removed_at"],
        claim=row["claim"],
        outcome=outcome,
        tracking_uids=tracking,
    )


def _finding(row: Row) -> Finding:
    return from_json(
        Finding,
        row["details"]
        | {
            "id": row["id"],
            "finding_type": row["finding_type"],
            "severity": level(row["severity"]),
            "confidence": float(row["confidence_score"]),
            "sop_instance_uid": row["sop_instance_uid"],
            "bounding_box": row["bounding_box"],
            "slice_number": row["slice_number"],
            "description": row["description"],
        },
    )


def _measurement(row: Row) -> Measurement:
    return Measurement(
        id=row["id"],
        measurement_type=row["measurement_type"],
        value=float(row["value"]),
        unit=row["unit"],
        method=row["method"],
        finding_id=row["finding_id"],
        metadata=row["metadata"],
    )


def _quality(row: Row | None) -> QualityAssessment:
    if row is None:
        return QualityAssessment(level=None, score=None, recommendations="Image quality was not assessed.")
    return from_json(
        QualityAssessment,
        {
            "level": row["overall_quality"],
            "score": None if row["quality_score"] is None else float(row["quality_score"]),
            "issues": row["issues"],
            "recommendations": row["recommendations"],
            "flagged_for_repeat": row["flagged_for_repeat"],
        },
    )
