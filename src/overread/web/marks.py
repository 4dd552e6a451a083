"""What is drawn over a picture: boxes, outlines, rings around what is small, and labels that hide none another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from overread.domain.image import BoundingBox
from overread.render.outlines import Ring, SliceOutline
from overread.web import words
from overread.web.shown import ShownFinding
from overread.web.stacks import Picture

#: Outlines up to so many heights of a label get a ring.
_SMALL: Final = 1.3


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A finding on the picture in front, and where its label stands in pixels of the image."""

    shown: ShownFinding
    box: BoundingBox | None
    #: SVG path of its outline; "" without one.
    path: str
    #: Around what is so small that a line on its border would hide it: centre and radius, pixels.
    ring: tuple[float, float, float] | None
    text: str
    #: What stands there until one looks at it, so that labels do not hide the lung; "" for the whole label at once.
    short: str
    text_x: float
    text_y: float
    size: float
    width: float
    short_width: float


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """An organ's outline on the picture in front."""

    number: int
    name: str
    path: str


def anatomy_on(outlines: Sequence[SliceOutline]) -> tuple[Anatomy, ...]:
    """The organs among the outlines of one picture."""
    return tuple(
        Anatomy(number=o.segment_number, name=o.name, path=_path(o.rings)) for o in outlines if not o.finding_id
    )


def marks_on(
    found: Sequence[ShownFinding], picture: Picture, outlines: Sequence[SliceOutline], rows: int, columns: int
) -> tuple[Mark, ...]:
    """A label stands above its box or outline, else inside it, and never on another label."""
    size = max(rows, columns) / 46
    taken: list[tuple[float, float, float]] = []
    marks = []
    for shown in found:
        rings = [ring for o in outlines if o.finding_id == shown.finding.id for ring in o.rings]
        own = shown.picture is not None and shown.picture.number == picture.number
        box = shown.finding.bounding_box if own else None
        around = (box.x, box.y, box.x + box.width, box.y + box.height) if box is not None else _bounds(rings)
        if around is None:
            continue
        left, top = around[:2]
        ring = _ring(rings, size)
        if ring is not None:
            left, top = ring[0] - ring[2], ring[1] - ring[2]
        text = _label(shown)
        short = f"{words.SIGN[shown.finding.severity]} {shown.number}" if rings else ""
        per_letter = size * (0.6 if shown.finding.exploratory else 0.68)
        width, short_width = (len(t) * per_letter + size * 0.6 for t in (text, short))
        own_width = short_width if short else width
        x = min(max(0.0, left), max(0.0, columns - width))
        y = top - size * 1.45
        if y < 0:
            y = top + size * 0.2
        while any(abs(y - ty) < size * 1.45 and x < tx + tw and tx < x + own_width for tx, ty, tw in taken):
            y += size * 1.5
        y = min(y, rows - size * 1.45)
        taken.append((x, y, own_width))
        marks.append(
            Mark(
                shown=shown,
                box=box,
                path=_path(rings),
                ring=ring,
                text=text,
                short=short,
                text_x=x,
                text_y=y,
                size=size,
                width=width,
                short_width=short_width,
            )
        )
    return tuple(marks)


def _label(shown: ShownFinding) -> str:
    said = shown.size.split(" · ")[0] if shown.size else words.percent(shown.finding.confidence)
    return f"{shown.number} {words.finding_name(shown.finding.finding_type)} {said}"


def _bounds(rings: Sequence[Ring]) -> tuple[float, float, float, float] | None:
    """Left, top, right, bottom."""
    xs = [x for ring in rings for x, _ in ring]
    ys = [y for ring in rings for _, y in ring]
    return (min(xs), min(ys), max(xs), max(ys)) if xs else None


def _ring(rings: Sequence[Ring], size: float) -> tuple[float, float, float] | None:
    around = _bounds(rings)
    if around is None or max(around[2] - around[0], around[3] - around[1]) > _SMALL * size:
        return None
    left, top, right, bottom = around
    radius = math.hypot(right - left, bottom - top) / 2 + size / 2
    return (left + right) / 2 + 0.5, (top + bottom) / 2 + 0.5, radius


def _path(rings: Sequence[Ring]) -> str:
    """Rings have whole numbers at pixel centres, SVG has them at pixel corners: half a pixel to the right and down."""
    return "".join(
        "M" + "L".join(f"{x + 0.5:.2f} {y + 0.5:.2f}" for x, y in ring) + "Z" for ring in rings if len(ring) > 2
    )
