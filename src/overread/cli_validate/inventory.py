"""What a folder holds, before any model is known: the sentence that tells people how their data set is understood."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from overread.cli_validate import series
from overread.cli_validate.dataset import BOXES, IMAGES, LABELS
from overread.cli_validate.labels import SEPARATOR, WORD_COLUMNS
from overread.cli_validate.truth import MASKS, measured_columns
from overread.domain.errors import InvalidRequest

#: So many words of a column are named.
_WORDS_AT_MOST = 6
_BINARY = frozenset({"0", "1", "0.0", "1.0", ""})
#: Columns that describe an image instead of saying what it shows.
_DESCRIBE = frozenset({"image", "series", "patient", "age", "sex", "view", "slice", "follow_up"})


def describe(folder: Path) -> str:
    """One sentence: `breast_ultrasound holds 587 images; labels: label (benign, malignant, normal); outlines (masks/).`

    Never raises for what is in the folder: what is not understood is said.
    """
    name = folder.resolve().name
    if not folder.is_dir():
        return f"{folder} is no folder."
    if (folder / IMAGES).is_dir():
        images = sum(1 for path in (folder / IMAGES).rglob("*") if path.is_file())
        parts = [f"{images} images", *_labels(folder / LABELS)]
        parts += ["boxes (boxes.csv)"] if (folder / BOXES).exists() else []
        parts += [f"outlines ({MASKS}/)"] if (folder / MASKS).is_dir() else []
        return f"{name} holds {'; '.join(parts)}."
    try:
        found, other = series.find(folder, None)
    except InvalidRequest as error:
        return str(error)
    if not found:
        return f"{name} is no data set: it has neither {IMAGES}/ nor DICOM series ({other} other files)."
    files = sum(len(one.files) for one in found)
    parts = [f"{len(found)} DICOM series of {files} files", *_labels(folder / LABELS)]
    parts += ["outlines (DICOM SEG)"] if any(one.truth for one in found) else []
    return f"{name} holds {'; '.join(parts)}."


def _labels(file: Path) -> list[str]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = list(csv.DictReader(opened))
    except FileNotFoundError:
        return [f"no {LABELS}"]
    except (OSError, UnicodeDecodeError, csv.Error):
        return [f"a {LABELS} that cannot be read"]
    columns = [str(column) for column in (rows[0] if rows else {})]
    said = [_column(column, [str(row.get(column) or "") for row in rows]) for column in columns]
    labels = [text for text in said if text]
    return [f"labels: {', '.join(labels)}" if labels else f"a {LABELS} without labels"]


def _column(name: str, cells: Sequence[str]) -> str:
    """What a column says of findings; "" if it says nothing of them."""
    if name in WORD_COLUMNS:
        words = sorted({word.strip() for cell in cells for word in cell.split(SEPARATOR) if word.strip()})
        more = f" and {len(words) - _WORDS_AT_MOST} more" if len(words) > _WORDS_AT_MOST else ""
        return f"{name} ({', '.join(words[:_WORDS_AT_MOST])}{more})"
    if measured_columns([name]):
        return f"{name} (measured)"
    if name not in _DESCRIBE and {cell.strip() for cell in cells} <= _BINARY:
        return f"{name} (0/1)"
    return ""
