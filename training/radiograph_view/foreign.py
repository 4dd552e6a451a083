"""Files from elsewhere, never trained on: `dicom_samples` and what pydicom ships. One line each in the report."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.chest_xray.paths import DATA

#: What these show, where it is a radiograph; all the others are none.
RADIOGRAPHS = {"RG1_J2KI.dcm": "chest_frontal", "RG3_J2KI.dcm": "other_radiograph"}


@dataclass(frozen=True, kw_only=True)
class ForeignFile:
    """A DICOM file's first frame as displayed, 0..1."""

    name: str
    modality: str
    expected: str
    pixels: NDArray[np.float32]


def read(path: Path) -> NDArray[np.float32]:
    """First frame as grey, 0..1, bright = dense: modality and VOI LUT applied, MONOCHROME1 inverted."""
    import pydicom
    from pydicom.pixels import apply_modality_lut, apply_voi_lut, convert_color_space

    dataset = pydicom.dcmread(path, force=True)
    frame = dataset.pixel_array
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        frame = frame[0]
    photometric = str(dataset.PhotometricInterpretation)
    if frame.ndim == 3:
        if photometric.startswith("YBR_FULL"):
            frame = convert_color_space(frame, photometric, "RGB")
        grey = frame.astype(np.float32).mean(axis=-1)
    else:
        grey = np.asarray(apply_voi_lut(apply_modality_lut(frame, dataset), dataset), dtype=np.float32)
    low, high = float(grey.min()), float(grey.max())
    grey = (grey - low) / (high - low) if high > low else np.zeros_like(grey)
    return (1.0 - grey if photometric == "MONOCHROME1" else grey).astype(np.float32)


def files() -> Iterator[ForeignFile]:
    """All that can be decoded and have at least 32 pixels a side; the same picture in another encoding only once."""
    import pydicom
    from pydicom import data

    folder = Path(data.__file__).parent / "test_files"
    seen: set[bytes] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in [*sorted((DATA / "dicom_samples").glob("*.dcm")), *sorted(folder.glob("*.dcm"))]:
            try:
                pixels = read(path)
                modality = str(pydicom.dcmread(path, stop_before_pixels=True, force=True).get("Modality", ""))
            except (AttributeError, ValueError, RuntimeError, NotImplementedError, pydicom.errors.InvalidDicomError):
                continue
            key = (pixels[:: max(1, pixels.shape[0] // 16), :: max(1, pixels.shape[1] // 16)] * 20).round().tobytes()
            if key in seen or min(pixels.shape) < 32:
                continue
            seen.add(key)
            expected = RADIOGRAPHS.get(path.name, "not_radiograph")
            yield ForeignFile(name=path.name, modality=modality or "-", expected=expected, pixels=pixels)
