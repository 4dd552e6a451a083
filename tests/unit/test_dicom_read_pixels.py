"""What one sees of an image, held against values worked out by hand from DICOM PS3.3 and PS3.4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, JPEGLSLossless, RLELossless
from tests.odd_files import compressed, dataset, lut_item, radiograph, ramp, to_bytes

from overread.dicom.read import image

RAMP = ramp()


def shown(pixels: NDArray[Any] | None = None, **attributes: Any) -> NDArray[np.float32]:
    """The pixels that `image` makes of a file with these stored values."""
    return image(radiograph(pixels, **attributes), name="a.dcm").image.pixels


def close(actual: NDArray[Any], expected: NDArray[Any] | float) -> None:
    np.testing.assert_allclose(actual, np.broadcast_to(expected, actual.shape), atol=2e-6)


# --- without a window --------------------------------------------------------------------------------------


def test_eight_bits_stand_as_they_are() -> None:
    pixels = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
    close(shown(pixels), pixels / 255)
    close(shown(pixels, PhotometricInterpretation="MONOCHROME1"), 1 - pixels / 255)


def test_seven_of_eight_bits() -> None:
    pixels = (np.arange(256) % 128).astype(np.uint8).reshape(16, 16)
    close(shown(pixels, BitsStored=7, HighBit=6), pixels / 127)


def test_signed_eight_bits() -> None:
    pixels = np.arange(-128, 128, dtype=np.int8).reshape(16, 16)
    close(shown(pixels), (pixels.astype(float) + 128) / 255)


def test_deep_pixels_are_stretched_over_percentiles() -> None:
    # 0.5 and 99.5% of 256 ascending values: the 2nd and the 255th.
    close(shown(RAMP), np.clip((RAMP.astype(float) - 1) / (254 - 1), 0, 1))


def test_one_odd_pixel_does_not_darken_the_rest() -> None:
    pixels = RAMP.copy()
    pixels[3, 3] = 4095
    assert shown(pixels)[15, 0] > 0.9


# --- windows (PS3.3 C.11.2.1.2 and .3) ---------------------------------------------------------------------


def test_linear_window() -> None:
    expected = np.clip((RAMP - (100 - 0.5)) / (51 - 1) + 0.5, 0, 1)
    close(shown(WindowCenter=100, WindowWidth=51), expected)
    close(shown(WindowCenter=100, WindowWidth=51, VOILUTFunction="LINEAR"), expected)


def test_linear_exact_window() -> None:
    close(
        shown(WindowCenter=100, WindowWidth=50, VOILUTFunction="LINEAR_EXACT"), np.clip((RAMP - 100.0) / 50 + 0.5, 0, 1)
    )


def test_sigmoid_window() -> None:
    expected = 1 / (1 + np.exp(-4 * (RAMP.astype(float) - 100) / 50))
    close(shown(WindowCenter=100, WindowWidth=50, VOILUTFunction="SIGMOID"), expected)


def test_window_of_width_one_is_a_threshold() -> None:
    close(shown(WindowCenter=100, WindowWidth=1), (RAMP > 99.5).astype(float))


def test_first_of_several_windows() -> None:
    close(shown(WindowCenter=[100, 5], WindowWidth=[51, 2]), shown(WindowCenter=100, WindowWidth=51))


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": 100, "WindowWidth": 0},
        {"WindowCenter": 100, "WindowWidth": -50},
        {"WindowCenter": 100},
        # Far beside all pixels: nothing would be seen.
        {"WindowCenter": 30000, "WindowWidth": 10},
        {"WindowCenter": "", "WindowWidth": ""},
    ],
)
def test_useless_window_is_left_aside(window: dict[str, Any]) -> None:
    close(shown(**window), shown())


def test_rescale_comes_before_the_window() -> None:
    pixels = ramp(start=900, step=1)
    expected = np.clip((2 * pixels.astype(float) - 1024 - (1000 - 0.5)) / (201 - 1) + 0.5, 0, 1)
    actual = shown(pixels, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=1000, WindowWidth=201)
    close(actual, expected)


def test_slope_zero_is_an_unfilled_template() -> None:
    close(shown(RescaleSlope=0, RescaleIntercept=0), shown())


# --- polarity ----------------------------------------------------------------------------------------------


def test_monochrome1_and_inverse_are_one_inversion() -> None:
    window = {"WindowCenter": 100, "WindowWidth": 51}
    plain = shown(**window)
    close(shown(PhotometricInterpretation="MONOCHROME1", **window), 1 - plain)
    close(shown(PresentationLUTShape="INVERSE", **window), 1 - plain)
    close(shown(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE", **window), 1 - plain)
    close(shown(PresentationLUTShape="IDENTITY", **window), plain)


# --- stored bits -------------------------------------------------------------------------------------------


def test_signed_pixels() -> None:
    pixels = ramp(dtype="<i2", start=-128)
    close(shown(pixels, WindowCenter=0, WindowWidth=101), np.clip((pixels + 0.5) / 100 + 0.5, 0, 1))


def test_signed_twelve_bits_without_sign_extension() -> None:
    """As the standard allows: bits above HighBit are not the sign's business."""
    pixels = ramp(dtype="<i2", start=-128)
    masked = (pixels.astype("<u2") & 0x0FFF).astype("<u2")
    close(shown(masked, PixelRepresentation=1), shown(pixels))


