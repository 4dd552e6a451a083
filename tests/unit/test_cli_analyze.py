"""`overread analyze` on real files with small fake models: formats, exit status, what is written."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from typer.testing import CliRunner

from overread.cli_analyze import analyze, command
from overread.domain.errors import InferenceError, OverreadError
from overread.domain.evidence import InputSpec, Interval, ModelIdentity, OutputEvidence
from overread.domain.texts import DISCLAIMER
from overread.pipeline.ports import Model, Prediction

SPEC = InputSpec(name="image", rows=32, columns=32, channels=1, mean=(0.0,), std=(1.0,))
WEAK = Interval(value=0.71, low=0.62, high=0.79)
#: Grey levels of the middle of a test image, and what the fake models make of them.
PTX, EMPTY, LATERAL, BROKEN = 60, 120, 180, 220


class FakeModel:
    def __init__(self, name: str, outputs: tuple[str, ...], answers: dict[int, tuple[float, ...]]) -> None:
        self.identity = ModelIdentity(name=name, version="1.0.0", sha256="ab")
        self.input = SPEC
        self.outputs = tuple(
            OutputEvidence(
                finding=finding, threshold_show=0.5, threshold_raise=0.7, slope=1.0, intercept=0.0, sensitivity=WEAK,
                specificity=WEAK, auc=WEAK, cues_auc=0.6, patients=100, images=120, positives=40,
            )
            for finding in outputs
        )  # fmt: skip
        self.answers = answers
        self.calls = 0

    def predict(self, tensor: NDArray[np.float32]) -> Prediction:
        self.calls += 1
        grey = 255 * float(np.median(tensor))
        answer = next((a for level, a in self.answers.items() if abs(level - grey) < 15), None)
        if answer is None:
            raise InferenceError("The model failed.")
        p = np.asarray(answer).clip(1e-6, 1 - 1e-6)
        maps = np.zeros((len(answer), 8, 8), dtype=np.float32)
        maps[:, 2:4, 2:4] = 1.0
        return Prediction(logits=np.log(p / (1 - p)).astype(np.float32), maps=maps)


class Shelf:
    def __init__(self) -> None:
        views = ("chest_frontal", "chest_lateral", "other_radiograph", "not_radiograph")
        frontal = (0.97, 0.01, 0.01, 0.01)
        answers = {PTX: frontal, EMPTY: frontal, LATERAL: (0.01, 0.97, 0.01, 0.01), BROKEN: frontal}
        chest = {PTX: (0.91, 0.3), EMPTY: (0.02, 0.1)}
        self.models: dict[str, FakeModel] = {
            "radiograph_view": FakeModel("radiograph_view", views, answers),
            "chest_xray": FakeModel("chest_xray", ("pneumothorax", "pleural_effusion"), chest),
        }

    def find(self, task: str) -> Model | None:
        return self.models.get(task)


@pytest.fixture(autouse=True)
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    the_shelf = Shelf()

    @contextmanager
    def open_shelf(_settings: object) -> Iterator[Shelf]:
        yield the_shelf

    monkeypatch.setattr(command, "open_shelf", open_shelf)
    return the_shelf


def run(*arguments: object) -> tuple[int, str, str]:
    """(exit status, standard output, standard error)."""
    app = typer.Typer()
    app.command(epilog=command.EPILOG)(analyze)
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(done.exception, OverreadError):
        # What `overread.cli.main` does with it.
        return 2, done.stdout, f"{done.exception.code}: {done.exception}"
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def pixels(grey: int, side: int = 96) -> NDArray[np.uint8]:
    array = np.full((side, side), grey, dtype=np.uint8)
    array[0], array[-1] = 0, 255
    return array


def png(path: Path, grey: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(grey)).save(path)
    return path


def dicom(path: Path, grey: int, study: str = "1.2.3", instance: str = "1.2.3.1", **changes: object) -> Path:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", instance
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, f"{study}.9"
    ds.PatientID, ds.PatientName, ds.Modality = "P-7", "Doe^Jane", "CR"
    ds.Rows = ds.Columns = 96
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.PixelData = pixels(grey).tobytes()
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return path


def test_one_dicom_file_is_one_analysis_result(tmp_path: Path) -> None:
    status, out, err = run(dicom(tmp_path / "a.dcm", PTX), "--format", "json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert result["studyId"] == "1.2.3"
    assert result["patientId"] == "P-7"
    assert result["status"] == "completed"
    assert result["modality"] == "X-ray"
    assert result["bodyPart"] == "CHEST"
    assert result["modelVersion"] == "radiograph_view 1.0.0, chest_xray 1.0.0"
    assert result["processingTime"] > 0
    (finding,) = result["findings"]
    assert finding["findingType"] == "pneumothorax"
    assert finding["exploratory"] is True
    assert finding["boundingBox"]["width"] > 0
    assert result["priority"] == "routine"
    (image,) = result["images"]
    assert image["file"] == "a.dcm"
    assert image["view"] == "chest_frontal"
    assert image["scores"] == {"pneumothorax": 0.91, "pleural_effusion": 0.3}
    assert any(n["findingType"] == "rib_fracture" for n in result["notAssessed"])


def test_a_folder_of_pictures_is_a_list_with_scores_of_each(tmp_path: Path, shelf: Shelf) -> None:
    for number in range(6):
        png(tmp_path / "x" / f"{number}.png", PTX if number % 2 else EMPTY)
    (tmp_path / "x" / "labels.csv").write_text("image,label\n")
    status, out, err = run(tmp_path / "x", "--format", "json")
    assert status == 0
    assert err.startswith("note: labels.csv is no DICOM file and was left out.")
    answer = json.loads(out)
    assert [a["studyId"] for a in answer["analyses"]] == [f"{n}.png" for n in range(6)]
    assert [a["images"][0]["scores"]["pneumothorax"] for a in answer["analyses"]] == [0.02, 0.91] * 3
    assert answer["problems"] == []
    assert shelf.models["chest_xray"].calls == 6


def test_files_of_one_study_belong_together_wherever_they_lie(tmp_path: Path) -> None:
    dicom(tmp_path / "a" / "1", PTX, "1.5", "1.5.1")
    dicom(tmp_path / "b" / "2", LATERAL, "1.5", "1.5.2")
    dicom(tmp_path / "b" / "3", PTX, "1.5", "1.5.1")
    dicom(tmp_path / "c" / "4", EMPTY, "1.6", "1.6.1")
    _, out, _ = run(tmp_path, "--format", "json")
    both = {a["studyId"]: a for a in json.loads(out)["analyses"]}
    assert set(both) == {"1.5", "1.6"}
    assert [i["file"] for i in both["1.5"]["images"]] == ["a/1", "b/2"], "the same instance is read once"
    assert both["1.5"]["images"][1]["notAssessed"] == "a lateral view, and only frontal chest radiographs are read"


def test_a_zip(tmp_path: Path) -> None:
    inside = dicom(tmp_path / "a.dcm", PTX)
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.write(inside, "deep/a.dcm")
        archive.writestr("DICOMDIR", b"x")
    status, out, _ = run(tmp_path / "s.zip", "--format", "json")
    assert status == 0
    assert json.loads(out)["images"][0]["file"] == "s.zip/deep/a.dcm"


def test_good_and_bad_together(tmp_path: Path) -> None:
    whole = dicom(tmp_path / "good.dcm", PTX).read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:-500])
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    status, out, err = run(tmp_path, "--format", "json")
    assert status == 2
    result = json.loads(out)
    assert result["status"] == "completed"
    assert {p["instance"]: p["code"] for p in result["problems"]} == {
        "cut.dcm": "PIXEL_DATA_MISMATCH",
        "empty.dcm": "INVALID_DICOM",
        "picture.png": "INVALID_DICOM",
    }
    lines = err.splitlines()
    assert len(lines) == 3
    assert any(line.startswith("PIXEL_DATA_MISMATCH: cut.dcm is cut off") for line in lines)


def test_only_bad_input(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"nothing that anybody knows" * 20)
    status, out, err = run(tmp_path / "a.bin", "--format", "json")
    assert status == 2
    assert json.loads(out)["analyses"] == []
    assert json.loads(out)["problems"][0]["code"] == "INVALID_DICOM"
    assert err.startswith("INVALID_DICOM: a.bin is not DICOM")
    assert run(tmp_path / "a.bin")[0] == 2


def test_what_is_no_error_among_images_is_one_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    status, _, err = run(tmp_path / "notes.txt")
    assert (status, err.split(":")[0]) == (2, "UNSUPPORTED_FILE")
    report = dicom(tmp_path / "sr" / "r.dcm", PTX, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.34", Modality="SR")
    status, _, err = run(report)
    assert status == 2
    assert err.startswith("NO_PIXEL_DATA: r.dcm holds no image to analyse")


def test_many_files_without_an_image_are_counted(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text("hello")
    status, _, err = run(png(tmp_path / "a.png", EMPTY).parent)
    assert (status, err) == (0, "note: 9 files hold no image to analyse and were left out.\n")


def test_a_missing_path_and_an_empty_folder(tmp_path: Path) -> None:
    status, _, err = run(tmp_path / "nowhere")
    assert status == 2
    assert "There is no file or folder" in err
    (tmp_path / "void").mkdir()
    status, _, err = run(tmp_path / "void")
    assert status == 2
    assert "There is no file in" in err


def test_an_image_that_cannot_be_decoded_fails_its_study_with_the_reason(tmp_path: Path) -> None:
    short = dicom(tmp_path / "a" / "short.dcm", PTX, "1.7", "1.7.1", Rows=4000)
    status, out, err = run(short, "--format", "json")
    assert status == 2
    result = json.loads(out)
    assert (result["status"], result["errorCode"]) == ("failed", "PIXEL_DATA_MISMATCH")
    assert err.startswith("PIXEL_DATA_MISMATCH: The only image of the study could not be read: short.dcm")
    dicom(tmp_path / "a" / "whole.dcm", PTX, "1.7", "1.7.2")
    status, out, _ = run(tmp_path / "a", "--format", "json")
    assert status == 2
    assert json.loads(out)["status"] == "completed", "the rest of the study is analysed"


def test_two_patients_in_one_study_are_read_and_said(tmp_path: Path) -> None:
    dicom(tmp_path / "1.dcm", PTX, "1.8", "1.8.1")
    dicom(tmp_path / "2.dcm", PTX, "1.8", "1.8.2", PatientID="P-8")
    status, out, err = run(tmp_path, "--format", "json", "--out", tmp_path / "out")
    assert status == 2
    assert err.startswith("PATIENT_CONFLICT: 2.dcm names another patient")
    assert len(json.loads(out)["findings"]) == 2
    assert not dcmread(tmp_path / "out" / "1.8.sr.dcm").PatientID


def test_a_model_that_fails_is_said(tmp_path: Path) -> None:
    status, out, err = run(png(tmp_path / "a.png", BROKEN))
    assert status == 2
    assert "Failed (INFERENCE_ERROR)" in out
    assert err == "INFERENCE_ERROR: The model failed.\n"


def test_text_says_it_in_plain_words(tmp_path: Path) -> None:
    status, out, _ = run(png(tmp_path / "a.png", PTX))
    assert status == 0
    for words in (
        "Routine: pneumothorax 0.91 is exploratory",
        "Pneumothorax",
        "0.91",
        "exploratory, changes no order",
        "sensitivity 0.71 (0.62 to 0.79)",
        "Assessed: Pneumothorax, Pleural effusion",
        "Not assessed (no installed model looks for it)",
        "Quality: ",
        DISCLAIMER,
    ):
        assert words in out
    assert "ormal" not in out
    assert "No finding among those assessed." in run(png(tmp_path / "b.png", EMPTY))[1]
    lateral = run(png(tmp_path / "c.png", LATERAL))[1]
    assert "Not assessed (a lateral view, and only frontal chest radiographs are read): c.png" in lateral


def test_several_studies_are_a_table(tmp_path: Path) -> None:
    for name, grey in (("a.png", PTX), ("b.png", EMPTY), ("c.png", LATERAL), ("d.png", BROKEN)):
        png(tmp_path / name, grey)
    status, out, _ = run(tmp_path)
    assert status == 2
    assert "Pneumothorax 0.91*" in out
    assert "No finding among those assessed." in out
    assert "Not assessed: a lateral view" in out
    assert "failed: The model failed." in out
    assert DISCLAIMER in out


def test_tags_given_on_the_command_line_are_used_where_the_file_has_none(tmp_path: Path) -> None:
    picture = png(tmp_path / "a.png", PTX)
    ultrasound = json.loads(run(picture, "--modality", "Ultrasound", "--format", "json")[1])
    assert ultrasound["notAssessed"][0]["reason"] == "no analyser is installed for ultrasound yet"
    assert ultrasound["modality"] == "Ultrasound"
    hand = json.loads(run(picture, "--modality", "X-ray", "--body-part", "hand", "--format", "json")[1])
    assert "its tags say modality DX, body part HAND" in hand["notAssessed"][0]["reason"]
    own = json.loads(run(dicom(tmp_path / "b.dcm", PTX), "--modality", "CT", "--format", "json")[1])
    assert own["modality"] == "X-ray", "the file's own tag counts"


def test_out_writes_result_pictures_and_report(tmp_path: Path) -> None:
    dicom(tmp_path / "in" / "a.dcm", PTX)
    png(tmp_path / "in" / "b.png", EMPTY)
    png(tmp_path / "in" / "deep" / "b.png", LATERAL)
    status, _, _ = run(tmp_path / "in", "--out", tmp_path / "out")
    assert status == 0
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"result.json", "a.png", "b.png", "1.2.3.sr.dcm"}
    assert len(json.loads((tmp_path / "out" / "result.json").read_text())["analyses"]) == 3
    with Image.open(tmp_path / "out" / "a.png") as overlay:
        assert overlay.mode == "RGB"
    report = dcmread(tmp_path / "out" / "1.2.3.sr.dcm")
    assert (report.Modality, report.PatientID) == ("SR", "P-7")


def test_out_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    status, _, err = run(png(tmp_path / "a.png", PTX), "--out", tmp_path / "file")
    assert status == 2
    assert err.startswith("SETUP_ERROR: Cannot write to")


def test_names_that_collide_are_numbered(tmp_path: Path) -> None:
    png(tmp_path / "in" / "x" / "b.png", EMPTY)
    png(tmp_path / "in" / "x_b.png", EMPTY)
    run(tmp_path / "in", "--out", tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"x_b.png", "x_b_2.png"}


def test_sections_are_decoded_and_not_assessed_once(tmp_path: Path) -> None:
    for number in range(3):
        dicom(tmp_path / str(number), PTX, "1.9", f"1.9.{number + 1}", Modality="MR")
    status, out, _ = run(tmp_path, "--format", "json", "--out", tmp_path / "out")
    assert status == 0
    result = json.loads(out)
    assert [n["reason"] for n in result["notAssessed"]] == ["no analyser is installed for MRI yet"]
    assert (tmp_path / "out" / "1.9.sr.dcm").exists()


def test_help_has_examples() -> None:
    status, out, _ = run("--help")
    assert status == 0
    assert "overread analyze chest.dcm" in out.replace("\n", " ")
    assert "--body-part" in out
