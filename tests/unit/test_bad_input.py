"""Each bad input has an error with its code, the file's name and what to do about it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.odd_files import (
    DEFLATED,
    SR_CLASS,
    compressed,
    dataset,
    declares_two_gigabytes,
    deflate_bomb,
    element,
    nested,
    radiograph,
    ramp,
    to_bytes,
)

from overread.dicom import picture as picture_module
from overread.dicom import scan
from overread.dicom.picture import picture
from overread.dicom.read import image, index
from overread.domain.errors import OverreadError

RLE, J2K = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"
WHOLE = radiograph()
PATIENT_ID = b"\x10\x00\x20\x00LO"


def refused(read: Callable[..., Any], data: bytes, code: str, words: str) -> None:
    """`read` raises an error with this code that names the file, says `words` and has a remedy."""
    with pytest.raises(OverreadError) as caught:
        read(data, name="folder/bad.dcm")
    error = caught.value
    assert error.code == code, str(error)
    assert error.message.startswith("folder/bad.dcm ")
    assert words in error.message
    assert error.remedy
    assert error.details["file"] == "folder/bad.dcm"


# --- refused as soon as it comes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        pytest.param(b"", "INVALID_DICOM", "is empty", id="empty"),
        pytest.param(b"Dear colleague, enclosed\n" * 20, "INVALID_DICOM", "is not DICOM", id="text"),
        pytest.param(bytes(4096), "INVALID_DICOM", "is not DICOM", id="zeros"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(99), "INVALID_DICOM", "is a PNG picture, not DICOM", id="picture"),
        pytest.param(b"PK\x03\x04" + bytes(200), "INVALID_DICOM", "is a ZIP archive, not DICOM", id="archive"),
        pytest.param(bytes(128) + b"DICM", "INVALID_DICOM", "a DICOM head and no data set", id="head only"),
        pytest.param(WHOLE[: WHOLE.index(PATIENT_ID) + 9], "INVALID_DICOM", "is cut off", id="cut in the header"),
        pytest.param(WHOLE[: WHOLE.index(PATIENT_ID) + 5], "INVALID_DICOM", "is cut off", id="cut in a tag"),
        pytest.param(WHOLE[:-100], "PIXEL_DATA_MISMATCH", "declares 512 bytes and the file holds 412", id="cut pixels"),
        pytest.param(
            compressed(dataset(ramp()), RLE)[:-20], "PIXEL_DATA_MISMATCH", "is cut off in its pixels", id="cut RLE"
        ),
        pytest.param(
            declares_two_gigabytes(), "PIXEL_DATA_MISMATCH", "declares 2,147,483,646 bytes", id="2 GB declared"
        ),
        pytest.param(
            WHOLE[: WHOLE.index(PATIENT_ID)] + element(0x00204000, b"UT", b"", 0x7FFFFFFF),
            "INVALID_DICOM",
            "2,147,483,647 bytes declared and 0 left at element (0020,4000)",
            id="2 GB of text declared",
        ),
        pytest.param(nested(5000), "INVALID_DICOM", "nested more than 64 deep", id="deeply nested"),
        pytest.param(nested(3), "INVALID_DICOM", "has a broken sequence", id="broken sequence"),
        pytest.param(radiograph(syntax=DEFLATED)[:-30], "INVALID_DICOM", "deflated data set", id="cut deflated"),
        pytest.param(
            radiograph(syntax=DEFLATED)[:-200] + b"\xff" * 200, "INVALID_DICOM", "deflated data set", id="bad deflated"
        ),
        pytest.param(
            WHOLE.replace(element(0x00080016, b"UI", b"1.2.840.10008.5.1.4.1.1.1\0"), b"").replace(
                element(0x00020002, b"UI", b"1.2.840.10008.5.1.4.1.1.1\0"), element(0x00020002, b"UI", b" " * 26)
            ),
            "INVALID_DICOM",
            "has no SOPClassUID (0008,0016)",
            id="no SOP class",
        ),
        pytest.param(
            radiograph(SOPClassUID="1.2.840.10008.1.3.10"), "INVALID_DICOM", "is a DICOMDIR", id="directory of a medium"
        ),
    ],
)
def test_refused_at_the_door(data: bytes, code: str, words: str) -> None:
    refused(index, data, code, words)
    refused(image, data, code, words)


def test_two_gigabytes_are_not_allocated() -> None:
    assert len(declares_two_gigabytes()) < 2000


def test_deflate_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = deflate_bomb(8 << 20)
    assert len(bomb) < 20_000
    monkeypatch.setattr(scan, "MAX_INFLATED_BYTES", 4 << 20)
    refused(index, bomb, "TOO_LARGE", "inflates to more than 4,194,304 bytes")


def test_nesting_does_not_depend_on_the_stack() -> None:
    limit = sys.getrecursionlimit()
    refused(index, nested(3 * limit), "INVALID_DICOM", "nested more than 64 deep")


# --- kept and indexed, but nothing to look at --------------------------------------------------------------


def float_pixels() -> bytes:
    ds = dataset(ramp(), remove=("PixelData", "BitsStored", "HighBit", "PixelRepresentation"))
    ds.FloatPixelData = ramp().astype("<f4").tobytes()
    ds.BitsAllocated = 32
    return to_bytes(ds)


def other_rows(data: bytes, old: int, new: int, tags: tuple[int, ...] = (0x00280010,)) -> bytes:
    """`data` with other Rows (and Columns) declared over the same pixels."""
    for tag in tags:
        data = data.replace(
            element(tag, b"US", old.to_bytes(2, "little")), element(tag, b"US", new.to_bytes(2, "little"))
        )
    return data


def damaged_codestream() -> bytes:
    whole = compressed(dataset(ramp(32, 32)), J2K)
    at = whole.index(b"\xff\x52")
    return whole[:at] + b"\xff" * (len(whole) - at - 8) + whole[-8:]


FLAT = np.full((16, 16), 7, "<u2")
EXPLICIT = b"1.2.840.10008.1.2.1\0"


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        pytest.param(to_bytes(dataset(None)), "NO_PIXEL_DATA", "has no PixelData (7FE0,0010)", id="no pixels"),
        pytest.param(to_bytes(dataset(None, SOPClassUID=SR_CLASS)), "NO_PIXEL_DATA", "has no PixelData", id="report"),
        pytest.param(
            radiograph(PixelData=bytes(500)),
            "PIXEL_DATA_MISMATCH",
            "500 bytes of PixelData (7FE0,0010)",
            id="too short",
        ),
        pytest.param(radiograph(PixelData=bytes(1024)), "PIXEL_DATA_MISMATCH", "need 512", id="twice too long"),
        pytest.param(radiograph(NumberOfFrames=3), "PIXEL_DATA_MISMATCH", "3 frame(s)", id="frames missing"),
        pytest.param(radiograph(remove=("Rows",)), "PIXEL_DATA_MISMATCH", "no Rows (0028,0010)", id="no rows"),
        pytest.param(
            radiograph(Rows=40000, Columns=40000), "PIXEL_DATA_MISMATCH", "need 3,200,000,000", id="3 GB declared"
        ),
        pytest.param(
            other_rows(compressed(dataset(ramp()), RLE), 16, 65535, (0x00280010, 0x00280011)),
            "TOO_LARGE",
            "65535 x 65535 pixels",
            id="8 GB declared in RLE",
        ),
        pytest.param(
            other_rows(compressed(dataset(ramp(32, 32)), J2K), 32, 64),
            "PIXEL_DATA_MISMATCH",
            "declares 64 x 32 pixels, but its compressed frame has 32 x 32",
            id="codestream of another size",
        ),
        pytest.param(damaged_codestream(), "PIXEL_DATA_MISMATCH", "cannot be decoded", id="damaged codestream"),
        pytest.param(
            WHOLE.replace(EXPLICIT, b"1.2.840.10008.9.9.9\0"),
            "UNSUPPORTED_TRANSFER_SYNTAX",
            "1.2.840.10008.9.9.9",
            id="unknown transfer syntax",
        ),
        pytest.param(
            compressed(dataset(ramp()), RLE).replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.9.9\0"),
            "UNSUPPORTED_TRANSFER_SYNTAX",
            "no installed decoder reads",
            id="unknown compression",
        ),
        pytest.param(radiograph(ramp(1, 1)), "UNSUPPORTED_PIXELS", "1 x 1 pixels", id="1x1"),
        pytest.param(radiograph(ramp(15, 400)), "UNSUPPORTED_PIXELS", "15 x 400 pixels", id="a strip"),
        pytest.param(radiograph(FLAT), "UNSUPPORTED_PIXELS", "all its pixels are the same", id="constant"),
        pytest.param(
            radiograph(FLAT, WindowCenter=7, WindowWidth=9),
            "UNSUPPORTED_PIXELS",
            "are the same",
            id="constant in a window",
        ),
        pytest.param(
            radiograph(np.full((16, 16, 3), 9, np.uint8)), "UNSUPPORTED_PIXELS", "are the same", id="constant colour"
        ),
        pytest.param(float_pixels(), "UNSUPPORTED_PIXELS", "float pixels", id="32-bit float"),
        pytest.param(radiograph(BitsAllocated=12), "UNSUPPORTED_PIXELS", "12 bits allocated", id="packed bits"),
        pytest.param(radiograph(BitsStored=17), "UNSUPPORTED_PIXELS", "17 bits stored", id="more bits than allocated"),
        pytest.param(
            radiograph(HighBit=3), "UNSUPPORTED_PIXELS", "12 bits stored up to bit 3", id="impossible high bit"
        ),
        pytest.param(radiograph(SamplesPerPixel=2), "UNSUPPORTED_PIXELS", "2 samples per pixel", id="two channels"),
        pytest.param(
            radiograph(ramp(dtype="u1"), PhotometricInterpretation="PALETTE COLOR"),
            "UNSUPPORTED_PIXELS",
            "without a usable palette",
            id="no palette",
        ),
    ],
)
def test_indexed_but_nothing_to_look_at(data: bytes, code: str, words: str) -> None:
    """The rest of the study goes on; this image is reported by name."""
    assert index(data, name="bad.dcm").sop_instance_uid
    refused(image, data, code, words)


def test_trailing_bytes_of_up_to_one_row_are_padding() -> None:
    expected = image(WHOLE, name="a").image.pixels
    for extra in (1, 2, 32):
        padded = radiograph(PixelData=ramp().tobytes() + bytes(extra))
        np.testing.assert_array_equal(image(padded, name="a").image.pixels, expected)


# --- pictures ----------------------------------------------------------------------------------------------


def png(array: NDArray[Any], kind: str = "PNG", **how: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind, **how)
    return out.getvalue()


NOISE = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)


def test_pictures_stand_as_they_are() -> None:
    read = picture(png(GREY), name="a.png")
    np.testing.assert_allclose(read.image.pixels, GREY / 255, atol=1e-6)
    assert not read.image.was_colour
    assert read.header.modality is None
    assert read.header.sop_instance_uid.startswith("2.25.")
    deep = GREY.astype(np.uint16) * 257
    np.testing.assert_allclose(picture(png(deep), name="a").image.pixels, GREY / 255, atol=1e-5)
    rgb = np.dstack([GREY, GREY, GREY])
    assert not picture(png(rgb, "JPEG", quality=60), name="a").image.was_colour
    rgb[..., 0] = 255 - rgb[..., 0]
    assert picture(png(rgb), name="a").image.was_colour


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        pytest.param(b"GIF89a" + bytes(99), "UNSUPPORTED_FILE", "neither DICOM nor", id="another kind"),
        pytest.param(png(NOISE)[:2000], "INVALID_DICOM", "is a damaged picture", id="cut"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(99), "INVALID_DICOM", "is a damaged picture", id="head only"),
        pytest.param(png(GREY[:4]), "UNSUPPORTED_PIXELS", "has 4 x 16 pixels", id="small"),
        pytest.param(png(GREY * 0), "UNSUPPORTED_PIXELS", "shows nothing", id="constant"),
    ],
)
def test_bad_pictures(data: bytes, code: str, words: str) -> None:
    refused(picture, data, code, words)


def test_huge_picture_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_module, "MAX_PIXELS", 200)
    refused(picture, png(GREY), "TOO_LARGE", "16 x 16 pixels")