@pytest.mark.parametrize("signed", [False, True])
def test_overlay_in_the_high_bits_is_not_seen(signed: bool) -> None:
    pixels = ramp(dtype="<i2" if signed else "<u2", start=-100 if signed else 0)
    overlaid = pixels.copy().view("<u2")
    overlaid[4:8] |= 0x8000
    overlaid[2:3] |= 0x1000
    close(shown(overlaid, PixelRepresentation=int(signed)), shown(pixels))


def test_pixels_in_the_upper_bits() -> None:
    """BitsStored 12 and HighBit 15: the lower four bits hold something else."""
    close(shown((RAMP << 4 | 5).astype("<u2"), HighBit=15), shown(RAMP))


def test_big_endian_sixteen_and_eight_bits() -> None:
    syntax = "1.2.840.10008.1.2.2"
    close(image(radiograph(RAMP.astype(">u2"), syntax), name="a").image.pixels, shown(RAMP))
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    ds = dataset(pixels)
    swapped = dataset(pixels, PixelData=pixels.reshape(-1, 2)[:, ::-1].tobytes())
    swapped["PixelData"].VR = "OW"
    ds["PixelData"].VR = "OB"
    close(image(to_bytes(ds, syntax), name="a").image.pixels, pixels / 255)
    # pydicom swaps nothing when it writes OW: the bytes are given in swapped pairs.
    close(image(to_bytes(swapped, syntax), name="a").image.pixels, pixels / 255)


def test_thirty_two_bits() -> None:
    pixels = (RAMP.astype("<u4") * 1000).astype("<u4")
    close(shown(pixels, WindowCenter=100_000, WindowWidth=50_001), np.clip((pixels - 99_999.5) / 50_000 + 0.5, 0, 1))
    close(shown(pixels), np.clip((pixels - 1275.0) / (253_725 - 1275), 0, 1))


def test_single_bit() -> None:
    bits = (np.arange(256) % 3 == 0).astype(np.uint8).reshape(16, 16)
    ds = dataset(bits, BitsAllocated=1, BitsStored=1, HighBit=0)
    ds.PixelData = np.packbits(bits, bitorder="little").tobytes()
    close(image(to_bytes(ds), name="a").image.pixels, bits)


# --- padding -----------------------------------------------------------------------------------------------


def test_padding_is_black_and_counts_for_no_percentile() -> None:
    pixels = ramp(dtype="<i2", start=100)
    padded = pixels.copy()
    padded[0] = -2000
    actual = shown(padded, PixelPaddingValue=-2000, BitsStored=16, HighBit=15)
    assert (actual[0] == 0).all()
    kept = pixels[1:].astype(float)
    low, high = kept.ravel()[1], kept.ravel()[-2]
    close(actual[1:], np.clip((kept - low) / (high - low), 0, 1))


def test_padding_stays_black_when_inverted() -> None:
    pixels = RAMP.copy()
    pixels[0] = 0
    pixels[1] = 4095
    actual = shown(pixels, PixelPaddingValue=4095, PhotometricInterpretation="MONOCHROME1")
    assert (actual[1] == 0).all()
    assert (actual[0] == 1).all()


def test_padding_range() -> None:
    pixels = ramp(start=1000)
    actual = shown(pixels, PixelPaddingValue=1010, PixelPaddingRangeLimit=1000, PhotometricInterpretation="MONOCHROME1")
    assert (actual.ravel()[:11] == 0).all()
    assert actual.ravel()[11] == 1


