"""Words in pictures, read by RapidOCR in its own process; and what happens when that process is no help.

Without the extra `overread[ocr]` the first is skipped, in CI it fails.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from overread.dicom.deidentify.burned_in import may_stay
from overread.dicom.deidentify.ocr import OcrProcess, installed
from overread.dicom.deidentify.ocr_child import tiles
from overread.domain.errors import BurnedInText


def screenshot() -> Image.Image:
    picture = Image.fromarray(np.random.default_rng(5).integers(20, 90, (320, 480)).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    draw.text((20, 12), "DOE^JANE 12.03.1961", fill=255, font=ImageFont.load_default(20))
    draw.text((440, 280), "L", fill=255, font=ImageFont.load_default(28))
    return picture


@pytest.fixture
def reader():  # type: ignore[no-untyped-def]
    made = OcrProcess()
    yield made
    made.close()


def test_a_name_is_found_where_it_stands_and_a_side_marker_may_stay(reader: OcrProcess) -> None:
    if not installed():
        if os.environ.get("CI"):
            pytest.fail("overread[ocr] is not installed: in CI that is an error")
        pytest.skip("overread[ocr] is not installed")
    words = reader.find(np.asarray(screenshot()))
    gone = [word for word in words if not may_stay(word)]
    assert gone
    covered = np.zeros((320, 480), bool)
    for word in gone:
        covered[word.box.top - 3 : word.box.bottom + 3, word.box.left - 3 : word.box.right + 3] = True
    letters = np.asarray(screenshot())[:60] == 255
    assert (covered[:60] & letters).sum() >= 0.99 * letters.sum()
    assert [word.text for word in words if may_stay(word)] in (["L"], [])


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import sys; sys.exit(1)", "broke"),
        ("import time; time.sleep(60)", "took too long"),
        ("import sys; sys.stdout.buffer.write(b'x' * 64); sys.stdout.flush()", "broke"),
    ],
)
def test_a_reader_that_breaks_refuses_the_picture(program: str, why: str) -> None:
    reader = OcrProcess((sys.executable, "-c", program), timeout_s=1.5)
    with pytest.raises(BurnedInText, match=why):
        reader.find(np.zeros((64, 64), np.uint8))
    reader.close()


@pytest.mark.parametrize(("height", "width"), [(100, 90), (1600, 1601), (3000, 2500), (5000, 400)])
def test_tiles_cover_all_and_overlap(height: int, width: int) -> None:
    seen = np.zeros((height, width), np.uint8)
    for top, bottom, left, right in tiles(height, width):
        assert 0 < bottom - top <= 1600
        assert 0 < right - left <= 1600
        seen[top:bottom, left:right] += 1
    assert seen.min() >= 1
