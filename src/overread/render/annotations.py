"""Boxes, labels and the scale, drawn on a picture. All sizes follow the picture's line width, so they stay legible."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from PIL import ImageDraw, ImageFont

from overread.render.boxes import STYLES, BoxStyle, LabelledBox

_BLACK = (0, 0, 0)
_WHITE = (255, 255, 255)
#: Lengths that a scale may have, in mm.
_SCALE_MM = (1, 2, 5, 10, 20, 50, 100, 200, 500)
#: The most that the scale takes of the picture's height.
_SCALE_PART = 0.4
_MIN_FONT, _MAX_FONT = 11, 28

Rectangle = tuple[float, float, float, float]


def draw_boxes(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    boxes: Sequence[LabelledBox],
    factor: tuple[float, float],
    line: int,
) -> None:
    """Draw `boxes`, the most pressing last. `factor` is picture pixels for each stored pixel, (x, y)."""
    font = _font(size)
    taken: list[Rectangle] = []
    ordered = sorted(boxes, key=lambda box: box.severity.rank)
    outlines = [_outline(box, factor, size) for box in ordered]
    for box, outline in zip(ordered, outlines, strict=True):
        style = STYLES[box.severity]
        width = max(round(line * style.weight), 1)
        # A black line around it keeps it visible on bright bone.
        draw.rectangle(_grown(outline, width), outline=_BLACK, width=3 * width if style.dash is None else width + 2)
        _draw_outline(draw, outline, style, width)
    # Labels after all lines, and the most pressing first: it gets the place next to its box.
    for box, outline in reversed(list(zip(ordered, outlines, strict=True))):
        taken.append(_draw_label(draw, size, font, box, outline, taken))


def draw_scale(draw: ImageDraw.ImageDraw, size: tuple[int, int], mm_per_pixel: float, line: int) -> None:
    """A vertical bar at the right side, with a tick for each cm (mm in a short one) and its length below."""
    width, height = size
    fitting = [mm for mm in _SCALE_MM if mm / mm_per_pixel <= height * _SCALE_PART]
    if not fitting or fitting[-1] / mm_per_pixel < 12 * line:
        return
    length = fitting[-1]
    step = 10 if length > 10 else 1
    x = width - 4 * line - 1
    top = (height - length / mm_per_pixel) / 2
    ticks = [top + mm / mm_per_pixel for mm in range(0, length + 1, step)]
    for colour, extra in ((_BLACK, 2), (_WHITE, 0)):
        draw.line([(x, ticks[0]), (x, ticks[-1])], fill=colour, width=line + extra)
        for number, y in enumerate(ticks):
            reach = 5 if number in (0, len(ticks) - 1) else 3
            draw.line([(x - reach * line, y), (x, y)], fill=colour, width=line + extra)
    text = f"{length // 10} cm" if length >= 10 else f"{length} mm"
    font = _font(size)
    place = (x + line, ticks[-1] + 3 * line)
    draw.text(place, text, font=font, fill=_WHITE, anchor="rt", stroke_width=2, stroke_fill=_BLACK)


def _font(size: tuple[int, int]) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: no font has to be installed. One forty-eighth of the picture, within what can be read."""
    return ImageFont.load_default(size=min(max(round(max(size) / 48), _MIN_FONT), _MAX_FONT))


def _outline(box: LabelledBox, factor: tuple[float, float], size: tuple[int, int]) -> Rectangle:
    """The box in the picture, cut at its edges, at least two pixels wide."""
    left, top = box.box.x * factor[0], box.box.y * factor[1]
    right, bottom = left + box.box.width * factor[0], top + box.box.height * factor[1]
    left, top = min(max(left, 0), size[0] - 3), min(max(top, 0), size[1] - 3)
    return left, top, max(min(right, size[0] - 1), left + 2), max(min(bottom, size[1] - 1), top + 2)


def _grown(outline: Rectangle, by: float) -> Rectangle:
    return outline[0] - by, outline[1] - by, outline[2] + by, outline[3] + by


def _draw_outline(draw: ImageDraw.ImageDraw, outline: Rectangle, style: BoxStyle, width: int) -> None:
    left, top, right, bottom = outline
    if style.dash is None:
        draw.rectangle(outline, outline=style.colour, width=width)
        return
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    for start, end in pairwise(corners):
        for piece in _dashes(start, end, style.dash[0] * width, style.dash[1] * width):
            draw.line(piece, fill=style.colour, width=width)


def _dashes(
    start: tuple[float, float], end: tuple[float, float], on: float, off: float
) -> Iterator[list[tuple[float, float]]]:
    """Pieces of the line from `start` to `end`; both ends are drawn, so that corners stay closed."""
    length = math.dist(start, end)
    count = max(round((length - on) / (on + off)), 0)
    gap = (length - on * (count + 1)) / count if count else 0
    for number in range(count + 1):
        a = number * (on + gap)
        b = min(a + on, length) if count else length
        yield [
            (start[0] + (end[0] - start[0]) * part / length, start[1] + (end[1] - start[1]) * part / length)
            for part in (a, b)
        ]


def _draw_label(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    box: LabelledBox,
    outline: Rectangle,
    taken: Sequence[Rectangle],
) -> Rectangle:
    """Write the label above the box, or below it, or wherever it hides no other one; returns its place."""
    text = _fitted(draw, box.text, font, size[0] - 8)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 8, bottom - top + 6
    x = min(max(outline[0], 0), max(size[0] - width, 0))
    candidates = [outline[1] - height - 2, outline[3] + 3]
    candidates += [outline[3] + 3 + n * (height + 1) for n in range(1, 12)]
    candidates += [outline[1] - 2 - n * (height + 1) for n in range(2, 12)]
    candidates.append(outline[1] + 3)
    inside = [y for y in candidates if 0 <= y <= size[1] - height] or [0.0]
    places = [(x, y, x + width, y + height) for y in inside]
    place = next((p for p in places if not any(_overlap(p, other) for other in taken)), places[0])
    draw.rectangle(_grown(place, 1), fill=_BLACK)
    draw.rectangle(place, fill=STYLES[box.severity].colour)
    draw.text((place[0] + 4 - left, place[1] + 3 - top), text, font=font, fill=_BLACK)
    return place


def _fitted(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float
) -> str:
    """`text`, shortened until it fits."""
    if draw.textlength(text, font=font) <= width:
        return text
    while len(text) > 4 and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text + "…"


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
