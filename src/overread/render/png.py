"""An image as a PNG to look at, with boxes, labels and a scale, for pages, WADO rendered and secondary capture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from overread.domain.image import GreyImage
from overread.domain.texts import DISCLAIMER
from overread.render.annotations import draw_boxes, draw_scale
from overread.render.boxes import LabelledBox

#: A picture with boxes is enlarged to this, so that its labels can be read, in pixels.
MIN_ANNOTATED_SIDE = 640
#: Row and column spacing that differ by less are taken as equal.
_ASPECT_TOLERANCE = 0.02
#: zlib's: 3 is within 5% of 9's size on radiographs in a fifth of the time.
_COMPRESSION = 3


def render_png(
    image: GreyImage,
    *,
    boxes: Sequence[LabelledBox] = (),
    max_side: int | None = None,
    window: tuple[float, float] | None = None,
    scale: bool = True,
) -> bytes:
    """`image` as PNG, with square pixels; grey if nothing is drawn on it, else RGB.

    `max_side` bounds the longer side in pixels. `window` is the part of 0..1 that becomes black to white. `scale`
    draws a bar in cm at the right side where the spacing is known. Boxes are drawn so that the most pressing
    is on top; a part outside the image is cut. Raises `ValueError` if `max_side` or `window` makes no sense.
    """
    if max_side is not None and max_side < 1:
        raise ValueError(f"max_side is a number of pixels, got {max_side}")
    width, height = _size(image, max_side, bool(boxes))
    picture = _grey(image, window).resize((width, height), _filter(image, width, height))
    drawn = bool(boxes) or (scale and image.spacing_mm is not None)
    if drawn:
        picture = picture.convert("RGB")
        draw = ImageDraw.Draw(picture)
        line = max(round(max(width, height) / 400), 1)
        if scale and image.spacing_mm is not None:
            draw_scale(draw, (width, height), image.spacing_mm[0] * image.rows / height, line)
        draw_boxes(draw, (width, height), boxes, (width / image.columns, height / image.rows), line)
    return _png(picture)


def thumbnail(image: GreyImage, *, side: int = 160) -> bytes:
    """A small grey PNG without anything drawn on it, its longer side at most `side` pixels."""
    return render_png(image, max_side=side, scale=False)


def _size(image: GreyImage, max_side: int | None, annotated: bool) -> tuple[int, int]:
    """(width, height) of the picture: square pixels, at most `max_side`, large enough for labels."""
    width, height = float(image.columns), float(image.rows)
    if image.spacing_mm is not None:
        aspect = image.spacing_mm[0] / image.spacing_mm[1]
        if abs(math.log(aspect)) > _ASPECT_TOLERANCE and 0.1 < aspect < 10:
            # Stretch the coarser direction, so that nothing is thrown away.
            width, height = (width, height * aspect) if aspect > 1 else (width / aspect, height)
    longest = max(width, height)
    factor = 1.0
    if annotated and longest < MIN_ANNOTATED_SIDE:
        factor = MIN_ANNOTATED_SIDE / longest
    if max_side is not None and longest * factor > max_side:
        factor = max_side / longest
    return max(round(width * factor), 1), max(round(height * factor), 1)


def _grey(image: GreyImage, window: tuple[float, float] | None) -> Image.Image:
    pixels = image.pixels
    if window is not None:
        low, high = window
        if not high > low:
            raise ValueError(f"a window needs low < high, got {window}")
        pixels = (pixels - np.float32(low)) / np.float32(high - low)
    return Image.fromarray(np.rint(np.clip(pixels, 0, 1) * np.float32(255)).astype(np.uint8))


def _filter(image: GreyImage, width: int, height: int) -> Image.Resampling:
    shrinks = width < image.columns or height < image.rows
    return Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC


def _png(picture: Image.Image) -> bytes:
    notice = PngInfo()
    notice.add_text("Disclaimer", DISCLAIMER)
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=_COMPRESSION, pnginfo=notice)
    return out.getvalue()