# --- look-up tables ----------------------------------------------------------------------------------------


def test_voi_lut_is_applied_before_any_window() -> None:
    entries = [0, 0, 255, 1023]
    actual = shown(VOILUTSequence=lut_item(entries, 100, 10), WindowCenter=3, WindowWidth=2)
    expected = np.array(entries)[np.clip(RAMP.astype(int) - 100, 0, 3)] / 1023
    close(actual, expected)


def test_voi_lut_that_overstates_its_bits() -> None:
    """16 bits declared, 12 used: the image is not black."""
    entries = list(range(0, 4096, 16))
    assert shown(VOILUTSequence=lut_item(entries, 0, 16)).max() > 0.99


def test_modality_lut() -> None:
    entries = [(255 - n) * 2 for n in range(256)]
    actual = shown(ModalityLUTSequence=lut_item(entries, 0, 16), WindowCenter=200, WindowWidth=101)
    close(actual, np.clip((np.array(entries)[RAMP] - 199.5) / 100 + 0.5, 0, 1))


def test_signed_voi_lut_input() -> None:
    pixels = ramp(dtype="<i2", start=-128)
    entries = list(range(256))
    close(shown(pixels, VOILUTSequence=lut_item(entries, -128, 8)), (pixels.astype(float) + 128) / 255)


def test_broken_lut_is_left_aside() -> None:
    item = Dataset()
    item.add_new(0x00283002, "US", [256, 0, 12])
    item.add_new(0x00283006, "OW", b"\x00\x01")
    close(shown(VOILUTSequence=Sequence([item])), shown())


def test_first_frame_of_an_enhanced_image_has_its_own_window() -> None:
    def frame(slope: float, center: float) -> Dataset:
        value, voi, measures, item = Dataset(), Dataset(), Dataset(), Dataset()
        value.RescaleSlope, value.RescaleIntercept = slope, 10
        voi.WindowCenter, voi.WindowWidth = center, 101
        measures.PixelSpacing = [0.5, 0.25]
        item.PixelValueTransformationSequence = Sequence([value])
        item.FrameVOILUTSequence = Sequence([voi])
        item.PixelMeasuresSequence = Sequence([measures])
        return item

    ds = dataset(RAMP, NumberOfFrames=2, PerFrameFunctionalGroupsSequence=Sequence([frame(2, 200), frame(1, 0)]))
    ds.PixelData = RAMP.tobytes() + bytes(512)
    read = image(to_bytes(ds), name="a")
    close(read.image.pixels, np.clip((RAMP * 2.0 + 10 - 199.5) / 100 + 0.5, 0, 1))
    assert read.image.spacing_mm == (0.5, 0.25)
    assert read.header.number_of_frames == 2


