"""Real odd files: each is read, or refused by an error that can be named. Never anything else, never a warning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.odd_files import compressed, dataset, lut_item, radiograph, ramp, to_bytes

from overread.dicom.read import image, index
from overread.domain.errors import InvalidDicom, OverreadError
from overread.domain.ids import is_valid_uid

#: What pydicom ships (its other test files are downloads), and our own samples where a machine has them.
SHIPPED = sorted(
    path
    for folder in ("test_files", "charset_files", "palettes")
    for path in Path(pydicom.data.__file__).with_name(folder).rglob("*")
    if path.is_file()
)
SAMPLES = [
    path
    for folder in ("dicom_samples", "chest_ct/cap002_broken_uids")
    for path in sorted(Path("/work/shared/data").joinpath(folder).glob("*"))
]

#: The shipped files whose pixels or header cannot be used, each with the code that says so. All others are read.
REFUSED = {
    "DICOMDIR": "INVALID_DICOM",
    "DICOMDIR-bigEnd": "INVALID_DICOM",
    "DICOMDIR-empty.dcm": "INVALID_DICOM",
    "DICOMDIR-implicit": "INVALID_DICOM",
    "DICOMDIR-nooffset": "INVALID_DICOM",
    "DICOMDIR-nopatient": "INVALID_DICOM",
    "DICOMDIR-reordered": "INVALID_DICOM",
    "ExplVR_BigEndNoMeta.dcm": "NO_PIXEL_DATA",
    "ExplVR_LitEndNoMeta.dcm": "NO_PIXEL_DATA",
    "JPEG2000-embedded-sequence-delimiter.dcm": "PIXEL_DATA_MISMATCH",
    "MR_truncated.dcm": "PIXEL_DATA_MISMATCH",
    "UN_sequence.dcm": "NO_PIXEL_DATA",
}


@pytest.mark.parametrize("path", [*SHIPPED, *SAMPLES], ids=lambda path: path.name)
def test_read_or_refused_by_name(path: Path) -> None:
    data = path.read_bytes()
    try:
        record = index(data, name=path.name)
    except OverreadError as error:
        _says_what_and_how(error, path.name)
    else:
        assert is_valid_uid(record.sop_instance_uid)
        assert is_valid_uid(record.study_instance_uid)
        assert record.patient_name.isprintable()
    try:
        pixels = image(data, name=path.name).image.pixels
    except OverreadError as error:
        _says_what_and_how(error, path.name)
        assert REFUSED.get(path.name, error.code) == error.code
    else:
        assert path.name not in REFUSED
        assert pixels.dtype == np.float32
        assert pixels.flags.c_contiguous
        assert 0 <= pixels.min() < pixels.max() <= 1


def _says_what_and_how(error: OverreadError, name: str) -> None:
    assert isinstance(error, InvalidDicom)
    assert name in error.message
    assert error.remedy


@pytest.mark.skipif(not SAMPLES, reason="the samples are on the developers' machines only")
def test_broken_uids_lose_no_slice() -> None:
    """Twelve slices with the same empty SOPInstanceUID, GUIDs for series and study: twelve instances of one series."""
    slices = [path for path in SAMPLES if path.parent.name == "cap002_broken_uids" and path.suffix == ".dcm"]
    records = [index(path.read_bytes(), name=path.name) for path in slices]
    assert len({record.sop_instance_uid for record in records}) == len(slices) == 12
    assert len({record.series_instance_uid for record in records}) == 1
    assert len({record.study_instance_uid for record in records}) == 1


# --- damage ------------------------------------------------------------------------------------------------

RICH = to_bytes(
    dataset(
        ramp(20, 20),
        VOILUTSequence=lut_item(list(range(256)), 0, 8),
        PixelPaddingValue=0,
        WindowCenter=100,
        WindowWidth=50,
        SpecificCharacterSet=["", "ISO 2022 IR 87"],
        NumberOfFrames=1,
    )
)
VICTIMS = [
    RICH,
    radiograph(syntax="1.2.840.10008.1.2"),
    radiograph(ramp(dtype=">u2"), syntax="1.2.840.10008.1.2.2"),
    radiograph(syntax="1.2.840.10008.1.2.1.99"),
    radiograph(np.zeros((16, 16, 3), np.uint8) + ramp(dtype="u1")[:, :, None]),
    compressed(dataset(ramp()), "1.2.840.10008.1.2.5"),
]


@settings(max_examples=600, deadline=None)
@given(
    victim=st.sampled_from(VICTIMS),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
    cut=st.one_of(st.none(), st.integers(0, 10**6)),
)
@example(victim=RICH, flips=[], cut=0)
@example(victim=RICH, flips=[], cut=131)
@example(victim=RICH, flips=[], cut=132)
def test_damage_never_raises_anything_else(victim: bytes, flips: list[tuple[int, int]], cut: int | None) -> None:
    data = bytearray(victim)
    for at, value in flips:
        # Headers are the interesting part: three flips of four go there.
        data[at % (len(data) if at % 4 == 0 else min(len(data), 700))] = value
    if cut is not None:
        del data[cut % (len(data) + 1) :]
    damaged = bytes(data)
    for read in (index, image):
        try:
            read(damaged, name="damaged.dcm")
        except OverreadError as error:
            assert "damaged.dcm" in error.message


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_noise_is_refused(noise: bytes, with_head: bool) -> None:
    data = bytes(128) + b"DICM" + noise if with_head else noise
    for read in (index, image):
        try:
            read(data, name="noise")
        except InvalidDicom as error:
            _says_what_and_how(error, "noise")


@pytest.mark.parametrize("cut", range(1, len(RICH), 7))
def test_cut_anywhere_is_noticed(cut: int) -> None:
    """A file cut off in the middle of an element is never taken for a shorter one."""
    with pytest.raises(InvalidDicom):
        image(RICH[:cut], name="cut.dcm")
