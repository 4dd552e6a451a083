"""Boxes lie where the evidence is, in pixels of the stored image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overread.domain.evidence import Interval, OutputEvidence
from overread.domain.image import BoundingBox
from overread.pipeline.detect import LARGEST_BOX, confidence, confidences, locate
from overread.pipeline.ports import Prediction
from overread.pipeline.preprocess import Frame

WHOLE = Frame(x=0, y=0, width=1000, height=2000, image_rows=2000, image_columns=1000)


def output(slope: float, intercept: float) -> OutputEvidence:
    some = Interval(value=0.8, low=0.7, high=0.9)
    return OutputEvidence(
        finding="pneumothorax", threshold_show=0.5, threshold_raise=0.7, slope=slope, intercept=intercept,
        sensitivity=some, specificity=some, auc=some, cues_auc=0.5, patients=1, images=1, positives=1,
    )  # fmt: skip


def bump(row: float, column: float, *, size: int = 12, width: float = 1.2) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * width**2)).astype(np.float32)


def test_box_surrounds_the_peak() -> None:
    box = locate(bump(3, 9), WHOLE)
    assert box is not None
    centre = (box.x + box.width / 2, box.y + box.height / 2)
    assert centre == (pytest.approx(9.5 / 12 * 1000, abs=15), pytest.approx(3.5 / 12 * 2000, abs=30))


def test_box_follows_the_frame() -> None:
    frame = Frame(x=100, y=50, width=400, height=300, image_rows=500, image_columns=700)
    box, whole = locate(bump(4, 7), frame), locate(bump(4, 7), WHOLE)
    assert box is not None and whole is not None
    assert box.x == pytest.approx(100 + whole.x * 0.4, abs=2) and box.y == pytest.approx(50 + whole.y * 0.15, abs=2)


def test_a_second_spot_is_not_joined() -> None:
    box = locate(np.maximum(bump(2, 2), 0.9 * bump(9, 9)), WHOLE)
    assert box is not None and box.x + box.width < 600 and box.y + box.height < 1100


def test_flat_map_says_nothing() -> None:
    assert locate(np.full((12, 12), 3.0, dtype=np.float32), WHOLE) is None


def test_peak_in_the_padding_says_nothing() -> None:
    frame = Frame(x=-500, y=0, width=2000, height=1000, image_rows=1000, image_columns=1000)
    assert locate(bump(6, 0, width=0.6), frame) is None


@given(
    values=st.lists(st.floats(-20, 20, width=32), min_size=144, max_size=144),
    x=st.floats(-50, 50), y=st.floats(-50, 50), width=st.floats(60, 400), height=st.floats(60, 400),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_box_is_inside_the_image_and_not_too_large(
    values: list[float], x: float, y: float, width: float, height: float
) -> None:
    frame = Frame(x=x, y=y, width=width, height=height, image_rows=211, image_columns=173)
    box = locate(np.array(values, dtype=np.float32).reshape(12, 12), frame)
    if box is not None:
        assert box.area <= LARGEST_BOX * 211 * 173
        assert box == BoundingBox(x=max(box.x, 0), y=max(box.y, 0), width=box.width, height=box.height)
        assert box.x + box.width <= 173 and box.y + box.height <= 211


def test_confidence_is_platt_scaling() -> None:
    assert confidence(output(2.0, -1.0), 0.5) == pytest.approx(0.5)
    assert confidence(output(1.0, 0.0), 800.0) == 1.0 and confidence(output(1.0, 0.0), -800.0) == 0.0
    prediction = Prediction(logits=np.array([0.0], dtype=np.float32))
    assert confidences([output(1.0, 1.0)], prediction) == {"pneumothorax": pytest.approx(0.731, abs=1e-3)}
