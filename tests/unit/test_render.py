"""What is drawn: sizes, grey values, boxes that are told apart without colour, labels that stay inside."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from overread.domain.image import BoundingBox, GreyImage
from overread.domain.priority import Level
from overread.domain.texts import DISCLAIMER
from overread.render import LabelledBox, render_png, thumbnail
from overread.render.boxes import STYLES

DARK = GreyImage(pixels=np.zeros((800, 1000), np.float32))


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png), formats=["PNG"])


def pixels_of(png: bytes) -> NDArray[Any]:
    return np.asarray(opened(png))


def grey(rows: int, columns: int, spacing: tuple[float, float] | None = None) -> GreyImage:
    ramp = np.linspace(0, 1, rows * columns, dtype=np.float32).reshape(rows, columns)
    return GreyImage(pixels=ramp, spacing_mm=spacing)


def box(severity: Level = Level.CRITICAL, x: int = 300, y: int = 300, size: int = 200, label: str = "A") -> LabelledBox:
    return LabelledBox(box=BoundingBox(x=x, y=y, width=size, height=size), label=label, severity=severity)


def is_colour(pixels: NDArray[Any], severity: Level) -> NDArray[np.bool_]:
    return (pixels == np.array(STYLES[severity].colour)).all(axis=-1)


# --- the image itself --------------------------------------------------------------------------------------


def test_plain_image_is_its_grey_values() -> None:
    image = grey(64, 48)
    picture = opened(render_png(image))
    assert picture.mode == "L"
    np.testing.assert_array_equal(np.asarray(picture), np.rint(image.pixels * 255))


def test_every_picture_carries_the_disclaimer() -> None:
    assert opened(render_png(grey(32, 32))).info["Disclaimer"] == DISCLAIMER


def test_window() -> None:
    image = grey(64, 64)
    shown = pixels_of(render_png(image, window=(0.25, 0.75)))
    np.testing.assert_allclose(shown, np.clip((image.pixels - 0.25) * 2, 0, 1) * 255, atol=0.51)


@pytest.mark.parametrize(("max_side", "size"), [(None, (400, 200)), (1000, (400, 200)), (100, (100, 50)), (1, (1, 1))])
def test_size(max_side: int | None, size: tuple[int, int]) -> None:
    assert opened(render_png(grey(200, 400), max_side=max_side)).size == size


def test_pixels_become_square() -> None:
    assert opened(render_png(grey(100, 400, (2.0, 1.0)), scale=False)).size == (400, 200)
    assert opened(render_png(grey(400, 100, (1.0, 2.0)), scale=False)).size == (200, 400)
    assert opened(render_png(grey(100, 100, (1.0, 1.01)), scale=False)).size == (100, 100)


def test_small_image_with_boxes_is_enlarged_for_its_labels() -> None:
    assert opened(render_png(grey(64, 128), boxes=[box(x=5, y=5, size=20)])).size == (640, 320)
    assert opened(render_png(grey(64, 128), boxes=[box(x=5, y=5, size=20)], max_side=200)).size == (200, 100)


def test_thumbnail() -> None:
    picture = opened(thumbnail(grey(1000, 2000, (0.1, 0.1)), side=160))
    assert (picture.mode, picture.size) == ("L", (160, 80))


@pytest.mark.parametrize("wrong", [{"max_side": 0}, {"window": (0.5, 0.5)}, {"window": (1.0, 0.0)}])
def test_senseless_arguments(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"max_side|window"):
        render_png(grey(32, 32), **wrong)


# --- boxes -------------------------------------------------------------------------------------------------


def test_box_is_drawn_where_it_is() -> None:
    hit = is_colour(pixels_of(render_png(DARK, boxes=[box()])), Level.CRITICAL)
    rows, columns = np.nonzero(hit)
    # The label stands above the box, so only the lower end of the rows is the box's.
    assert columns.min() in range(297, 301)
    assert rows.max() in range(499, 503)
    assert hit[500, 320:480].all()
    assert hit[320:480, 300].all()
    assert not hit[320:480, 320:480].any()


def test_severities_differ_without_colour() -> None:
    """Line and words: solid and thick, long dashes, dots; and each label begins with the severity's name."""
    shares = {}
    for level in Level:
        edge = is_colour(pixels_of(render_png(DARK, boxes=[box(level)])), level)[320:480, 295:306]
        shares[level] = (edge.any(axis=1).mean(), edge.sum(axis=1).max())
    assert shares[Level.CRITICAL][0] == 1
    assert 0.6 < shares[Level.URGENT][0] < 0.9
    assert 0.2 < shares[Level.ROUTINE][0] < 0.55
    assert shares[Level.CRITICAL][1] > shares[Level.URGENT][1]
    assert [box(level, label="Nodule 40%").text for level in Level] == [
        "ROUTINE · Nodule 40%",
        "URGENT · Nodule 40%",
        "CRITICAL · Nodule 40%",
    ]


