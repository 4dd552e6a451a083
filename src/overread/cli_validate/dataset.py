"""A folder of labelled images: `images/`, `labels.csv`, `boxes.csv` where somebody drew boxes, `masks/` where outlines.

`cli_validate.series` makes the same of a folder of DICOM series.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from overread.cli_validate.labels import WORD_COLUMNS, LabelMapping
from overread.cli_validate.overlap import Mask
from overread.cli_validate.truth import SPACING, amount, mask_files, measured_columns, read_mask, stem
from overread.domain.errors import InvalidRequest
from overread.domain.image import BoundingBox, ImageInstance

LABELS, BOXES, IMAGES = "labels.csv", "boxes.csv", "images"
#: What a cell of a 0/1 column may say.
_BINARY = {"0": False, "1": True, "0.0": False, "1.0": True, "": None}
_NAMED_AT_MOST = 5
#: Years, or DICOM's age string (PS3.5 6.2): "061Y", "018M".
_AGE = re.compile(r"(\d{1,3}(?:\.\d+)?)([YMWD]?)")
_A_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One labelled image."""

    #: Path under `images/`.
    image: str
    #: "" where unknown.
    patient: str = ""
    age: float | None = None
    sex: str = ""
    view: str = ""
    #: Finding key -> there or not; None: this image is not labelled for it.
    truth: Mapping[str, bool | None]
    #: Column -> the true length, area or volume, in the unit of the column's name; none for an empty cell.
    measured: Mapping[str, float] = field(default_factory=dict)
    #: Distance of pixels, both ways, mm, from `truth.SPACING`; the image itself may know better.
    spacing_mm: float | None = None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What a folder says of its images."""

    folder: Path
    rows: tuple[Row, ...]
    #: Finding key -> the words that were looked for. Findings for which there is no column are left out.
    words: Mapping[str, tuple[str, ...]]
    #: Words of the data set that mean none of the findings, with the number of images, most frequent first.
    unused_words: Mapping[str, int]
    #: image -> finding key -> true boxes, in pixels of the stored image; None: there is no boxes.csv.
    boxes: Mapping[str, Mapping[str, tuple[BoundingBox, ...]]] | None
    #: Boxes of images that labels.csv does not have: left out.
    boxes_elsewhere: int
    labels_sha256: str
    #: Files in `images/` that labels.csv does not name.
    without_label: int
    #: Columns of measured truth.
    measures: tuple[str, ...] = ()
    #: Image, without its ending -> file of its outline; None: there is no masks/.
    masks: Mapping[str, Path] | None = None

    @property
    def by_patient(self) -> bool:
        """Whether every image has a patient."""
        return all(row.patient for row in self.rows)

    @property
    def groups(self) -> list[str]:
        """What is drawn again for the intervals: patients, else images."""
        by_patient = self.by_patient
        return [row.patient if by_patient else row.image for row in self.rows]

    def file(self, row: Row) -> Path:
        """Where the image lies."""
        return self.folder / IMAGES / row.image

    def mask(self, row: Row, instance: ImageInstance) -> Mask | None:
        """The true outline, bool (rows, columns); None where the data set has none of this image.

        Raises `InvalidDicom` if its file cannot be used.
        """
        file = (self.masks or {}).get(stem(row.image))
        return None if file is None else read_mask(file, row.image, instance.image.pixels.shape)

    def truth(self, key: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(there, labelled), bool (rows,)."""
        said = [row.truth.get(key) for row in self.rows]
        return np.array([t is True for t in said], bool), np.array([t is not None for t in said], bool)


