"""The lead letter of a side marker, drawn from strokes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from overread.phantom.grid import Floats

# Strokes in a unit box, (x, y) down from the top left.
_BOWL = [(0.0, 0.0), (0.55, 0.0), (0.78, 0.08), (0.85, 0.26), (0.78, 0.44), (0.55, 0.52), (0.0, 0.52)]
_STROKES: dict[str, list[list[tuple[float, float]]]] = {
    "R": [[(0.0, 0.0), (0.0, 1.0)], _BOWL, [(0.42, 0.52), (0.85, 1.0)]],
    "L": [[(0.1, 0.0), (0.1, 1.0), (0.8, 1.0)]],
}
#: Height of the letter and half the width of its stroke, mm.
HEIGHT_MM, STROKE_MM = 13.0, 1.4


def draw_letter(grey: Floats, letter: str, pixel_mm: float, border: tuple[float, float, float, float]) -> None:
    """Burn ``letter`` ("R" or "L") white into ``grey`` (0..1), in the upper corner of the patient's side.

    The image shows the patient from the front: the patient's right is at the left edge. ``border`` is the
    collimator's (top, bottom, left, right), mm. Raises KeyError for another letter.
    """
    top = border[0] + 14.0
    width = grey.shape[1] * pixel_mm
    left = border[2] + 16.0 if letter == "R" else width - border[3] - 16.0 - HEIGHT_MM
    row = (np.arange(grey.shape[0], dtype=np.float32) * pixel_mm - np.float32(top))[:, None]
    col = (np.arange(grey.shape[1], dtype=np.float32) * pixel_mm - np.float32(left))[None, :]
    rows = slice(max(0, int((top - 4) / pixel_mm)), int((top + HEIGHT_MM + 4) / pixel_mm))
    cols = slice(max(0, int((left - 4) / pixel_mm)), int((left + HEIGHT_MM + 4) / pixel_mm))
    row, col = row[rows], col[:, cols]
    nearest = np.full((row.shape[0], col.shape[1]), np.inf, dtype=np.float32)
    for stroke in _STROKES[letter]:
        points = np.asarray(stroke) * HEIGHT_MM
        for (ax, ay), (bx, by) in pairwise(points):
            dx, dy = bx - ax, by - ay
            t = np.clip(((col - ax) * dx + (row - ay) * dy) / (dx * dx + dy * dy), 0, 1)
            nearest = np.minimum(nearest, np.hypot(col - ax - t * dx, row - ay - t * dy).astype(np.float32))
    ink = np.clip(0.5 - (nearest - STROKE_MM) / pixel_mm, 0, 1)
    part = grey[rows, cols]
    grey[rows, cols] = part + ink * (np.float32(0.99) - part)
