"""The content of our structured reports, read back by highdicom and pydicom. Foreign readers: tests/interop."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from uuid import UUID

import numpy as np
import pytest
from highdicom.sr import srread
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from overread.dicom.sr import HighdicomSrWriter
from overread.domain.analysis import (
    AnalysisOutcome,
    Finding,
    InstanceProblem,
    Measurement,
    NotAssessed,
    QualityAssessment,
    TriageDecision,
)
from overread.domain.errors import InvalidDicom
from overread.domain.evidence import ModelIdentity
from overread.domain.image import BoundingBox
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.domain.texts import DISCLAIMER, NO_FINDING
from overread.services.values import SrRequest

IMAGE_UID = "1.2.826.0.1.3680043.8.498.1.1"
CHEST = ModelIdentity(name="chest_xray", version="1.0.0", sha256="c0ffee")
WHEN = datetime(2026, 5, 1, 10, 30, tzinfo=UTC)
TRACKING = "2.25.77"


def image_file(**changes: object) -> bytes:
    """A 40 x 30 radiograph; `changes` by keyword, None to leave an attribute out."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    ds.SOPInstanceUID = IMAGE_UID
    ds.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    ds.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.1.2"
    ds.PatientID = "P-1"
    ds.IssuerOfPatientID = "HOSPITAL"
    ds.PatientName = "Müller^Jürgen"
    ds.PatientBirthDate = "19500229"
    ds.PatientSex = "M"
    ds.StudyDate = "20260501"
    ds.StudyTime = "101500"
    ds.AccessionNumber = "A1"
    ds.StudyID = "7"
    ds.StudyDescription = "Thorax p.a."
    ds.Modality = "CR"
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 30, 40, 1
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = np.zeros((30, 40), np.uint8).tobytes()
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    ds.file_meta.MediaStorageSOPInstanceUID = IMAGE_UID
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


BOXED = Finding(
    id=UUID(int=1),
    finding_type="pneumothorax",
    severity=Level.CRITICAL,
    confidence=0.9123,
    sop_instance_uid=IMAGE_UID,
    bounding_box=BoundingBox(x=3, y=4, width=10, height=20),
    description="Pneumothorax, confidence 0.91. Exploratory.",
    model=CHEST,
)
OUTCOME = AnalysisOutcome(
    modality=Modality.XRAY,
    body_part="CHEST",
    findings=(BOXED, replace(BOXED, id=UUID(int=2), finding_type="cardiomegaly", bounding_box=None, exploratory=False)),
    not_assessed=(
        NotAssessed(finding_type="rib_fracture", name="Rib fracture", reason="no installed model looks for it"),
    ),
    assessed=("pneumothorax", "cardiomegaly"),
    quality=QualityAssessment(level=None, score=None),
    triage=TriageDecision(urgency=Level.ROUTINE, reason="Routine: pneumothorax 0.91 is exploratory"),
    models=(CHEST,),
    problems=(InstanceProblem(instance="b.dcm", code="INVALID_DICOM", message="b.dcm is cut off."),),
)
EMPTY = replace(OUTCOME, findings=(), problems=())


def write(outcome: AnalysisOutcome = OUTCOME, *evidence: bytes) -> bytes:
    return HighdicomSrWriter().write(
        SrRequest(
            analysis_id=UUID(int=9),
            outcome=outcome,
            evidence=evidence or (image_file(),),
            sop_instance_uid="2.25.100",
            series_instance_uid="2.25.101",
            completed_at=WHEN,
            tracking_uids={UUID(int=1): TRACKING},
        )
    )


def texts_named(ds: Dataset, value: str) -> list[str]:
    """All text and code values under the root's Qualitative Evaluations with this concept name."""
    (container,) = [i for i in ds.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "C0034375"]
    return [
        i.TextValue if i.ValueType == "TEXT" else i.ConceptCodeSequence[0].CodeMeaning
        for i in container.ContentSequence
        if i.ConceptNameCodeSequence[0].CodeValue == value
    ]


