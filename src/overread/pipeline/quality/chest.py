"""Polarity and position of a frontal chest radiograph, from where it is darker than its surroundings.

All of it is seen at 128 x 128: the lung fields are what is darker than the mean around it, between two brighter
stretches of the same row. That needs no training and finds both fields in nearly every film that shows two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.image import FloatImage
from overread.pipeline.quality import measures
from overread.pipeline.quality.score import Check, IssueType, Scale

#: Abdomen and mediastinum minus lung fields, in standard deviations of the image: 3.3 is usual, and an inverted image
#: has as much below zero.
POLARITY = Scale(clear=0.3, mild=0.0, moderate=-0.3, severe=-0.6)
#: Width of the lung fields in the outermost rows, as a share of the image: an apex or a base that ends inside has 0.
CUT = Scale(clear=0.02, mild=0.05, moderate=0.12, severe=0.25)
#: Share of the rows at mid-lung in which a lung field reaches the side of the image.
CUT_SIDE = Scale(clear=0.05, mild=0.15, moderate=0.35, severe=0.6)
#: Angle between the middle of the chest and the image's columns, degrees.
TILT = Scale(clear=4.0, mild=7.0, moderate=10.5, severe=16.0)
#: Distance of the middle of the chest from that of the image, as a share of its width.
OFF_CENTRE = Scale(clear=0.1, mild=0.12, moderate=0.16, severe=0.22)
#: Difference of the widths of both lung fields by their sum. Never severe: disease makes a lung narrow too.
ASYMMETRY = Scale(clear=0.3, mild=0.4, moderate=0.55, severe=1.2)

_SIDE = 128
#: Sigma of the surroundings that a pixel is compared with: half of a lung's width.
_AROUND = 18.0
#: Where each lung is expected, as (rows, columns) of the grid, and how many pixels of it must be there.
_ROWS = slice(32, 77)
_HALVES = (slice(15, 58), slice(70, 113))
_SEED_PIXELS = 60
#: Rows in which both fields must be seen before tilt and rotation are measured.
_BOTH_ROWS = 20
_POSITION_ADVICE = (
    "Repeat with both apices and both costophrenic angles in the field and the patient straight and centred."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class LungFields:
    """What is dark in a frontal chest, at 128 x 128."""

    #: The image, smoothed.
    pixels: FloatImage
    #: Darker than the surroundings: lungs, air beside the body.
    dark: NDArray[np.bool_]
    #: The lung fields.
    fields: NDArray[np.bool_]
    #: How many of the two were found.
    found: int


def assess(image: FloatImage) -> tuple[list[Check], list[str]]:
    """Checks of one frontal chest, float32 (rows, columns), 0..1, and what could not be looked at."""
    checks = [_polarity(image)]
    seen = lung_fields(image)
    if not seen.found:
        return checks, ["Positioning was not assessed: no lung field stands out from its surroundings."]
    checks.extend(_cut(seen))
    placed = placement(seen)
    if placed is None:
        return checks, ["Rotation was not assessed: both lung fields are not seen side by side."]
    checks.extend(_placed(*placed))
    return checks, []


def lung_fields(image: FloatImage) -> LungFields:
    """Find the lung fields of an image, float32 (rows, columns), 0..1."""
    small = measures.reduce(image, 2 * _SIDE).pixels
    factors = (_SIDE / small.shape[0], _SIDE / small.shape[1])
    pixels = ndimage.zoom(small, factors, order=1, mode="nearest", grid_mode=True)
    pixels = ndimage.gaussian_filter(pixels, 1.0)
    dark = pixels < _surroundings(pixels)
    wall = _opened(~dark)
    enclosed = dark & np.maximum.accumulate(wall, axis=1) & np.maximum.accumulate(wall[:, ::-1], axis=1)[:, ::-1]
    labels, count = ndimage.label(_opened(enclosed, across=True))
    fields, found = np.zeros_like(dark), 0
    for half in _HALVES:
        sizes = np.bincount(labels[_ROWS, half].ravel(), minlength=count + 1)
        sizes[0] = 0
        if sizes.max() >= _SEED_PIXELS:
            fields |= labels == sizes.argmax()
            found += 1
    return LungFields(pixels=np.asarray(pixels, np.float32), dark=dark, fields=fields, found=found)


def _surroundings(pixels: FloatImage) -> FloatImage:
    """Mean around each pixel, weighted by a Gaussian of `_AROUND`, as `ndimage.gaussian_filter` gives it.

    As two products of matrices, in parts that are too small for BLAS to wake its threads: ten times as fast.
    """
    weights = _around()
    down = (weights.reshape(-1, 8, _SIDE) @ pixels).reshape(-1, 8, _SIDE)
    return np.asarray((down @ weights.T).reshape(_SIDE, _SIDE))


@cache
def _around() -> FloatImage:
    """What each line gives to the mean around each, float32 (lines, lines)."""
    lines = np.eye(_SIDE, dtype=np.float64)
    return np.asarray(ndimage.gaussian_filter1d(lines, _AROUND, axis=0, mode="nearest"), np.float32)


def _opened(mask: NDArray[np.bool_], *, across: bool = False) -> NDArray[np.bool_]:
    """Without what is narrower than three pixels in its row or, if `across`, holds no square of 3 x 3."""
    kept = mask
    for combine in (np.logical_and, np.logical_or):
        for turned in (False, True) if across else (False,):
            lines = np.pad(kept.T if turned else kept, ((0, 0), (1, 1)))
            near = combine(combine(lines[:, :-2], lines[:, 2:]), lines[:, 1:-1])
            kept = near.T if turned else near
    return kept


def polarity(image: FloatImage) -> float:
    """Mean of mediastinum and abdomen minus that of both lung fields, twice, in standard deviations of the image."""
    rows, columns = image.shape

    def part(top: float, bottom: float, left: float, right: float) -> float:
        across = slice(int(left * columns), int(right * columns) + 1)
        return float(np.mean(image[int(top * rows) : int(bottom * rows) + 1, across]))

    spread = float(np.std(image[rows // 10 : rows - rows // 10, columns // 10 : columns - columns // 10]))
    if spread < 1e-3:
        return POLARITY.clear
    lungs = part(0.25, 0.6, 0.2, 0.4) + part(0.25, 0.6, 0.6, 0.8)
    return (part(0.2, 0.65, 0.44, 0.56) + part(0.82, 0.97, 0.35, 0.65) - lungs) / spread


def ends(seen: LungFields) -> tuple[float, float]:
    """Width of the lung fields at the top and at the bottom of the image, as shares of its width."""
    widths = seen.fields.sum(axis=1) / _SIDE
    return float(widths[1:3].max()), float(widths[-3:-1].max())


def sides(seen: LungFields) -> float:
    """Share of the rows at mid-lung in which the darkness beside the mediastinum runs to the side of the image."""
    middle = slice(int(0.3 * _SIDE), int(0.7 * _SIDE))
    ridge = middle.start + int(np.argmax(seen.pixels[_ROWS, middle].mean(axis=0)))
    rows = slice(int(0.35 * _SIDE), int(0.65 * _SIDE))
    halves = (seen.dark[rows, :ridge][:, ::-1], seen.dark[rows, ridge + 1 :])
    return max(float(np.mean(_runs_out(half))) for half in halves)


def _runs_out(outwards: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of each row, whether the first dark stretch from the mediastinum begins near it, is no mere line and ends at the
    border."""
    width = outwards.shape[1]
    begins = outwards.argmax(axis=1)
    after = ~outwards & (np.arange(width) > begins[:, None])
    stops = np.where(after.any(axis=1), after.argmax(axis=1), width)
    near = outwards.any(axis=1) & (begins < 0.2 * _SIDE)
    return np.asarray(near & (stops >= width - 1) & (stops - begins >= 0.1 * _SIDE))


