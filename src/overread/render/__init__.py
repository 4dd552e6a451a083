"""Images to look at: window, boxes, labels and scale, as PNG."""

from __future__ import annotations

from overread.render.boxes import LabelledBox
from overread.render.png import render_png, thumbnail

__all__ = ["LabelledBox", "render_png", "thumbnail"]
