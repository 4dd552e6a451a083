"""Foreign eyes on our structured reports: DCMTK's `dsrdump` reads them, dicom3tools' `dciodvfy` validates them.

In CI a missing tool fails the run; elsewhere it skips.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from overread.dicom.sr import HighdicomSrWriter
from overread.domain.analysis import AnalysisOutcome, Finding, NotAssessed, QualityAssessment, TriageDecision
from overread.domain.evidence import ModelIdentity
from overread.domain.image import BoundingBox
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.domain.texts import DISCLAIMER, NO_FINDING
from overread.services.values import SrRequest

#: Lines of `dciodvfy` that are no fault of ours, each with its reason. None is known.
ALLOWED: tuple[str, ...] = ()

FINDING = Finding(
    id=UUID(int=1),
    finding_type="pneumothorax",
    severity=Level.CRITICAL,
    confidence=0.912,
    sop_instance_uid="1.2.826.0.1.3680043.8.498.1.1",
    bounding_box=BoundingBox(x=3, y=4, width=10, height=20),
    description="Pneumothorax, confidence 0.91.",
    model=ModelIdentity(name="chest_xray", version="1.0.0", sha256="c0ffee"),
)
WITHOUT_BOX = Finding(
    id=UUID(int=2),
    finding_type="pleural_thickening",
    severity=Level.ROUTINE,
    confidence=0.5,
    sop_instance_uid="1.2.826.0.1.3680043.8.498.1.1",
    method="threshold",
)


def tool(name: str) -> str:
    """The tool's path. Python wheels put theirs beside the interpreter."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed: in CI a missing peer is an error")
        pytest.skip(f"{name} is not installed")
    return found


def outcome(*findings: Finding) -> AnalysisOutcome:
    return AnalysisOutcome(
        modality=Modality.XRAY,
        body_part="CHEST",
        findings=findings,
        not_assessed=(NotAssessed(finding_type="rib_fracture", name="Rib fracture", reason="no model looks for it"),),
        assessed=("pneumothorax", "pleural_thickening"),
        quality=QualityAssessment(level=None, score=None),
        triage=TriageDecision(urgency=Level.ROUTINE, reason="Routine: pneumothorax 0.91 is exploratory"),
    )


def image(*, bare: bool) -> bytes:
    """A radiograph, whole or with hardly any attribute of patient and study."""
    ds = Dataset()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    ds.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.1.1"
    if not bare:
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.1.2"
        ds.PatientID, ds.PatientName, ds.PatientSex = "P-1", "山田^太郎", "M"
        ds.PatientBirthDate, ds.StudyDate, ds.StudyTime = "19500228", "20260501", "101500.5"
        ds.AccessionNumber, ds.StudyID, ds.StudyDescription, ds.Modality = "A1", "7", "Thorax p.a.", "CR"
        ds.ReferringPhysicianName = "Referrer^Ann"
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 30, 40, 1
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation, ds.PhotometricInterpretation = 7, 0, "MONOCHROME2"
    ds.PixelData = np.zeros((30, 40), np.uint8).tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(params=["findings", "no finding", "bare source"])
def report(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    found = () if request.param == "no finding" else (FINDING, WITHOUT_BOX)
    data = HighdicomSrWriter().write(
        SrRequest(
            analysis_id=UUID(int=9),
            outcome=outcome(*found),
            evidence=[image(bare=request.param == "bare source")],
            sop_instance_uid="2.25.100",
            series_instance_uid="2.25.101",
            completed_at=datetime(2026, 5, 1, 10, 30, tzinfo=UTC),
            tracking_uids={},
        )
    )
    path = tmp_path / f"{request.param.replace(' ', '_')}.dcm"
    path.write_bytes(data)
    return path


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_dciodvfy_finds_no_error(report: Path) -> None:
    done = run(tool("dciodvfy"), "-new", str(report))
    lines = (done.stdout + done.stderr).splitlines()
    assert [x for x in lines if x.startswith("Error") and not any(a in x for a in ALLOWED)] == []
    assert any("Comprehensive3DSR" in x.replace(" ", "") for x in lines), "it recognised the object"


def test_dsrdump_reads_it(report: Path) -> None:
    done = run(tool("dsrdump"), "+U8", "+Pl", "+Pc", str(report))
    assert done.returncode == 0, done.stderr
    assert "E:" not in done.stderr, done.stderr
    text = done.stdout
    assert "Comprehensive 3D SR Document" in text
    assert "PARTIAL" in text
    assert "UNVERIFIED" in text
    assert DISCLAIMER in text
    assert "Rib fracture: no model looks for it" in text
    if report.stem == "no_finding":
        assert NO_FINDING in text
        return
    assert '(121071,DCM,"Finding")=(36118008,SCT,"Pneumothorax")' in text
    assert '(121071,DCM,"Finding")=(pleural_thickening,99OVERREAD,"Pleural thickening")' in text
    assert 'SCOORD:(111030,DCM,"Image Region")=(POLYLINE,3/4,13/4,13/24,3/24,3/4)' in text
    assert '(111012,DCM,"Certainty of Finding")="91.2" (%,UCUM,"Percent")' in text
    assert '(111002,DCM,"Algorithm Parameters")="sha256:c0ffee"' in text
