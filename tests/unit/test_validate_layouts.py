"""Each layout of a data set: boxes, outlines, lengths, words, 0/1 columns, DICOM series. All images are made here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from tests.unit.ct_series import PIXEL, ct, files
from tests.unit.test_validate_command import run

from overread import bootstrap
from overread.cli_validate.inventory import describe
from overread.cli_validate.reading import AnalyserReader, answer_of, image_affine, on_grid
from overread.dicom.create import encode
from overread.dicom.seg_read import key_of, read_segmentation
from overread.domain.analysis import Finding, Measurement
from overread.domain.catalogue import Code
from overread.domain.errors import InvalidDicom
from overread.domain.evidence import ModelIdentity
from overread.domain.image import GreyImage, ImageHeader, ImageInstance
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.domain.segment import Segment, cut_out
from overread.domain.volume import Volume
from overread.pipeline.analysers.contract import ReadingContext, VolumeReading

CODE = Code(value="1", scheme="99TEST", meaning="Test")


class DiscAnalyser:
    """Outlines what is bright, and measures how wide it is."""

    identity = ModelIdentity(name="discs", version="0.1.0")
    modality = Modality.ULTRASOUND

    def read_image(self, instance: ImageInstance, context: ReadingContext) -> VolumeReading:
        image = instance.image
        bright = image.pixels > 0.75
        if image.pixels[0, 0] > 0.5:
            return VolumeReading(refused="it is no disc")
        segments: tuple[Segment, ...] = ()
        measurements: tuple[Measurement, ...] = ()
        if bright.any():
            segments = (
                Segment(key="disc", name="Disc", code=CODE, mask=bright[None].copy(), affine=image_affine(image)),
            )
            if image.spacing_mm is not None:
                wide = float(bright.any(axis=0).sum()) * image.spacing_mm[1]
                measurements = (
                    Measurement(id=context.new_id(), measurement_type="width", value=wide, unit="mm", method="test"),
                )
        return VolumeReading(segments=segments, measurements=measurements)


@pytest.fixture(autouse=True)
def analysers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OVERREAD_MODELS", str(tmp_path / "none"))
    monkeypatch.setattr(bootstrap, "analysers", lambda: (DiscAnalyser(), BlockAnalyser()))


def disc(diameter: int, *, shift: int = 0, side: int = 64) -> NDArray[np.bool_]:
    y, x = np.mgrid[:side, :side]
    return np.asarray((y - side / 2) ** 2 + (x - side / 2 - shift) ** 2 <= (diameter / 2) ** 2)


def save(path: Path, mask: NDArray[np.bool_]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 200 + (0 if "masks" in path.parts else 20)).save(path)


def nothing(path: Path) -> None:
    """Dark all over, but not constant."""
    grey = np.full((64, 64), 20, np.uint8)
    grey[40:] = 40
    Image.fromarray(grey).save(path)


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    """As `fetal_ultrasound` and `breast_ultrasound` are: outlines, a length, a spacing; one image shows nothing."""
    folder = tmp_path / "discs"
    lines = ["image,pixel_spacing_mm,width_mm,label"]
    for i, (diameter, shift) in enumerate(((20, 0), (24, 0), (30, 4), (0, 0), (12, 0))):
        save(folder / "images" / f"{i}.png", disc(diameter, shift=shift))
        save(folder / "masks" / f"{i}.png", disc(diameter) if diameter else np.zeros((64, 64), bool))
        lines.append(f"{i}.png,0.5,{(diameter + 1) * 0.5 if diameter else ''},{'benign' if diameter else 'normal'}")
    nothing(folder / "images" / "3.png")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def figures(*arguments: object) -> dict[str, Any]:
    status, out, err = run(*arguments, "--json", "--rounds", "100")
    assert (status, err) == (0, ""), err
    return dict(json.loads(out))


def test_outlines_and_lengths(discs: Path, tmp_path: Path) -> None:
    page, kept = tmp_path / "r.html", tmp_path / "s.json"
    result = figures(discs, "--model", "discs", "--report", page, "--scores", kept)
    found = result["outlines"]["outline"]
    assert (found["n"], found["missed"], found["without"], found["drawn_where_none"]) == (4, 0, 1, 0)
    moved, true = disc(30, shift=4), disc(30)
    expected = 2 * (moved & true).sum() / (moved.sum() + true.sum())
    assert found["worst"][0]["image"] == "2.png" and found["worst"][0]["dice"] == pytest.approx(expected)
    assert found["dice"]["value"] == pytest.approx((3 + expected) / 4) and sum(found["dice_histogram"]) == 4
    assert found["worst"][0]["hd95_px"] == pytest.approx(4, abs=0.2)
    assert found["hd95_mm"]["mean"]["value"] == pytest.approx(found["hd95_px"]["mean"]["value"] * 0.5)
    length = result["measurements"]["width_mm"]
    assert (length["n"], length["missed"], length["unit"], length["reason"]) == (4, 0, "mm", None)
    assert length["bias"]["value"] == pytest.approx(0.0) and length["mean_absolute_error"]["value"] == pytest.approx(0)
    text = page.read_text()
    assert "Bland-Altman" in text and "Outlines: outline" in text and "HD95, mm" in text and "nan" not in text
    again = figures(discs, "--model", kept)
    assert again == result
    status, out, _ = run(discs, "--model", "discs", "--rounds", "100")
    assert status == 0 and "Dice 0.9" in out and "limits of agreement" in " ".join(out.split())


def test_without_spacing_there_are_pixels_only(discs: Path) -> None:
    labels = (discs / "labels.csv").read_text().replace("pixel_spacing_mm", "note")
    (discs / "labels.csv").write_text(labels)
    result = figures(discs, "--model", "discs")
    assert result["outlines"]["outline"]["hd95_mm"] is None
    assert result["outlines"]["outline"]["hd95_px"]["n"] == 4
    length = result["measurements"]["width_mm"]
    assert (length["n"], length["missed"]) == (0, 4) and length["bias"] is None and "fewer than two" in length["reason"]


def test_a_missed_outline_counts_as_no_overlap_and_a_refused_image_not_at_all(discs: Path) -> None:
    nothing(discs / "images" / "0.png")
    refused = np.full((64, 64), 250, np.uint8)
    refused[30:] = 0
    Image.fromarray(refused).save(discs / "images" / "1.png")
    result = figures(discs, "--model", "discs")
    found = result["outlines"]["outline"]
    assert (found["n"], found["missed"]) == (3, 1) and found["hd95_px"]["n"] == 2
    assert result["dataset"]["not_assessed"] == [{"image": "1.png", "reason": "it is no disc"}]


def test_a_mask_of_another_size_or_no_picture_is_named(discs: Path) -> None:
    save(discs / "masks" / "0.png", disc(20, side=32))
    (discs / "masks" / "1.png").write_bytes(b"nothing")
    status, out, err = run(discs, "--model", "discs", "--json", "--rounds", "100")
    assert status == 2 and "The mask 0.png is of (32, 32) pixels, 0.png of (64, 64)." in err
    assert "The mask 1.png cannot be read" in err
    assert json.loads(out)["outlines"]["outline"]["n"] == 2


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("image,width_mm\n0.png,wide\n", "what 0.png measures is no number"),
        ("image,width_mm\n0.png,inf\n", "'inf' is no number"),
        ("image,width_mm,pixel_spacing_mm\n0.png,1,0\n", "pixels of 0.png cannot be 0.0 mm apart"),
    ],
)
def test_bad_lengths(discs: Path, labels: str, message: str) -> None:
    (discs / "labels.csv").write_text(labels)
    status, _, err = run(discs, "--model", "discs")
    assert status == 2 and message in err


# --- what a folder holds, for each layout of ../shared/data -------------------------------------------------------


def layout(tmp_path: Path, name: str, labels: str, *, boxes: str = "", masks: bool = False) -> Path:
    folder = tmp_path / name
    for line in labels.splitlines()[1:]:
        image = line.split(",")[0]
        save(folder / "images" / image, disc(20))
        if masks:
            save(folder / "masks" / image, disc(20))
    (folder / "labels.csv").write_text(labels)
    if boxes:
        (folder / "boxes.csv").write_text(boxes)
    return folder


LAYOUTS: dict[str, tuple[dict[str, Any], str]] = {
    "chest_xray": (
        {"labels": "image,findings,follow_up,patient,age,sex,view,pixel_spacing_mm_at_512\n"
                   "a.png,Edema|Effusion,12,61,77,M,AP,0.8\nb.png,No Finding,0,1,4,F,PA,0.7\n",
         "boxes": "image,finding,x,y,width,height\na.png,Effusion,3.5,4,10,10\n"},
        "2 images; labels: findings (Edema, Effusion, No Finding); boxes (boxes.csv).",
    ),
    "fracture_xray": (
        {"labels": "image,fracture,body_part,view,hardware\na.png,0,hand,lateral|oblique,0\n",
         "boxes": "image,finding,x,y,width,height\na.png,fracture,1,1,9,9\n"},
        "1 images; labels: fracture (0/1), hardware (0/1); boxes (boxes.csv).",
    ),
    "head_ct_slices": (
        {"labels": "image,patient,slice,haemorrhage,epidural,fracture\na.png,51,1,0,0,0\nb.png,51,2,1,1,0\n"},
        "2 images; labels: haemorrhage (0/1), epidural (0/1), fracture (0/1).",
    ),
    "head_ct": ({"labels": "image,haemorrhage\na.png,1\n"}, "1 images; labels: haemorrhage (0/1)."),
    "breast_ultrasound": (
        {"labels": "image,label,lesions\na.png,benign,1\nb.png,normal,2\n", "masks": True},
        "2 images; labels: label (benign, normal); outlines (masks/).",
    ),
    "fetal_ultrasound": (
        {"labels": "image,pixel_spacing_mm,head_circumference_mm\na.png,0.08,68.75\n", "masks": True},
        "1 images; labels: head_circumference_mm (measured); outlines (masks/).",
    ),
    "brain_mri": (
        {"labels": "image,label\na.png,glioma\nb.png,notumor\n"}, "2 images; labels: label (glioma, notumor)."
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_is_understood_though_no_model_is_installed(name: str, tmp_path: Path) -> None:
    made, sentence = LAYOUTS[name]
    folder = layout(tmp_path, name, **made)
    assert describe(folder) == f"{name} holds {sentence}"
    status, out, err = run(folder, "--model", f"{name}_model")
    assert (status, out) == (2, "")
    assert f"There is no model package '{name}_model'" in err and f"The data set was understood: {name} holds" in err


def test_what_is_no_data_set_is_said(tmp_path: Path) -> None:
    assert "it has neither images/ nor DICOM series (0 other files)" in describe(tmp_path)
    assert describe(tmp_path / "nowhere").endswith("is no folder.")
    (tmp_path / "images").mkdir()
    assert describe(tmp_path).endswith("holds 0 images; no labels.csv.")
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe")
    assert describe(tmp_path).endswith("a labels.csv that cannot be read.")
    (tmp_path / "labels.csv").write_text("image,age\na.png,3\n")
    assert describe(tmp_path).endswith("a labels.csv without labels.")
    many = "|".join(f"w{i}" for i in range(9))
    (tmp_path / "labels.csv").write_text(f"image,findings\na.png,{many}\n")
    assert describe(tmp_path).endswith("labels: findings (w0, w1, w2, w3, w4, w5 and 3 more).")


# --- DICOM series -------------------------------------------------------------------------------------------------


class BlockAnalyser:
    """Outlines what is denser than -500 HU, calls it the right lung, and finds a nodule where it is denser than 50."""

    identity = ModelIdentity(name="blocks", version="0.2.0")
    modality = Modality.CT

    def read(self, volume: Volume, header: ImageHeader, context: ReadingContext) -> VolumeReading:
        mask = np.asarray(volume.hu > -500)
        if mask.mean() > 0.9:
            return VolumeReading(refused="there is no air around it")
        lung = cut_out(mask, volume, key="lung_right", name="Right lung", code=CODE)
        assert lung is not None and header.modality == "CT"
        ml = Measurement(
            id=context.new_id(), measurement_type="lung_right", value=lung.volume_ml, unit="mL", method="threshold"
        )
        found: tuple[Finding, ...] = ()
        if (volume.hu > 50).any():
            found = (
                Finding(
                    id=uuid4(), finding_type="lung_nodule", severity=Level.ROUTINE, confidence=0.7, sop_instance_uid=""
                ),
            )
        return VolumeReading(
            findings=found, measurements=(ml,), segments=(lung,), assessed=("lung_nodule", "pneumothorax")
        )


def block(dense: int) -> NDArray[np.int16]:
    """8 slices of 32 x 36: a block of 4 x 10 x 12 voxels in air."""
    hu = np.full((8, 32, 36), -1000, np.int16)
    hu[2:6, 10:20, 12:24] = dense
    return hu


def series(folder: Path, hu: NDArray[np.int16], uid: str) -> list[Dataset]:
    folder.mkdir(parents=True)
    made = [ct(2.0 * i, hu=plane, number=i + 1, SeriesInstanceUID=uid, key=uid) for i, plane in enumerate(hu)]
    for name, data in files(made):
        (folder / name).write_bytes(data)
    return made


@pytest.fixture
def two(tmp_path: Path) -> Path:
    folder = tmp_path / "ct"
    first = series(folder / "a", block(100), "1.2.3.1")
    series(folder / "b", block(0), "1.2.3.2")
    (folder / "a" / "truth.dcm").write_bytes(segmentation(first, {"Right lung": block(1) > 0, "Spleen": block(1) > 0}))
    (folder / "readme.txt").write_text("no DICOM")
    ml = 480 * 2 * PIXEL[0] * PIXEL[1] / 1000
    (folder / "labels.csv").write_text(
        f"series,findings,lung_right_ml,spleen_ml\na,Nodule,{ml},3\n1.2.3.2,No Finding,1.0,\n"
    )
    return folder


def segmentation(source: list[Dataset], masks: dict[str, NDArray[np.bool_]]) -> bytes:
    """A SEG as highdicom writes it."""
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=hd.sr.CodedConcept("123037004", "SCT", "Anatomical Structure"),
            segmented_property_type=hd.sr.CodedConcept("3341006", "SCT", "Right lung"),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in enumerate(masks, start=1)
    ]
    seg = hd.seg.Segmentation(
        source_images=source,
        pixel_array=np.stack(list(masks.values()), axis=-1).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=9,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Test",
        manufacturer_model_name="Test",
        software_versions="1",
        device_serial_number="1",
    )
    return encode(seg)


def test_series_with_labels_and_a_segmentation(two: Path, tmp_path: Path) -> None:
    result = figures(two, "--model", "blocks", "--scores", tmp_path / "s.json")
    assert result["dataset"]["images"] == 2 and result["model"]["name"] == "blocks"
    lung = result["outlines"]["lung_right"]
    assert (lung["n"], lung["dice"]["value"], lung["hd95_mm"]["mean"]["value"]) == (1, 1.0, 0.0)
    assert set(result["outlines"]) == {"lung_right"}
    measured = result["measurements"]["lung_right_ml"]
    assert measured["n"] == 2 and measured["points"][0][0] == pytest.approx(measured["points"][0][1])
    assert result["measurements"]["spleen_ml"]["missed"] == 1
    nodule = result["findings"]["lung_nodule"]
    assert (nodule["n"], nodule["positives"], nodule["auc"]["value"]) == (2, 1, 1.0)
    assert result["findings"]["pneumothorax"]["reason"] == "no image with it"
    assert figures(two, "--model", tmp_path / "s.json") == result


def test_series_without_truth_are_told_not_judged(two: Path) -> None:
    (two / "labels.csv").unlink()
    (two / "a" / "truth.dcm").unlink()
    result = figures(two, "--model", "blocks@0.2.0")
    assert result["findings"] == {} and result["measurements"] == {} and set(result["measured"]) == {"a", "b"}
    status, out, _ = run(two, "--model", "blocks")
    assert status == 0 and "it is told, not judged" in out and "lung_right_ml 0.6" in out


def test_a_series_that_cannot_be_read_leaves_the_others(two: Path) -> None:
    for number, file in enumerate(sorted((two / "b").iterdir())):
        if number:
            file.unlink()
    status, out, err = run(two, "--model", "blocks", "--json", "--rounds", "100")
    assert status == 2 and err.startswith("TOO_FEW_SLICES")
    assert json.loads(out)["measurements"]["lung_right_ml"]["n"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "labels.csv").write_text("series,findings\nzzz,Nodule\n"), "a series that is not there: zzz"),
        (lambda f: (f / "labels.csv").write_text("image,findings\na,Nodule\n"), "has no column `series`"),
        (lambda f: [p.unlink() for p in f.rglob("*.dcm")], "holds no CT series in DICOM (2 other files)"),
    ],
)
def test_bad_folders_of_series(two: Path, change: Callable[[Path], object], message: str) -> None:
    change(two)
    status, out, err = run(two, "--model", "blocks")
    assert (status, out) == (2, "") and message in err


def test_what_reads_images_and_what_reads_series_are_not_compared(two: Path, discs: Path) -> None:
    status, _, err = run(two, "--compare", "blocks", "chest_xray")
    assert status == 2 and "they cannot be compared" in err
    status, _, err = run(two, "--model", "blocks", "--images", two / "labels.csv")
    assert status == 2 and "--images and --patients are for folders of single images" in err
    status, _, err = run(two, "--model", "chest_xray")
    assert status == 2 and "chest_xray reads single images and needs images/ and labels.csv. The data set was" in err
    status, _, err = run(two, "--model", "blocks", "--card", two / "card.toml")
    assert status == 2 and "--card needs a model package" in err
    assert describe(two) == "ct holds 2 DICOM series of 16 files; labels: findings (No Finding, Nodule), " \
        "lung_right_ml (measured), spleen_ml (measured); outlines (DICOM SEG)."  # fmt: skip


def test_what_is_no_segmentation_is_refused(two: Path) -> None:
    with pytest.raises(InvalidDicom, match="cannot be read as a segmentation"):
        read_segmentation((two / "b" / "0.dcm").read_bytes(), name="0.dcm")
    with pytest.raises(InvalidDicom, match="cannot be read as a segmentation"):
        read_segmentation(b"nothing", name="x")
    assert key_of("Right  lung (upper)") == "right_lung_upper"


def test_answers_take_the_largest_of_what_occurs_twice() -> None:
    def nodule(mm: float) -> Measurement:
        return Measurement(id=uuid4(), measurement_type="long_axis", value=mm, unit="mm", method="test")

    reading = VolumeReading(measurements=(nodule(4), nodule(9), nodule(6)), assessed=("lung_nodule",))
    answer = answer_of(reading, np.eye(4), (2, 3, 4))
    assert answer.measured == {"long_axis_mm": 9} and answer.confidence == {"lung_nodule": 0.0}


def test_an_outline_goes_to_a_grid_that_is_flipped_and_shifted() -> None:
    affine = np.eye(4)
    mask = np.zeros((2, 3, 4), bool)
    mask[1, 2, 3] = mask[0, 0, 0] = True
    flipped = np.diag([1.0, -1.0, 1.0, 1.0])
    flipped[1, 3] = 5.0
    whole = on_grid([Segment(key="a", name="A", code=CODE, mask=mask, affine=affine)], flipped, (2, 6, 3))
    assert np.argwhere(whole).tolist() == [[0, 5, 0]]


def test_an_image_without_spacing_is_in_pixels() -> None:
    image = GreyImage(pixels=np.pad(np.ones((10, 10), np.float32), 10))
    reader = AnalyserReader(DiscAnalyser())
    answer = reader.read(ImageInstance(header=ImageHeader(sop_instance_uid="1"), image=image))
    assert answer.outlines["disc"].shape == (30, 30) and answer.outlines["disc"].sum() == 100 and answer.measured == {}
