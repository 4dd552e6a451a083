"""What is drawn on an image: a box with words, and how each severity looks."""

from __future__ import annotations

from dataclasses import dataclass

from overread.domain.image import BoundingBox
from overread.domain.priority import Level

Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class LabelledBox:
    """A finding's box. `box` is in pixels of the stored image, whatever the size of the picture."""

    box: BoundingBox
    #: The finding's name, and what else stands beside it: "Pneumothorax 91%". The severity is written before it.
    label: str
    severity: Level
    #: Whether the evidence does not allow the finding to change any order (DESIGN.md 5): written after the label.
    exploratory: bool = False

    @property
    def text(self) -> str:
        """All words of the label, on one line."""
        label = " ".join(self.label.split())
        words = f"{self.severity.value.upper()} · {label}"
        return f"{words} (exploratory)" if self.exploratory else words


@dataclass(frozen=True, kw_only=True)
class BoxStyle:
    """Colour, line width and dashes together tell the severity, so that colour is never alone (WCAG 1.4.1)."""

    #: At least 7:1 against the black of the label's text.
    colour: Colour
    #: In units of the picture's line width.
    weight: float
    #: Drawn and left out, in line widths; None for a solid line.
    dash: tuple[float, float] | None


STYLES = {
    Level.CRITICAL: BoxStyle(colour=(255, 120, 110), weight=1.5, dash=None),
    Level.URGENT: BoxStyle(colour=(255, 214, 10), weight=1.0, dash=(7.0, 3.0)),
    Level.ROUTINE: BoxStyle(colour=(90, 220, 120), weight=1.0, dash=(1.5, 2.5)),
}