def placement(seen: LungFields) -> tuple[float, float, float] | None:
    """(tilt in degrees, distance of the middle from the image's as a share, asymmetry 0..1); None if not seen.

    The middle of both outer edges and the middle of the mediastinum must lean to the same side: an opacity moves only
    the first, a large heart only the second.
    """
    left, right, centre, gap, at = [], [], [], [], []
    top = int(0.2 * _SIDE)
    for row, runs in enumerate(_wide_runs(seen.fields[top : int(0.75 * _SIDE)]), top):
        if len(runs) < 2:
            continue
        one, other = max(pairwise(runs), key=lambda pair: pair[1][0] - pair[0][1])
        begin, stop = runs[0][0], runs[-1][1]
        left.append(one[1] - begin)
        right.append(stop - other[0])
        centre.append((begin + stop) / 2)
        gap.append((one[1] + other[0]) / 2)
        at.append(row)
    if len(at) < _BOTH_ROWS:
        return None
    leaning = _slope(at, centre), _slope(at, gap)
    agreed = min(map(abs, leaning)) if leaning[0] * leaning[1] > 0 else 0.0
    tilt = float(np.degrees(np.arctan(agreed)))
    one_side, other_side = float(np.median(left)), float(np.median(right))
    return tilt, abs(float(np.median(centre)) / _SIDE - 0.5), abs(one_side - other_side) / (one_side + other_side)