def load(folder: Path, mapping: LabelMapping, *, images: Path | None = None, patients: Path | None = None) -> Dataset:
    """The labels of `folder`; no image is opened.

    `images`, `patients`: files that name, one a line, what alone is taken. Raises `InvalidRequest` with the file's name
    for a folder without `images/` or `labels.csv`, missing columns, cells that cannot be used, doubled images, names
    that lead outside, and lists that fit nothing.
    """
    file = folder / LABELS
    if not (folder / IMAGES).is_dir():
        raise InvalidRequest(
            f"{folder} is no data set: it has no folder {IMAGES}/.", remedy=f"It needs {IMAGES}/ and {LABELS}."
        )
    masks = mask_files(folder)
    read = labels_of(file, mapping, alone=masks is None)
    known = {row.image for row in read.rows}
    rows = _restricted(list(read.rows), images, patients)
    kept = {row.image for row in rows}
    boxes, elsewhere = _boxes(folder / BOXES, read.words, known)
    return Dataset(
        folder=folder,
        rows=tuple(rows),
        words=read.words,
        unused_words=read.unused(kept),
        boxes=boxes,
        boxes_elsewhere=elsewhere,
        labels_sha256=read.sha256,
        without_label=sum(_without_label(folder / IMAGES, known)),
        measures=read.measures,
        masks=masks,
    )


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What labels.csv says."""

    rows: tuple[Row, ...]
    #: Finding key -> the words that were looked for.
    words: Mapping[str, tuple[str, ...]]
    measures: tuple[str, ...]
    sha256: str
    #: Image -> its words.
    said: Mapping[str, frozenset[str]]

    def unused(self, images: Collection[str]) -> dict[str, int]:
        """Words of these images that mean none of the findings, with the number of images, most frequent first."""
        known = {word for those in self.words.values() for word in those}
        counts = Counter(w for image, said in self.said.items() if image in images for w in said if w not in known)
        return dict(counts.most_common())


def labels_of(file: Path, mapping: LabelMapping, *, named: str = "image", alone: bool = True) -> Labels:
    """All rows of a labels.csv. `named`: the column that says what a row is of.

    `alone`: there is no other truth, so that labels of a finding or measured values must be among its columns. Raises
    `InvalidRequest` as `load` does.
    """
    columns, cells = _table(file, named)
    measures = measured_columns(columns)
    words = _usable(mapping, columns, file, alone=alone and not measures)
    word_column = _word_column(mapping, columns, file)
    rows = [_row(line, cell, words, word_column, mapping, measures, file) for line, cell in enumerate(cells, start=2)]
    doubled = [name for name, times in Counter(row.image for row in rows).items() if times > 1]
    if doubled:
        raise InvalidRequest(f"{file} names images twice: {_some(doubled)}.")
    return Labels(
        rows=tuple(rows),
        words=words,
        measures=measures,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        said={c["image"].strip(): _said(c, word_column, mapping) or frozenset() for c in cells},
    )


def _table(file: Path, named: str = "image") -> tuple[list[str], list[dict[str, str]]]:
    """Column names, and a dictionary for each line, in which the column `named` is called `image`."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened, strict=True)
            columns = [str(name).strip() for name in reader.fieldnames or ()]
            reader.fieldnames = ["image" if name == named else name for name in columns]
            lines = [(reader.line_num, line) for line in reader]
    except FileNotFoundError as error:
        raise InvalidRequest(f"There is no {file}.", remedy=f"A data set needs {IMAGES}/ and {LABELS}.") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"{file} cannot be read: {error}.") from error
    if named not in columns:
        raise InvalidRequest(f"{file} has no column `{named}`; it has: {', '.join(columns) or 'nothing'}.")
    for number, line in lines:
        if None in line or None in line.values():
            raise InvalidRequest(f"{file}, line {number}, has not as many cells as there are columns.")
    if not lines:
        raise InvalidRequest(f"{file} names no image.")
    return columns, [line for _, line in lines]


def _word_column(mapping: LabelMapping, columns: Sequence[str], file: Path) -> str | None:
    if mapping.column is not None:
        if mapping.column not in columns:
            raise InvalidRequest(f"{file} has no column {mapping.column!r}; it has: {', '.join(columns)}.")
        return mapping.column
    return next((name for name in WORD_COLUMNS if name in columns), None)


def _usable(mapping: LabelMapping, columns: Sequence[str], file: Path, *, alone: bool) -> dict[str, tuple[str, ...]]:
    """The findings that the columns can say something of. `alone`: there is no other truth, so there must be one."""
    if _word_column(mapping, columns, file) is not None:
        return dict(mapping.words)
    found = {key: words for key, words in mapping.words.items() if any(word in columns for word in words)}
    if not found and alone:
        wanted = ", ".join(word for words in mapping.words.values() for word in words)
        raise InvalidRequest(
            f"{file} has no label that the model's findings go by: neither a column `findings` nor one of {wanted}; "
            f"it has: {', '.join(columns)}.",
            remedy="Say with --labels which words mean which finding.",
        )
    return found


