"""Any frame of a file, decoded: native, compressed, of 1 bit, with the functional groups of that frame."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from tests.unit.ct_series import enhanced, files

from overread.dicom.create import Syntax
from overread.dicom.read import image
from overread.domain.errors import FrameNotFound
from overread.services.values import DisplayWindow

PLACES = [(0, 0, 0), (0, 0, 60), (0, 0, 120)]
WIDE = DisplayWindow(center=0, width=4001)


def hu_of(data: bytes, frame: int) -> np.ndarray:
    """What a linear window of known width shows, as Hounsfield units again."""
    shown = image(data, name="x", frame=frame, window=WIDE).image.pixels
    return np.asarray(shown, np.float64) * 4000 - 2000


@pytest.mark.parametrize("syntax", [Syntax.EXPLICIT_LE, Syntax.RLE, Syntax.JPEG_2000])
def test_each_frame_with_its_own_rescale(syntax: Syntax):
    ds = enhanced(PLACES, per_frame_rescale=[(1.0, -1024.0), (1.0, -2000.0), (0.5, -1500.0)])
    ((_, data),) = files([ds], syntax)
    first, second, third = (hu_of(data, frame) for frame in (1, 2, 3))
    assert (second - first).mean() == pytest.approx(300, abs=1)
    assert (third - second).mean() == pytest.approx(300, abs=1)


def test_frames_that_are_not_there():
    ((_, data),) = files([enhanced(PLACES)])
    for frame in (0, 4, -1):
        with pytest.raises(FrameNotFound):
            image(data, name="x", frame=frame)


def test_frames_of_one_bit_may_begin_within_a_byte():
    rng = np.random.default_rng(0)
    planes = rng.random((3, 17, 19)) < 0.5
    ds = dcmread(BytesIO(files([enhanced(PLACES)])[0][1]))
    for keyword in (
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
        "WindowCenter",
        "WindowWidth",
    ):
        delattr(ds, keyword)
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 17, 19, 1, 1, 0
    packed = np.packbits(planes.ravel(), bitorder="little").tobytes()
    ds.PixelData = packed + b"\0" * (len(packed) % 2)
    ds["PixelData"].VR = "OB"
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    for frame in (1, 2, 3):
        pixels = image(buffer.getvalue(), name="x", frame=frame).image.pixels
        assert ((pixels > 0.5) == planes[frame - 1]).all()