def _wide_runs(mask: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """Of each row, the stretches (begin, stop) of at least five columns, from left to right."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, begins = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    found: list[list[tuple[int, int]]] = [[] for _ in mask]
    for row, begin, stop in zip(rows.tolist(), begins.tolist(), stops.tolist(), strict=True):
        if stop - begin >= 5:
            found[row].append((begin, stop))
    return found


def _slope(rows: list[int], columns: list[float]) -> float:
    """Columns per row, as the median over pairs half of the rows apart."""
    half = len(rows) // 2
    steps = [(columns[i + half] - columns[i]) / (rows[i + half] - rows[i]) for i in range(len(rows) - half)]
    return float(np.median(steps))


def _polarity(image: FloatImage) -> Check:
    darker = polarity(image)
    return Check(
        type=IssueType.INVERTED,
        grade=POLARITY.grade(darker),
        description=f"The lung fields are brighter than mediastinum and abdomen (by {-darker:.1f} "
        "standard deviations), as if black and white were exchanged.",
        recommendation="Check PhotometricInterpretation and the window, and send the image with the right polarity.",
    )


def _cut(seen: LungFields) -> list[Check]:
    top, bottom = ends(seen)
    side = sides(seen)
    where = (("top", "apices", top), ("bottom", "bases", bottom))
    checks = [
        Check(
            type=IssueType.CUT_OFF,
            grade=CUT.grade(share),
            description=f"The {what} are cut off: lung takes {share:.0%} of the image's width at its {edge}.",
            recommendation=_POSITION_ADVICE,
        )
        for edge, what, share in where
    ]
    checks.append(
        Check(
            type=IssueType.CUT_OFF,
            grade=CUT_SIDE.grade(side),
            description=f"A lung is cut off at the side: it reaches the border in {side:.0%} of the rows at mid-lung.",
            recommendation=_POSITION_ADVICE,
        )
    )
    return checks


def _placed(tilt: float, off: float, asymmetry: float) -> list[Check]:
    said = (
        (TILT.grade(tilt), f"The chest is tilted by {tilt:.0f} degrees."),
        (OFF_CENTRE.grade(off), f"The middle of the chest lies {off:.0%} of the width beside that of the image."),
        (
            ASYMMETRY.grade(asymmetry),
            f"The lung fields differ in width by {asymmetry:.0%} of their sum, as by rotation; disease can do it too.",
        ),
    )
    return [
        Check(type=IssueType.POSITIONING, grade=grade, description=text, recommendation=_POSITION_ADVICE)
        for grade, text in said
    ]
