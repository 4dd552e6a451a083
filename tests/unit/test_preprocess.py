"""Preprocessing: the same look whatever the size, and a frame that leads back to the stored image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from overread.domain.evidence import InputSpec
from overread.pipeline.preprocess import MOST_CUT, prepare, standardise


def spec(**changes: object) -> InputSpec:
    values: dict[str, object] = {
        "name": "image", "rows": 192, "columns": 192, "channels": 1, "mean": (0.5,), "std": (0.5,),
        "percentiles": (1.0, 99.0), "fit": "stretch",
        "extra": (("crop_dark_borders", 1.0), ("working_columns", 128.0), ("working_rows", 128.0)),
    }  # fmt: skip
    return InputSpec(**(values | changes))  # type: ignore[arg-type]


def scene(rows: int, columns: int) -> np.ndarray:
    """A smooth picture that does not depend on the number of pixels."""
    y = (np.arange(rows)[:, None] + 0.5) / rows
    x = (np.arange(columns)[None] + 0.5) / columns
    picture = 0.5 + 0.3 * np.sin(7 * x) * np.cos(5 * y) + 0.2 * np.exp(-((x - 0.3) ** 2 + (y - 0.6) ** 2) / 0.01)
    return picture.astype(np.float32)


@pytest.mark.parametrize(("rows", "columns"), [(128, 128), (512, 512), (2500, 2048), (1024, 900), (97, 131)])
def test_size_does_not_matter(rows: int, columns: int) -> None:
    small = prepare(scene(128, 128), spec()).tensor
    other = prepare(scene(rows, columns), spec()).tensor
    assert other.shape == (1, 1, 192, 192) and other.dtype == np.float32
    assert np.abs(small - other).mean() < 0.02


@given(
    low=st.floats(0.0, 0.4), gain=st.floats(0.2, 0.6)
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_window_does_not_matter(low: float, gain: float) -> None:
    picture = scene(256, 256)
    assert np.allclose(
        prepare(picture, spec()).tensor, prepare((low + gain * picture).astype(np.float32), spec()).tensor, atol=0.01
    )


def test_dark_borders_are_cut_and_the_frame_says_so() -> None:
    picture = np.zeros((400, 500), dtype=np.float32)
    picture[40:360, 60:480] = 0.3 + 0.7 * scene(320, 420)
    _, frame = standardise(picture, spec())
    assert abs(frame.x - 60) <= 5 and abs(frame.y - 40) <= 5
    assert abs(frame.width - 420) <= 9 and abs(frame.height - 320) <= 9
    assert (frame.image_rows, frame.image_columns) == (400, 500)


def test_no_more_is_cut_than_allowed() -> None:
    picture = np.zeros((400, 400), dtype=np.float32)
    picture[180:220, 180:220] = 1.0
    _, frame = standardise(picture, spec())
    assert frame.width >= (1 - 2 * MOST_CUT) * 400 - 1


def test_pad_keeps_the_aspect() -> None:
    picture = 0.2 + 0.8 * scene(300, 150)
    _, frame = standardise(picture, spec(fit="pad"))
    assert frame.width == pytest.approx(300, rel=0.02) and frame.height == pytest.approx(300, rel=0.02)
    assert frame.x == pytest.approx(-75, abs=3)


def test_three_channels_are_the_grey_image_thrice() -> None:
    tensor = prepare(scene(200, 200), spec(channels=3, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 2.0))).tensor
    assert tensor.shape == (1, 3, 192, 192)
    assert np.array_equal(tensor[0, 0], tensor[0, 1]) and np.allclose(tensor[0, 0] / 2, tensor[0, 2])


def test_constant_image_gives_constant_input() -> None:
    assert np.ptp(prepare(np.full((300, 200), 0.4, dtype=np.float32), spec()).tensor) == 0.0


@pytest.mark.parametrize("bad", [np.full((9, 9), np.nan, dtype=np.float32), np.zeros((0, 4), dtype=np.float32)])
def test_unusable_pixels_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"finite|shape"):
        prepare(bad, spec())


def test_enlarging_is_what_training_does() -> None:
    """Training enlarges with torch's bilinear rule (half-pixel centres); Pillow's is the same within rounding."""
    small = scene(128, 128)
    ours = np.asarray(Image.fromarray(small).resize((192, 192), Image.Resampling.BILINEAR))
    at = (np.arange(192) + 0.5) * 128 / 192 - 0.5
    low = np.clip(np.floor(at).astype(int), 0, 127)
    high = np.clip(low + 1, 0, 127)
    part = (np.clip(at, 0, 127) - low).astype(np.float32)
    rows = small[low] * (1 - part)[:, None] + small[high] * part[:, None]
    both = rows[:, low] * (1 - part) + rows[:, high] * part
    assert np.allclose(ours, both, atol=1e-5)