def _row(
    line: int, cell: Mapping[str, str], words: Mapping[str, tuple[str, ...]], word_column: str | None,
    mapping: LabelMapping, measures: Sequence[str], file: Path,
) -> Row:  # fmt: skip
    image = cell["image"].strip()
    path = PurePosixPath(image)
    if not image or path.is_absolute() or ".." in path.parts or "\\" in image or "\0" in image:
        raise InvalidRequest(f"{file}, line {line}: {image!r} is no name of an image under {IMAGES}/.")
    said = _said(cell, word_column, mapping)
    age = cell.get("age", "").strip()
    matched = _AGE.fullmatch(age)
    if age and matched is None:
        raise InvalidRequest(f"{file}, line {line}: the age of {image} is no number of years: {age!r}.")
    try:
        measured = {name: amount(cell[name]) for name in measures}
        spacing = amount(cell.get(SPACING, ""))
    except ValueError as error:
        raise InvalidRequest(f"{file}, line {line}: what {image} measures is no number: {error}.") from error
    if spacing is not None and spacing <= 0:
        raise InvalidRequest(f"{file}, line {line}: pixels of {image} cannot be {spacing} mm apart.")
    return Row(
        image=image,
        patient=cell.get("patient", "").strip(),
        age=None if matched is None else float(matched[1]) / _A_YEAR[matched[2]],
        sex=cell.get("sex", "").strip().upper(),
        view=cell.get("view", "").strip(),
        truth={key: _there(cell, said, those, f"{file}, line {line}") for key, those in words.items()},
        measured={name: value for name, value in measured.items() if value is not None},
        spacing_mm=spacing,
    )


def _said(cell: Mapping[str, str], word_column: str | None, mapping: LabelMapping) -> frozenset[str] | None:
    """The words of an image; None if its cell is empty: it is not labelled."""
    text = cell.get(word_column, "").strip() if word_column is not None else ""
    return frozenset(word.strip() for word in text.split(mapping.separator)) if text else None


def _there(cell: Mapping[str, str], said: frozenset[str] | None, words: Sequence[str], where: str) -> bool | None:
    """True if any word says so, False if one denies and none is silent, None if nothing is known."""
    answers: list[bool | None] = [] if said is None else [any(word in said for word in words)]
    for column in (word for word in words if word in cell):
        text = cell[column].strip()
        if text not in _BINARY:
            raise InvalidRequest(f"{where}: the column {column!r} must be 0, 1 or empty, not {text!r}.")
        answers.append(_BINARY[text])
    if True in answers:
        return True
    return False if answers and None not in answers else None


def _restricted(rows: list[Row], images: Path | None, patients: Path | None) -> list[Row]:
    if images is not None:
        names = _list(images)
        unknown = sorted(names - {row.image for row in rows})
        if unknown:
            raise InvalidRequest(f"{images} names images that {LABELS} does not have: {_some(unknown)}.")
        rows = [row for row in rows if row.image in names]
    if patients is not None:
        # One list of patients may serve several folders, so not each of them needs to be here.
        ids = _list(patients)
        rows = [row for row in rows if row.patient in ids]
    if not rows:
        raise InvalidRequest(f"No image of the data set is left of {LABELS} by --images and --patients.")
    return rows


def _list(file: Path) -> set[str]:
    try:
        names = {line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The list {file} cannot be read: {error}.") from error
    names.discard("")
    return names


def _boxes(
    file: Path, words: Mapping[str, tuple[str, ...]], known: set[str]
) -> tuple[dict[str, dict[str, tuple[BoundingBox, ...]]] | None, int]:
    """The boxes, and how many are of images that are not known."""
    if not file.exists():
        return None, 0
    columns, cells = _table(file)
    missing = [name for name in ("finding", "x", "y", "width", "height") if name not in columns]
    if missing:
        raise InvalidRequest(f"{file} has no column {_some(missing)}.")
    found: dict[str, dict[str, tuple[BoundingBox, ...]]] = {}
    elsewhere = 0
    for line, cell in enumerate(cells, start=2):
        image = cell["image"].strip()
        if image not in known:
            elsewhere += 1
            continue
        try:
            x, y, width, height = (round(float(cell[name])) for name in ("x", "y", "width", "height"))
            box = BoundingBox(x=x, y=y, width=width, height=height)
        except (ValueError, OverflowError) as error:
            raise InvalidRequest(f"{file}, line {line}: the box of {image} cannot be used: {error}.") from error
        for key, those in words.items():
            if cell["finding"].strip() in those:
                of_image = found.setdefault(image, {})
                of_image[key] = (*of_image.get(key, ()), box)
    return found, elsewhere


def _without_label(folder: Path, known: set[str]) -> Iterable[bool]:
    return (path.relative_to(folder).as_posix() not in known for path in folder.rglob("*") if path.is_file())


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
