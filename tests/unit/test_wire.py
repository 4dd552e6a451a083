"""The wire's objects: the specification's names, optional fields left out, UTC with Z."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

from overread.domain.analysis import (
    AnalysisOutcome,
    AnalysisStatus,
    Finding,
    InstanceProblem,
    Measurement,
    NotAssessed,
    QualityAssessment,
    QualityIssue,
    QualityLevel,
    TriageDecision,
)
from overread.domain.evidence import Interval, ModelIdentity
from overread.domain.image import BoundingBox
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.domain.texts import DISCLAIMER
from overread.http.results import model_version, result_from_outcome, result_from_row, scores_of
from overread.http.wire import ImageScores, dump
from overread.services.values import AnalysisRow, StudyRow

ANALYSIS = UUID(int=1)
FINDING = UUID(int=2)
CHEST = ModelIdentity(name="chest_xray", version="1.0.0", sha256="ab")
NOW = datetime(2026, 5, 1, 10, 30, tzinfo=UTC)

OUTCOME = AnalysisOutcome(
    modality=Modality.XRAY,
    body_part="CHEST",
    findings=(
        Finding(
            id=FINDING,
            finding_type="pneumothorax",
            severity=Level.CRITICAL,
            confidence=0.912345,
            sop_instance_uid="1.2.3",
            bounding_box=BoundingBox(x=1, y=2, width=3, height=4),
            description="Pneumothorax",
            model=CHEST,
            exploratory=True,
            sensitivity=Interval(value=0.7, low=0.6, high=0.8),
            specificity=Interval(value=0.9, low=0.8, high=0.95),
        ),
    ),
    not_assessed=(
        NotAssessed(finding_type="rib_fracture", name="Rib fracture", reason="no installed model looks for it"),
        NotAssessed(finding_type="", name="Image", reason="lateral view", sop_instance_uid="1.2.4"),
    ),
    assessed=("pneumothorax",),
    quality=QualityAssessment(
        level=QualityLevel.INADEQUATE,
        score=0.1,
        issues=(QualityIssue(type="inadequate_contrast", severity="severe", description="Nearly no contrast."),),
        recommendations="Repeat.",
        flagged_for_repeat=True,
    ),
    triage=TriageDecision(urgency=Level.ROUTINE, reason="Routine: exploratory"),
    models=(CHEST,),
    measurements=(
        Measurement(
            id=UUID(int=3), measurement_type="ctr", value=0.5, unit="1", method="automated", finding_id=FINDING
        ),
    ),
    problems=(InstanceProblem(instance="a.dcm", code="INVALID_DICOM", message="Truncated."),),
)

STUDY = StudyRow(
    id=UUID(int=9),
    study_instance_uid="1.2.826.1",
    patient_id="P-1",
    issuer_of_patient_id="",
    patient_name="A^B",
    patient_birth_date="",
    patient_sex="",
    accession_number="",
    study_description="",
    study_datetime=None,
    modality=Modality.XRAY,
    dicom_modalities=("DX",),
    body_part="CHEST",
    revision=1,
    instance_count=1,
    image_count=1,
    received_first=NOW,
    received_last=NOW,
    queue_priority=Level.ROUTINE,
    patient_conflict=False,
)

ROW = AnalysisRow(
    id=ANALYSIS,
    study=STUDY,
    revision=1,
    status=AnalysisStatus.PENDING,
    modality=None,
    priority=Level.ROUTINE,
    queue_priority=Level.ROUTINE,
    urgency=None,
    reason="Routine: waiting for analysis",
    requested_by="receiver",
    requested_at=NOW.astimezone(timezone(timedelta(hours=2))),
    started_at=None,
    completed_at=None,
    processing_ms=None,
    model_version="",
    error_code=None,
    error_message=None,
    attempts=0,
    superseded=False,
    sr_object_key=None,
)


def test_a_completed_analysis_has_every_field_of_the_specification():
    row = replace(
        ROW,
        status=AnalysisStatus.COMPLETED,
        outcome=OUTCOME,
        urgency=Level.ROUTINE,
        queue_priority=Level.URGENT,
        processing_ms=1234,
        model_version="chest_xray 1.0.0",
        completed_at=NOW,
    )
    wire = dump(result_from_row(row))
    assert wire["analysisId"] == str(ANALYSIS)
    assert wire["studyId"] == "1.2.826.1"
    assert wire["modality"] == "X-ray"
    assert wire["status"] == "completed"
    assert wire["processingTime"] == 1.234
    assert wire["modelVersion"] == "chest_xray 1.0.0"
    assert wire["priority"] == "urgent", "the higher of queue priority and urgency"
    assert wire["patientId"] == "P-1"
    assert wire["requestedAt"] == "2026-05-01T10:30:00Z"
    assert "priorComparison" not in wire
    assert "errorCode" not in wire
    finding = wire["findings"][0]
    assert finding["findingType"] == "pneumothorax"
    assert finding["analysisId"] == str(ANALYSIS)
    assert finding["severity"] == "critical"
    assert finding["confidenceScore"] == 0.9123
    assert finding["boundingBox"] == {"x": 1, "y": 2, "width": 3, "height": 4}
    assert finding["code"] == {"value": "36118008", "scheme": "SCT", "meaning": "Pneumothorax"}
    assert finding["exploratory"] is True
    assert finding["sensitivity"] == {"value": 0.7, "low": 0.6, "high": 0.8}
    assert "sliceNumber" not in finding
    assert "radiologistFeedback" not in finding
    measurement = wire["measurements"][0]
    assert (measurement["measurementType"], measurement["findingId"]) == ("ctr", str(FINDING))
    quality = wire["qualityAssessment"]
    assert quality["overallQuality"] == "inadequate"
    assert quality["flaggedForRepeat"] is True
    assert quality["issues"][0]["type"] == "inadequate_contrast"
    assert wire["assessed"] == [{"findingType": "pneumothorax", "name": "Pneumothorax"}]
    assert wire["notAssessed"][0]["name"] == "Rib fracture"
    assert "sopInstanceUid" not in wire["notAssessed"][0]
    assert wire["notAssessed"][1]["sopInstanceUid"] == "1.2.4"
    assert wire["problems"] == [{"instance": "a.dcm", "code": "INVALID_DICOM", "message": "Truncated."}]
    assert wire["disclaimer"] == DISCLAIMER


def test_a_pending_analysis_says_so_and_keeps_required_fields():
    wire = dump(result_from_row(ROW))
    assert wire["status"] == "pending"
    assert wire["modality"] == "X-ray", "from the study until the analysis knows better"
    assert wire["processingTime"] is None
    assert wire["qualityAssessment"] is None
    assert wire["findings"] == wire["measurements"] == wire["assessed"] == []
    assert wire["triage"] == {"urgency": None, "reason": "Routine: waiting for analysis"}
    assert "startedAt" not in wire


def test_two_patients_in_one_study_are_said():
    assert "patientConflict" not in dump(result_from_row(ROW))
    row = replace(ROW, study=replace(STUDY, patient_conflict=True))
    assert dump(result_from_row(row))["patientConflict"] is True


def test_a_failed_analysis_says_why():
    row = replace(ROW, status=AnalysisStatus.FAILED, error_code="INFERENCE_ERROR", error_message="The model failed.")
    wire = dump(result_from_row(row))
    assert (wire["errorCode"], wire["errorMessage"]) == ("INFERENCE_ERROR", "The model failed.")


def test_an_outcome_without_a_database():
    image = ImageScores(
        sop_instance_uid="1.2.3", view="chest_frontal", scores=scores_of({"pneumothorax": 0.912345}), file="a.png"
    )
    wire = dump(
        result_from_outcome(OUTCOME, analysis_id=ANALYSIS, study_id="a.png", processing_seconds=0.5, images=[image])
    )
    assert wire["status"] == "completed"
    assert wire["modelVersion"] == "chest_xray 1.0.0"
    assert wire["images"][0]["scores"] == {"pneumothorax": 0.9123}
    failed = result_from_outcome(OUTCOME, analysis_id=ANALYSIS, study_id="a", error=("INVALID_DICOM", "No."))
    assert failed.status is AnalysisStatus.FAILED
    assert failed.error_code == "INVALID_DICOM"


def test_an_unknown_finding_of_a_hospitals_own_model_keeps_its_key():
    outcome = replace(OUTCOME, findings=(replace(OUTCOME.findings[0], finding_type="gallstone", model=None),))
    finding = dump(result_from_outcome(outcome, analysis_id=ANALYSIS, study_id="a"))["findings"][0]
    assert finding["name"] == "gallstone"
    assert "code" not in finding
    assert "model" not in finding


def test_model_version_is_empty_where_no_model_was_asked():
    assert model_version(()) == ""


def test_the_wire_needs_no_web_framework():
    code = "import sys, overread.http.wire; sys.exit('fastapi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