def test_it_is_a_preliminary_document_of_its_own_series_in_the_patients_study():
    ds = dcmread(BytesIO(write()))
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34", "Comprehensive 3D SR"
    assert (ds.CompletionFlag, ds.VerificationFlag, ds.PreliminaryFlag) == ("PARTIAL", "UNVERIFIED", "PRELIMINARY")
    assert (ds.SOPInstanceUID, ds.SeriesInstanceUID) == ("2.25.100", "2.25.101")
    assert ds.StudyInstanceUID == "1.2.826.0.1.3680043.8.498.1"
    assert (ds.Manufacturer, ds.ManufacturerModelName, ds.Modality) == ("Overread", "Overread", "SR")
    assert str(ds.PatientName) == "Müller^Jürgen"
    assert (ds.PatientID, ds.IssuerOfPatientID, ds.AccessionNumber) == ("P-1", "HOSPITAL", "A1")
    local = WHEN.astimezone()
    assert ds.ContentDate == local.strftime("%Y%m%d")
    assert ds.ContentTime.startswith(local.strftime("%H%M%S"))
    assert ds.InstanceCreationDate == ds.ContentDate
    (study,) = ds.CurrentRequestedProcedureEvidenceSequence
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == IMAGE_UID
    assert ds.ContentTemplateSequence[0].TemplateIdentifier == "1500"


def test_a_finding_with_a_box_is_a_planar_region_with_its_code_algorithm_and_certainty():
    report = srread(BytesIO(write())).content
    (group,) = report.get_planar_roi_measurement_groups()
    assert group.finding_type.value == "36118008"
    assert group.tracking_uid == TRACKING
    assert group.tracking_identifier == "Overread finding 1"
    assert group.roi.value.tolist() == [[3, 4], [13, 4], [13, 24], [3, 24], [3, 4]]
    (number,) = group.get_measurements()
    assert number.name.value == "111012"
    assert number.value == 91.2
    assert number.unit.value == "%"
    items = {i.ConceptNameCodeSequence[0].CodeMeaning: i for i in group[0].ContentSequence}
    assert items["Algorithm Name"].TextValue == "chest_xray"
    assert items["Algorithm Version"].TextValue == "1.0.0"
    assert items["Algorithm Parameters"].TextValue == "sha256:c0ffee"
    assert items["Evidence for the algorithm"].ConceptCodeSequence[0].CodeValue == "exploratory"
    assert items["Comment"].TextValue.startswith("Pneumothorax, confidence 0.91")


def test_a_finding_without_a_box_refers_to_its_image():
    report = srread(BytesIO(write())).content
    (group,) = report.get_image_measurement_groups()
    assert group.finding_type.value == "8186001"
    (source,) = [i for i in group[0].ContentSequence if i.ValueType == "IMAGE"]
    assert source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == IMAGE_UID
    assert group.tracking_uid == "2.25.2", "derived from the finding's id"


def test_what_was_not_assessed_the_urgency_and_the_disclaimer_stand_in_it():
    ds = dcmread(BytesIO(write()))
    assert texts_named(ds, "not_assessed") == [
        "Rib fracture: no installed model looks for it",
        "b.dcm: b.dcm is cut off.",
    ]
    assert texts_named(ds, "assessed") == ["Pneumothorax", "Cardiomegaly"]
    assert texts_named(ds, "urgency") == ["Routine: pneumothorax 0.91 is exploratory"]
    assert texts_named(ds, "disclaimer") == [DISCLAIMER]
    assert texts_named(ds, "121077") == []


def test_without_a_finding_it_says_so_and_never_normal():
    data = write(EMPTY)
    ds = dcmread(BytesIO(data))
    assert texts_named(ds, "121077") == [NO_FINDING]
    assert texts_named(ds, "assessed") == ["Pneumothorax", "Cardiomegaly"]
    assert "Imaging Measurements" not in [i.ConceptNameCodeSequence[0].CodeMeaning for i in ds.ContentSequence]
    assert srread(BytesIO(data)).content.get_planar_roi_measurement_groups() == []
    assert b"ormal" not in data
    unread = write(replace(EMPTY, assessed=(), modality=Modality.CT))
    assert texts_named(dcmread(BytesIO(unread)), "121077") == ["Not assessed: no image was read."]


@pytest.mark.parametrize(
    ("modality", "body_part", "code"),
    [
        (Modality.XRAY, "CHEST", "399208008"),
        (Modality.XRAY, "HAND", "168537006"),
        (Modality.CT, None, "77477000"),
        (Modality.MRI, None, "113091000"),
        (Modality.ULTRASOUND, None, "16310003"),
        (None, None, "363679005"),
    ],
)
def test_the_procedure_reported(modality, body_part, code):
    ds = dcmread(BytesIO(write(replace(EMPTY, modality=modality, body_part=body_part))))
    (procedure,) = [i for i in ds.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "121058"]
    assert procedure.ConceptCodeSequence[0].CodeValue == code


