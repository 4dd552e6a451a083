"""Foreign eyes on our SEG and on the SR that refers to it: dicom3tools' `dciodvfy`, DCMTK's `dsrdump` and `dcmdump`.

In CI a missing tool fails the run; elsewhere it skips.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from tests.interop.test_sr_dcmtk import run, tool
from tests.segmented import NODULE_ID, WHEN, boxes, lung, nodule, outcome, request_of, series
from tests.unit.ct_series import enhanced, files

from overread.dicom.seg import HighdicomSegWriter
from overread.dicom.series import volumes_of
from overread.dicom.sr import HighdicomSrWriter
from overread.services.values import SegReference, SrRequest

#: Lines of `dciodvfy` that are no fault of ours, each with its reason. None is known.
ALLOWED: tuple[str, ...] = ()


def errors(path: Path) -> tuple[list[str], str]:
    """Lines that say Error, and all of the output."""
    done = run(tool("dciodvfy"), "-new", str(path))
    text = done.stdout + done.stderr
    lines = [line for line in text.splitlines() if line.startswith("Error")]
    return [line for line in lines if not any(known in line for known in ALLOWED)], text


@pytest.fixture(params=["slices", "enhanced"])
def seg(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A SEG with a lung and a nodule, of single slices or of one enhanced image."""
    if request.param == "slices":
        stored, made = series()
    else:
        made = files([enhanced([(0, 0, z) for z in range(0, 24, 2)])])
        stored = volumes_of(made).main()
    one, other = boxes(stored)
    path = tmp_path / f"{request.param}.dcm"
    path.write_bytes(
        HighdicomSegWriter().write(request_of([lung(stored, one), nodule(stored, other)], stored, made[0][1]))
    )
    return path


def test_dciodvfy_finds_no_error_in_the_seg(seg: Path) -> None:
    found, text = errors(seg)
    assert found == []
    assert "Segmentation" in text, "it recognised the object"


def test_dcmdump_reads_the_seg(seg: Path) -> None:
    done = run(tool("dcmdump"), "+L", "+P", "PixelData", "+P", "NumberOfFrames", "+P", "SegmentLabel", str(seg))
    assert done.returncode == 0, done.stderr
    assert "[Right lung]" in done.stdout
    assert "[9]" in done.stdout, "frames"


@pytest.fixture(params=["with its SEG", "without"])
def report(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The SR of a CT with a nodule and measured lungs."""
    stored, made = series()
    uid = stored.sop_instance_uids[4]
    reference = SegReference(
        sop_instance_uid="2.25.10",
        series_instance_uid="2.25.11",
        source_series_uid=stored.series_instance_uid,
        findings={NODULE_ID: 2},
        organs={"lung_right": 1},
    )
    path = tmp_path / f"{request.param.replace(' ', '_')}.dcm"
    path.write_bytes(
        HighdicomSrWriter().write(
            SrRequest(
                analysis_id=UUID(int=9),
                outcome=outcome(uid),
                evidence=[made[list(np.array(stored.sop_instance_uids)).index(uid)][1]],
                sop_instance_uid="2.25.100",
                series_instance_uid="2.25.101",
                completed_at=WHEN,
                tracking_uids={NODULE_ID: "2.25.99"},
                segmentation=reference if request.param == "with its SEG" else None,
            )
        )
    )
    return path


def test_dciodvfy_finds_no_error_in_the_report(report: Path) -> None:
    found, text = errors(report)
    assert found == []
    assert "Comprehensive3DSR" in text.replace(" ", "")


def test_dsrdump_reads_measurements_units_sites_and_segments(report: Path) -> None:
    done = run(tool("dsrdump"), "+U8", "+Pl", "+Pc", str(report))
    assert done.returncode == 0, done.stderr
    assert "E:" not in done.stderr, done.stderr
    text = done.stdout
    assert '(103339001,SCT,"Long axis")="8.25" (mm,UCUM,"millimeter")' in text
    assert '(118565006,SCT,"Volume")="2890.125" (mL,UCUM,"milliliter")' in text
    assert '(laa_950,99OVERREAD,"Share of lung below -950 HU")="1.5" (%,UCUM,"Percent")' in text
    assert '(363698007,SCT,"Finding Site")=(39607008,SCT,"Lung")' in text
    assert '(272741003,SCT,"Laterality")=(24028007,SCT,"Right")' in text
    assert '(370129005,SCT,"Measurement Method")=(voxel_count,99OVERREAD,"voxel count")' in text
    referred = '(121191,DCM,"Referenced Segment")' in text
    assert referred == (report.stem == "with_its_SEG")
    assert ("SCOORD" in text) != referred, "without a segment the box in the image says where"