def test_exploratory_is_said() -> None:
    shown = LabelledBox(
        box=BoundingBox(x=1, y=1, width=9, height=9), label="Mass 60%", severity=Level.URGENT, exploratory=True
    )
    assert shown.text == "URGENT · Mass 60% (exploratory)"


@pytest.mark.parametrize("level", list(Level))
def test_labels_contrast_with_their_ground(level: Level) -> None:
    """At least 7:1 against the black text (WCAG 2.2, 1.4.6)."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in STYLES[level].colour)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    assert (luminance + 0.05) / 0.05 >= 7


def test_most_pressing_box_is_on_top() -> None:
    boxes = [box(Level.CRITICAL), box(Level.ROUTINE), box(Level.URGENT)]
    shown = pixels_of(render_png(DARK, boxes=boxes))
    assert is_colour(shown, Level.CRITICAL)[320:480, 300].all()


def test_labels_do_not_hide_each_other() -> None:
    boxes = [box(level, label="Pleural effusion 73%") for level in Level] * 2
    shown = pixels_of(render_png(DARK, boxes=boxes))
    one = is_colour(pixels_of(render_png(DARK, boxes=[boxes[0]])), Level.ROUTINE).sum()
    assert is_colour(shown, Level.ROUTINE).sum() > 1.5 * one


def test_box_stays_visible_on_white() -> None:
    white = GreyImage(pixels=np.ones((800, 1000), np.float32))
    shown = pixels_of(render_png(white, boxes=[box(Level.URGENT)]))
    black = (shown == 0).all(axis=-1)
    assert black[320:480, 290:312].any(axis=1).all()


def test_box_outside_the_image_is_cut() -> None:
    shown = pixels_of(render_png(DARK, boxes=[box(x=900, y=700, size=5000), box(x=5000, y=5000)]))
    assert is_colour(shown, Level.CRITICAL).any()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(16, 300),
    columns=st.integers(16, 300),
    x=st.integers(0, 400),
    y=st.integers(0, 400),
    size=st.integers(1, 500),
    label=st.text(max_size=120),
    level=st.sampled_from(Level),
    max_side=st.one_of(st.none(), st.integers(1, 700)),
)
def test_anything_can_be_drawn(
    rows: int, columns: int, x: int, y: int, size: int, label: str, level: Level, max_side: int | None
) -> None:
    image = GreyImage(pixels=np.zeros((rows, columns), np.float32), spacing_mm=(0.5, 0.5))
    picture = opened(render_png(image, boxes=[box(level, x, y, size, label)], max_side=max_side))
    assert picture.mode == "RGB"
    assert max(picture.size) <= (max_side or 640)


# --- scale -------------------------------------------------------------------------------------------------


def test_scale_has_the_length_that_it_says() -> None:
    """0.5 mm a pixel, 400 rows, at most two fifths of them: 50 mm, so 100 pixels between the outer ticks."""
    shown = pixels_of(render_png(GreyImage(pixels=np.zeros((400, 400), np.float32), spacing_mm=(0.5, 0.5))))
    white = (shown == 255).all(axis=-1)
    column = white[:, 395]
    rows = np.nonzero(column)[0]
    assert rows.max() - rows.min() in (100, 101)
    ticks = np.nonzero(white[:, 393])[0]
    assert len([row for row in ticks if row <= rows.max()]) == 6


def test_scale_only_where_spacing_is_known_and_wanted() -> None:
    assert opened(render_png(grey(400, 400))).mode == "L"
    assert opened(render_png(grey(400, 400, (0.5, 0.5)), scale=False)).mode == "L"


def test_no_scale_that_could_not_be_read() -> None:
    shown = pixels_of(render_png(GreyImage(pixels=np.zeros((400, 400), np.float32), spacing_mm=(90.0, 90.0))))
    assert (shown == 0).all()
