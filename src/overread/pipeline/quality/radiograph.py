"""Quality of a radiograph, and of a frontal chest: polarity, rotation, and lungs that are cut off."""

from __future__ import annotations

from overread.domain.image import GreyImage
from overread.pipeline.quality import checks, chest, measures
from overread.pipeline.quality.checks import Limits
from overread.pipeline.quality.score import Check, Scale

CHEST = Limits(
    blur=Scale(clear=4.0, mild=5.0, moderate=6.5, severe=9.0),
    noise=Scale(clear=0.02, mild=0.03, moderate=0.05, severe=0.09),
    white=Scale(clear=0.2, mild=0.3, moderate=0.4, severe=0.5),
    black=Scale(clear=0.3, mild=0.4, moderate=0.5, severe=0.6),
    dark=Scale(clear=0.25, mild=0.2, moderate=0.14, severe=0.08),
    bright=Scale(clear=0.8, mild=0.86, moderate=0.92, severe=0.96),
    band_step=0.25,
    border=None,
)
OTHER = Limits(
    blur=Scale(clear=4.0, mild=5.0, moderate=6.5, severe=9.0),
    noise=Scale(clear=0.02, mild=0.03, moderate=0.05, severe=0.09),
    white=Scale(clear=0.3, mild=0.4, moderate=0.5, severe=0.6),
    black=None,
    dark=Scale(clear=0.02, mild=0.015, moderate=0.01, severe=0.004),
    bright=Scale(clear=0.85, mild=0.9, moderate=0.95, severe=0.98),
    band_step=0.25,
    border=Scale(clear=0.4, mild=0.5, moderate=0.6, severe=0.7),
)


def assess(image: GreyImage, *, frontal_chest: bool) -> tuple[list[Check], list[str]]:
    """Checks of one radiograph, and notes on what was not looked at."""
    reduced = measures.reduce(image.pixels)
    found, notes = checks.of_image(reduced, CHEST if frontal_chest else OTHER, image.spacing_mm)
    if frontal_chest:
        found.extend(chest.assess(reduced.pixels))
    return found, notes