def test_missing_and_invalid_attributes_of_the_source_become_valid():
    broken = image_file(PatientID=None, PatientName=None, PatientBirthDate="", PatientSex=None, StudyDate=None)
    ds = dcmread(BytesIO(write(OUTCOME, broken)))
    assert ds.PatientID is None or ds.PatientID == ""
    assert not ds.PatientSex
    assert not ds.StudyDate
    bare = image_file(StudyInstanceUID=None, SeriesInstanceUID=None, StudyTime=None, AccessionNumber=None, StudyID=None)
    assert dcmread(BytesIO(write(OUTCOME, bare))).StudyInstanceUID.startswith("2.25.")


@pytest.mark.filterwarnings("ignore")
def test_values_that_break_the_rules_are_shortened_or_left_out():
    rude = image_file(
        PatientSex="X",
        PatientName="A" * 100 + "^B^C^D^E^F^G",
        PatientBirthDate="1.1.1970",
        StudyTime="25:99",
        StudyID="S" * 30,
        PatientAge="about 40",
        StudyDescription="d" * 100,
    )
    ds = dcmread(BytesIO(write(OUTCOME, rude)))
    assert not ds.PatientSex
    assert str(ds.PatientName) == "A" * 64
    assert not ds.PatientBirthDate
    assert not ds.StudyTime
    assert ds.StudyID == "S" * 16
    assert "PatientAge" not in ds
    assert len(ds.StudyDescription) == 64


def test_a_name_of_one_component_is_kept_without_a_warning():
    assert str(dcmread(BytesIO(write(OUTCOME, image_file(PatientName="Διονυσιος")))).PatientName) == "Διονυσιος"


def test_an_undeclared_character_set_is_read_as_it_was_meant():
    latin = image_file(SpecificCharacterSet=None, PatientName=None).replace(
        b"HOSPITAL", "M\xfcnchen ".encode("latin-1")
    )
    ds = dcmread(BytesIO(write(OUTCOME, latin)))
    assert ds.SpecificCharacterSet == "ISO_IR 192"
    assert ds.IssuerOfPatientID == "München"


def test_two_patients_in_one_study_leave_the_patient_empty():
    other = image_file(PatientID="P-2", SOPInstanceUID="1.2.826.0.1.3680043.8.498.1.9")
    ds = dcmread(BytesIO(write(OUTCOME, image_file(), other)))
    assert not ds.PatientID
    assert not ds.PatientName
    assert "IssuerOfPatientID" not in ds
    assert "more than one patient" in texts_named(ds, "121106")[0]


def test_unreadable_evidence_is_left_out_and_without_any_there_is_no_report():
    assert len(srread(BytesIO(write(OUTCOME, b"", image_file()))).content.get_planar_roi_measurement_groups()) == 1
    with pytest.raises(InvalidDicom, match="no image"):
        write(OUTCOME, b"not DICOM at all")


def test_a_finding_of_an_image_that_is_not_among_the_evidence_keeps_its_code_without_a_region():
    elsewhere = replace(OUTCOME, findings=(replace(BOXED, sop_instance_uid="1.2.3"),))
    report = srread(BytesIO(write(elsewhere))).content
    assert report.get_planar_roi_measurement_groups() == []


def test_private_sop_classes_own_findings_classical_methods_and_measurements():
    private = image_file(SOPClassUID="1.2.3.4.5")
    ring = replace(BOXED, finding_type="gall_stone_with_ring", model=None, method="hounsfield")
    size = Measurement(
        id=UUID(int=5), measurement_type="diameter", value=12.5, unit="mm", method="automated", finding_id=ring.id
    )
    report = srread(BytesIO(write(replace(OUTCOME, findings=(ring,), measurements=(size,)), private))).content
    (group,) = report.get_planar_roi_measurement_groups()
    assert (group.finding_type.value, group.finding_type.scheme_designator) == ("gall_stone_with_ring", "99OVERREAD")
    assert [m.value for m in group.get_measurements()] == [91.2, 12.5]
    names = [
        i for i in group[0].ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == codes.DCM.AlgorithmName.value
    ]
    assert names[0].TextValue == "hounsfield"


def test_a_box_at_the_edge_stays_within_the_image():
    edge = replace(BOXED, bounding_box=BoundingBox(x=35, y=20, width=10, height=20))
    (group,) = srread(BytesIO(write(replace(OUTCOME, findings=(edge,))))).content.get_planar_roi_measurement_groups()
    assert group.roi.value.max(axis=0).tolist() == [40, 30]
