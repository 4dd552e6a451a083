"""Truth that is no finding: lengths and volumes in columns of labels.csv, and outlines in `masks/`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from overread.cli_validate.overlap import Mask
from overread.domain.errors import InvalidDicom

MASKS = "masks"
#: The column with the distance of pixels in mm, both ways, for images that do not say it themselves.
SPACING = "pixel_spacing_mm"
#: Unit of a measurement (UCUM) -> how the name of its column ends: `head_circumference_mm`.
UNITS: Mapping[str, str] = {
    "mm": "mm", "cm": "cm", "mm2": "mm2", "cm2": "cm2", "mm3": "mm3", "mL": "ml", "%": "percent", "[hnsf'U]": "hu",
    "deg": "degrees", "d": "days", "g": "g",
}  # fmt: skip
_MEASURED = re.compile(rf"[a-z][a-z0-9_]*_({'|'.join(UNITS.values())})")
#: Brighter pixels of a mask, 0..255, belong to it.
_HALF = 127


def measured_columns(columns: Iterable[str]) -> tuple[str, ...]:
    """Columns that hold a measured truth: a name and a unit (`lung_right_ml`), but for the spacing of pixels."""
    return tuple(c for c in columns if _MEASURED.fullmatch(c) and c != SPACING)


def column_of(measurement_type: str, unit: str) -> str:
    """The column that a measurement is compared with: its type and unit, the unit said once."""
    ending = UNITS.get(unit, re.sub(r"\W+", "", unit).lower())
    return measurement_type if measurement_type.endswith(f"_{ending}") else f"{measurement_type}_{ending}"


def amount(text: str) -> float | None:
    """A cell's number; None for an empty cell. Raises ValueError."""
    if not text.strip():
        return None
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is no number")
    return value


def mask_files(folder: Path) -> Mapping[str, Path] | None:
    """Path of an image under `images/`, without its ending, to its mask; None where there is no `masks/`."""
    at = folder / MASKS
    if not at.is_dir():
        return None
    return {
        path.relative_to(at).with_suffix("").as_posix(): path
        for path in sorted(at.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def stem(image: str) -> str:
    """The name of an image without its ending, as `mask_files` has it."""
    return PurePosixPath(image).with_suffix("").as_posix()


def read_mask(file: Path, image: str, shape: tuple[int, ...]) -> Mask:
    """A mask, bool (rows, columns): white is inside. `shape` is that of `image`.

    Raises `InvalidDicom` for a file that cannot be read or is of another size than its image.
    """
    try:
        with Image.open(file, formats=("PNG", "BMP", "TIFF", "JPEG")) as opened:
            mask = np.asarray(opened.convert("L")) > _HALF
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidDicom(f"The mask {file.name} cannot be read: {error}.") from error
    if mask.shape != shape:
        raise InvalidDicom(f"The mask {file.name} is of {mask.shape} pixels, {image} of {shape}.")
    return np.asarray(mask, bool)