# --- spacing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "spacing"),
    [
        ({}, None),
        ({"PixelSpacing": [0.2, 0.1]}, (0.2, 0.1)),
        ({"ImagerPixelSpacing": [0.3, 0.4]}, (0.3, 0.4)),
        ({"PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [0.3, 0.4]}, (0.2, 0.1)),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.3, 0.4]}, (0.3, 0.4)),
        ({"PixelSpacing": [-1, 1]}, None),
        ({"PixelSpacing": 1}, None),
    ],
)
def test_spacing(attributes: dict[str, Any], spacing: tuple[float, float] | None) -> None:
    assert image(radiograph(None, **attributes), name="a").image.spacing_mm == spacing


# --- colour ------------------------------------------------------------------------------------------------


def test_rgb_becomes_luma() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    expected = rgb @ np.array([0.299, 0.587, 0.114]) / 255
    read = image(radiograph(rgb), name="a").image
    assert read.was_colour
    np.testing.assert_allclose(read.pixels, expected, atol=1e-6)
    planes = dataset(rgb, PlanarConfiguration=1, PixelData=np.moveaxis(rgb, -1, 0).tobytes())
    np.testing.assert_array_equal(image(to_bytes(planes), name="a").image.pixels, read.pixels)


def test_grey_in_rgb_is_no_colour() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    read = image(radiograph(np.dstack([grey] * 3)), name="a").image
    assert not read.was_colour
    np.testing.assert_allclose(read.pixels, grey / 255, atol=1e-6)


def test_ybr_is_its_luma() -> None:
    y = np.arange(256, dtype=np.uint8).reshape(16, 16)
    chroma = np.full_like(y, 128)
    read = image(radiograph(np.dstack([y, chroma, chroma]), PhotometricInterpretation="YBR_FULL"), name="a").image
    assert not read.was_colour
    close(read.pixels, y / 255)
    read = image(radiograph(np.dstack([y, chroma + 50, chroma]), PhotometricInterpretation="YBR_FULL"), name="a").image
    assert read.was_colour


def test_ybr_422() -> None:
    y = np.arange(256, dtype=np.uint8).reshape(16, 16)
    quads = np.full((128, 4), 128, np.uint8)
    quads[:, :2] = y.reshape(-1, 2)
    ds = dataset(np.dstack([y] * 3), PhotometricInterpretation="YBR_FULL_422", PixelData=quads.tobytes())
    close(image(to_bytes(ds), name="a").image.pixels, y / 255)


def palette(entries: NDArray[Any], bits: int, first: int = 0) -> dict[str, Any]:
    """Attributes of a palette with `entries` (count, 3)."""
    found: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for column, colour in enumerate(("Red", "Green", "Blue")):
        found[f"{colour}PaletteColorLookupTableDescriptor"] = [len(entries), first, bits]
        found[f"{colour}PaletteColorLookupTableData"] = np.ascontiguousarray(entries[:, column]).tobytes()
    return found


@pytest.mark.parametrize("bits", [8, 16])
def test_palette(bits: int) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    entries = np.random.default_rng(2).integers(0, 1 << bits, (256, 3)).astype(f"<u{bits // 8}")
    entries[0] = (1 << bits) - 1
    read = image(radiograph(pixels, **palette(entries, bits)), name="a").image
    assert read.was_colour
    expected = entries[pixels] @ np.array([0.299, 0.587, 0.114]) / ((1 << bits) - 1)
    np.testing.assert_allclose(read.pixels, expected, atol=1e-6)


def test_grey_palette_is_no_colour() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    grey = np.repeat(np.arange(255, -1, -1, dtype=np.uint8)[:, None], 3, axis=1)
    read = image(radiograph(pixels, **palette(grey, 8)), name="a").image
    assert not read.was_colour
    np.testing.assert_allclose(read.pixels, 1 - pixels / 255, atol=1e-6)


def test_segmented_palette() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    # Discrete: 0; linear: 255 more up to 65280; (0, 1, 0), (1, 255, 65280).
    words = np.array([0, 1, 0, 1, 255, 65280], "<u2").tobytes()
    attributes: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        attributes[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        attributes[f"Segmented{colour}PaletteColorLookupTableData"] = words
    read = image(radiograph(pixels, **attributes), name="a").image
    np.testing.assert_allclose(read.pixels, pixels * 256.0 / 65535, atol=1e-6)


# --- compressed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, UID("1.2.840.10008.1.2.4.90")])
@pytest.mark.parametrize("signed", [False, True])
def test_lossless_syntaxes_give_the_native_pixels(syntax: UID, signed: bool) -> None:
    pixels = ramp(32, 32, "<i2" if signed else "<u2", -300 if signed else 0)
    window = {"WindowCenter": 200, "WindowWidth": 401}
    ds = dataset(pixels, **window)
    native = image(to_bytes(ds), name="a").image.pixels
    close(image(compressed(ds, syntax), name="a").image.pixels, native)


def test_uncompressed_pixels_under_a_compressed_syntax() -> None:
    """Archives that decompressed the pixels and forgot the transfer syntax."""
    native = radiograph(RAMP)
    mislabelled = native.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
    assert mislabelled != native
    close(image(mislabelled, name="a").image.pixels, shown(RAMP))


def test_first_frame_of_several_compressed_ones() -> None:
    frames = [ramp(16, 16, "<u2", n) for n in (0, 500)]
    ds = dataset(np.concatenate(frames), Rows=16, NumberOfFrames=2)
    close(image(compressed(ds, RLELossless), name="a").image.pixels, shown(frames[0]))


def test_twelve_bit_jpeg_extended_as_dcmtk_decodes_it() -> None:
    """Against `dcmdjpeg` 3.6.7, which gives these stored values; 0 and 112 are their percentiles, so become 0 and 1."""
    data = Path(str(get_testdata_file("JPEG-lossy.dcm"))).read_bytes()
    pixels = image(data, name="a").image.pixels
    stored = [[81, 73, 73, 80], [56, 56, 58, 63], [33, 34, 35, 38]]
    close(pixels[420:450:10, 120:124], np.array(stored) / 112)
