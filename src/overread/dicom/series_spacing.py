"""Positions along a line: which are regular, where slices are missing, where the distance changes. Pure, in mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Fewer slices tell nothing about their distance's regularity.
MIN_SLICES = 3
#: Closer than this is the same position: the thinnest slices of CT are 0.2 mm apart.
SAME_PLACE_MM = 0.05
#: A series cut into more parts than this is no volume any more.
MAX_PARTS = 4


@dataclass(frozen=True, kw_only=True)
class Part:
    """A regular part of a stack: slices `first` to `last` - 1 of the sorted ones."""

    first: int
    last: int

    @property
    def count(self) -> int:
        """Slices in it."""
        return self.last - self.first


def tolerance_mm(spacing: float) -> float:
    """How far a slice may lie from where it should: 5%, and 0.1 mm for files that round positions to 0.1 mm."""
    return min(max(0.1, 0.05 * spacing), spacing / 4)


def is_regular(positions: Floats) -> bool:
    """Whether sorted positions are a grid: no distance and no slice is off by more than `tolerance_mm`."""
    if len(positions) < 2:
        return True
    spacing = float(positions[-1] - positions[0]) / (len(positions) - 1)
    grid = positions[0] + spacing * np.arange(len(positions))
    allowed = tolerance_mm(spacing)
    return bool((np.abs(np.diff(positions) - spacing) <= allowed).all() and (np.abs(positions - grid) <= allowed).all())


def regular_parts(positions: Floats) -> list[Part]:
    """Sorted positions cut into regular parts of at least `MIN_SLICES`, as long as possible from the first on."""
    if len(positions) >= MIN_SLICES and is_regular(positions):
        return [Part(first=0, last=len(positions))]
    parts: list[Part] = []
    first = 0
    while first + MIN_SLICES <= len(positions):
        last = first + 2
        while last < len(positions) and is_regular(positions[first : last + 1]):
            last += 1
        if last - first >= MIN_SLICES:
            parts.append(Part(first=first, last=last))
            first = last
        else:
            first += 1
    return parts


def missing_positions(positions: Floats, spacing: float) -> tuple[float, ...]:
    """Where slices should lie in sorted positions: in gaps of a whole multiple of `spacing`."""
    missing: list[float] = []
    allowed = tolerance_mm(spacing)
    for before, distance in zip(positions, np.diff(positions), strict=False):
        steps = round(float(distance) / spacing)
        # More than a hundred in one place is no gap but another part of the body.
        if 2 <= steps <= 100 and abs(distance - steps * spacing) <= allowed:
            missing += [round(float(before + spacing * n), 3) for n in range(1, steps)]
    return tuple(missing)


def repeats(positions: Floats) -> tuple[float, ...]:
    """Positions that occur more than once in sorted positions."""
    again = np.flatnonzero(np.diff(positions) < SAME_PLACE_MM)
    return tuple(sorted({round(float(positions[at]), 3) for at in again}))
