"""Folders of labelled images as people bring them: what is read, and how what is wrong is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.unit.card_text import card as card_text

from overread.cli_validate.dataset import Dataset, load
from overread.cli_validate.labels import LabelMapping, for_card
from overread.domain.errors import InvalidRequest
from overread.domain.image import BoundingBox
from overread.inference.card import Card, parse

CHEST = LabelMapping(words={"pneumothorax": ("Pneumothorax",), "pneumonia": ("Pneumonia", "Infiltrate")})
ROWS = """image,findings,patient,age,sex,view
a.png,Pneumothorax|Mass,1,40,m,PA
b.png,No Finding,1,,F,AP
c.png,,2,7.5,,
"""


def folder(tmp_path: Path, labels: str = ROWS, boxes: str | None = None) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels.csv").write_text(labels)
    if boxes is not None:
        (tmp_path / "boxes.csv").write_text(boxes)
    return tmp_path


def toy(**changes: str) -> Card:
    text = card_text("0" * 64)
    for old, new in changes.items():
        text = text.replace(old, new)
    return parse(text)


def test_words_split_and_blank_means_unlabelled(tmp_path: Path) -> None:
    data = load(folder(tmp_path), CHEST)
    assert [dict(row.truth) for row in data.rows] == [
        {"pneumothorax": True, "pneumonia": False},
        {"pneumothorax": False, "pneumonia": False},
        {"pneumothorax": None, "pneumonia": None},
    ]
    there, labelled = data.truth("pneumothorax")
    assert there.tolist() == [True, False, False] and labelled.tolist() == [True, True, False]
    assert data.by_patient and data.groups == ["1", "1", "2"]
    assert [(row.age, row.sex, row.view) for row in data.rows] == [(40, "M", "PA"), (None, "F", "AP"), (7.5, "", "")]
    assert data.unused_words == {"Mass": 1, "No Finding": 1}


def test_without_patients_images_are_drawn(tmp_path: Path) -> None:
    data = load(folder(tmp_path, "image,findings,patient\na.png,x,1\nb.png,x,\n"), CHEST)
    assert not data.by_patient and data.groups == ["a.png", "b.png"]


def test_columns_of_0_and_1(tmp_path: Path) -> None:
    mapping = LabelMapping(words={"bleed": ("haemorrhage", "epidural"), "fracture": ("fracture",), "other": ("none",)})
    data = load(folder(tmp_path, "image,haemorrhage,epidural,fracture\na,1,0,\nb,0,,1\nc,0,0,0\n"), mapping)
    assert set(data.words) == {"bleed", "fracture"}
    assert [row.truth["bleed"] for row in data.rows] == [True, None, False]
    assert [row.truth["fracture"] for row in data.rows] == [None, True, False]


def test_column_label_and_a_mapping_file(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text('column = "kind"\nseparator = ";"\n[findings]\npneumothorax = ["ptx", "PTX"]\n')
    at = folder(tmp_path, "image,kind\na,ptx; other\nb,none\n")
    data = load(at, for_card(toy(), mapping))
    assert [row.truth["pneumothorax"] for row in data.rows] == [True, False]
    assert "pleural_effusion" not in data.words


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("findings = 3", "no table [findings]"),
        ("[findings]\nbleed = ['x']", "which the model does not look for"),
        ("[findings]\npneumothorax = 'x'", "a list of words"),
        ("separator = ''\n[findings]\npneumothorax = ['x']", "must be text"),
        ("[findings", "cannot be read"),
    ],
)
def test_bad_mappings(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mapping.toml"
    file.write_text(text)
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        for_card(toy(), file)


def test_words_of_a_card() -> None:
    assert for_card(toy(), None).words["pleural_effusion"] == ("Effusion",)
    other = toy(**{'task = "chest_xray"': 'task = "head_ct"'})
    assert for_card(other, None).words["pneumothorax"] == ("pneumothorax", "Pneumothorax")
    said = toy(**{'finding = "pneumothorax"': 'finding = "pneumothorax"\nlabel_words = ["ptx"]'})
    assert for_card(said, None).words["pneumothorax"] == ("ptx",)
    trained = toy(**{'finding = "pneumothorax"': 'finding = "pneumothorax"\ntrained_on_label = "PTX"',
                     'task = "chest_xray"': 'task = "head_ct"'})  # fmt: skip
    assert for_card(trained, None).words["pneumothorax"][-1] == "PTX"


def test_boxes(tmp_path: Path) -> None:
    boxes = "image,finding,x,y,width,height\na.png,Infiltrate,1.6,2,3,4\na.png,Mass,1,1,1,1\n"
    boxes += "z.png,Mass,1,1,1,1\n"
    data = load(folder(tmp_path, boxes=boxes), CHEST)
    assert data.boxes_elsewhere == 1
    assert data.boxes == {"a.png": {"pneumonia": (BoundingBox(x=2, y=2, width=3, height=4),)}}


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ("image,x,y,width,height\na.png,1,1,1,1\n", "no column finding"),
        ("image,finding,x,y,width,height\na.png,Mass,1,1,0,1\n", "line 2: the box of a.png cannot be used"),
        ("image,finding,x,y,width,height\na.png,Mass,1,1,inf,1\n", "line 2: the box of a.png cannot be used"),
    ],
)
def test_bad_boxes(tmp_path: Path, boxes: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        load(folder(tmp_path, boxes=boxes), CHEST)


def test_only_some_images_or_patients(tmp_path: Path) -> None:
    at, names = folder(tmp_path), tmp_path / "names.txt"

    def left(text: str, which: str) -> list[str]:
        names.write_text(text)
        data: Dataset = load(at, CHEST, **{which: names})
        return [row.image for row in data.rows]

    assert left("c.png\n\na.png\n", "images") == ["a.png", "c.png"]
    assert left("1\n99\n", "patients") == ["a.png", "b.png"]
    with pytest.raises(InvalidRequest, match=r"names images that labels\.csv does not have: z\.png"):
        left("a.png\nz.png\n", "images")
    with pytest.raises(InvalidRequest, match="No image of the data set is left"):
        left("99\n", "patients")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        load(at, CHEST, images=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("name,findings\na,x\n", "has no column `image`; it has: name, findings"),
        ("image,age\na.png,3\n", "has no label that the model's findings go by"),
        ("image,findings\n", "names no image"),
        ("", "has no column `image`"),
        ("image,findings\na,x\na,y\n", "names images twice: a"),
        ("image,findings\n../a,x\n", "line 2: '../a' is no name of an image"),
        ("image,findings\n/etc/passwd,x\n", "line 2: '/etc/passwd' is no name"),
        ("image,findings,age\na,x,old\n", "line 2: the age of a is no number of years: 'old'"),
        ("image,findings\na,x,y\n", "line 2, has not as many cells"),
        ("image,Pneumothorax\na,2\n", "the column 'Pneumothorax' must be 0, 1 or empty, not '2'"),
        ('image,findings\n"a,x\n', "cannot be read"),
    ],
)
def test_bad_labels(tmp_path: Path, labels: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        load(folder(tmp_path, labels), CHEST)


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="it has no folder images/"):
        load(tmp_path, CHEST)
    (tmp_path / "images").mkdir()
    with pytest.raises(InvalidRequest, match=r"There is no .*labels\.csv"):
        load(tmp_path, CHEST)
    (tmp_path / "labels.csv").write_bytes(b"image,findings\n\xff\xfe,x\n")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        load(tmp_path, CHEST)
    (tmp_path / "labels.csv").write_text("image,findings\na.png,x\n")
    with pytest.raises(InvalidRequest, match="has no column 'kind'"):
        load(tmp_path, LabelMapping(words=CHEST.words, column="kind"))


def test_ages_as_dicom_writes_them(tmp_path: Path) -> None:
    at = folder(tmp_path, "image,findings,age\na,x,061Y\nb,x,018M\nc,x,7.5\nd,x,\n")
    assert [row.age for row in load(at, CHEST).rows] == [61.0, 1.5, 7.5, None]


def test_files_without_label_are_counted(tmp_path: Path) -> None:
    at = folder(tmp_path)
    for name in ("a.png", "z.png"):
        (at / "images" / name).write_bytes(b"")
    assert load(at, CHEST).without_label == 1
