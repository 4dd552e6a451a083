"""Where a slice lies in the patient: ImagePositionPatient and ImageOrientationPatient, checked (PS3.3 C.7.6.2.1.1)."""

from __future__ import annotations

import math

Triple = tuple[float, float, float]


def position(values: tuple[float, ...]) -> Triple | None:
    """Of the first pixel's centre, mm, LPS+. None also for what lies a hundred metres away: no patient does."""
    if len(values) != 3 or max(map(abs, values)) > 1e5:
        return None
    return values[0], values[1], values[2]


def orientation(values: tuple[float, ...]) -> tuple[float, ...] | None:
    """Six direction cosines as exact unit vectors; None if they are none, or not at right angles to 0.6 degrees."""
    if len(values) != 6:
        return None
    lengths = math.hypot(*values[:3]), math.hypot(*values[3:])
    if any(abs(length - 1) > 0.01 for length in lengths):
        return None
    row = [value / lengths[0] for value in values[:3]]
    dot = sum(r * c for r, c in zip(row, values[3:], strict=True))
    if abs(dot) > 0.01:
        return None
    column = [c - dot * r for r, c in zip(row, values[3:], strict=True)]
    length = math.hypot(*column)
    return (*row, *(value / length for value in column))
