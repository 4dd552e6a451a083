"""From what a model says to confidences and boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.evidence import OutputEvidence
from overread.domain.image import BoundingBox
from overread.pipeline.ports import Prediction
from overread.pipeline.preprocess import Frame

#: A box goes round the part of the evidence that is above this level, 0 = the map's median, 1 = its peak.
#: Chosen on radiologists' boxes of training and validation patients (training/chest_xray/report.md).
BOX_LEVEL = 0.65
#: No box is larger than this part of the stored image: one that is says nothing.
LARGEST_BOX = 0.4
#: Points between two of the map's, for a finer outline.
_FINER = 8
#: By how much the level rises while a box is too large.
_STEP = 0.02


def confidence(output: OutputEvidence, logit: float) -> float:
    """The calibrated confidence of one output, 0..1 (Platt scaling, see `OutputEvidence`)."""
    z = output.slope * logit + output.intercept
    return 1.0 / (1.0 + math.exp(-z)) if z >= 0 else math.exp(z) / (1.0 + math.exp(z))


def confidences(outputs: Sequence[OutputEvidence], prediction: Prediction) -> Mapping[str, float]:
    """The calibrated confidence of each output, by finding type."""
    pairs = zip(outputs, prediction.logits, strict=True)
    return {output.finding: confidence(output, float(logit)) for output, logit in pairs}


def locate(evidence: NDArray[np.float32], frame: Frame, *, level: float = BOX_LEVEL) -> BoundingBox | None:
    """The box of the strongest evidence, in pixels of the stored image, at most `LARGEST_BOX` of it.

    `evidence` is one output's map, float32 (h, w), over the input that `frame` places in the stored image. None if the
    map is flat, which says nothing of where, or its peak lies in padding.
    """
    h, w = evidence.shape
    fine = _finer(evidence)
    low, peak = float(np.median(fine)), float(fine.max())
    if peak - low < 1e-6:
        return None
    at = np.unravel_index(int(fine.argmax()), fine.shape)
    most = LARGEST_BOX * frame.image_rows * frame.image_columns
    while level < 1.0:
        rows, columns = _component(fine > low + level * (peak - low), at)
        box = _stored(rows, columns, h * _FINER, w * _FINER, frame)
        if box is None or box.area <= most:
            return box
        level += _STEP
    return None


def _finer(evidence: NDArray[np.float32]) -> NDArray[np.float64]:
    """Bilinear, `_FINER` points for each of the map's, whose centres stay where they are."""
    h, w = evidence.shape
    y = (np.arange(h * _FINER) + 0.5) / _FINER - 0.5
    x = (np.arange(w * _FINER) + 0.5) / _FINER - 0.5
    grid = np.meshgrid(y, x, indexing="ij")
    fine: NDArray[np.float64] = ndimage.map_coordinates(evidence.astype(np.float64), grid, order=1, mode="nearest")
    return fine


def _component(above: NDArray[np.bool_], at: tuple[np.intp, ...]) -> tuple[slice, slice]:
    """Rows and columns of the connected part that holds the point `at`."""
    parts, _ = ndimage.label(above)
    rows, columns = ndimage.find_objects((parts == parts[at]).astype(np.int8))[0]
    return rows, columns


def _stored(rows: slice, columns: slice, height: int, width: int, frame: Frame) -> BoundingBox | None:
    """In pixels of the stored image, cut at its edges."""
    left, top = frame.to_stored(columns.start / width, rows.start / height)
    right, bottom = frame.to_stored(columns.stop / width, rows.stop / height)
    x0, y0 = max(0, math.floor(left)), max(0, math.floor(top))
    x1, y1 = min(frame.image_columns, math.ceil(right)), min(frame.image_rows, math.ceil(bottom))
    if x1 <= x0 or y1 <= y0:
        return None
    return BoundingBox(x=x0, y=y0, width=x1 - x0, height=y1 - y0)
