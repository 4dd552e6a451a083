"""Sample studies that are nobody's secret: the real images that pydicom ships, and public ones by URL and sha256."""

from __future__ import annotations

from pathlib import Path

from pydicom.data import get_testdata_file
from pydicom.data.download import get_data_dir

from overread.dicom.quiet import quiet
from overread.domain.errors import SetupError

#: Real ultrasound, CT and MR, a few hundred kB each: shown as not assessed yet.
SHIPPED = ("CT_small.dcm", "MR_small.dcm", "examples_rgb_color.dcm", "examples_overlay.dcm")

#: Radiographs of NEMA's compression samples; pydicom knows their URL and sha256 and refuses another content.
PUBLIC = ("RG1_UNCR.dcm", "RG3_UNCR.dcm", "RG1_J2KR.dcm")


def shipped() -> list[Path]:
    """Paths of the samples in the installed pydicom."""
    return [_found(name, download=False) for name in SHIPPED]


def download() -> list[Path]:
    """Fetch the public samples (once; pydicom keeps them). Raises `SetupError` without internet."""
    try:
        return [_found(name, download=True) for name in PUBLIC]
    except (OSError, RuntimeError, ValueError) as error:
        raise SetupError(
            f"The public samples could not be fetched: {error}.",
            remedy="Connect to the internet, or run the demo without --download.",
        ) from error


def _found(name: str, *, download: bool) -> Path:
    with quiet:  # pydicom warns of each failed try; we raise one sentence
        path = get_testdata_file(name, download=download)
    if path is None:
        raise FileNotFoundError(f"{name} is neither in pydicom nor in {get_data_dir()}")
    return Path(str(path))
