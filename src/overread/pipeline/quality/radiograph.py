"""Quality of a radiograph, and of a frontal chest: polarity, rotation, and lungs that are cut off."""

from __future__ import annotations

from overread.domain.image import GreyImage
from overread.pipeline.quality import checks, chest, measures
from overread.pipeline.quality.checks import Limits
from overread.pipeline.quality.score import Check, Scale

CHEST = Limits(
    blur=Scale(clear=2.4, mild=3.0, moderate=4.0, severe=5.3),
    noise=Scale(clear=0.012, mild=0.025, moderate=0.05, severe=0.1),
    white=Scale(clear=0.05, mild=0.12, moderate=0.25, severe=0.4),
    black=Scale(clear=0.15, mild=0.25, moderate=0.4, severe=0.55),
    dark=Scale(clear=0.3, mild=0.22, moderate=0.16, severe=0.1),
    dark_percentile=50.0,
    bright=Scale(clear=0.85, mild=0.89, moderate=0.93, severe=0.96),
    inverted=None,
)
OTHER = Limits(
    blur=Scale(clear=3.0, mild=4.0, moderate=5.2, severe=7.0),
    noise=Scale(clear=0.012, mild=0.025, moderate=0.05, severe=0.1),
    white=Scale(clear=0.2, mild=0.3, moderate=0.5, severe=0.65),
    black=None,
    dark=Scale(clear=0.2, mild=0.15, moderate=0.1, severe=0.06),
    dark_percentile=95.0,
    bright=Scale(clear=0.85, mild=0.89, moderate=0.93, severe=0.96),
    # Never severe: a plate that is white outside its collimator looks the same.
    inverted=(measures.smooth_is_bright, Scale(clear=0.25, mild=0.4, moderate=0.52, severe=1.05)),
)


def assess(image: GreyImage, *, frontal_chest: bool) -> tuple[list[Check], list[str]]:
    """Checks of one radiograph, and notes on what was not looked at."""
    reduced = measures.reduce(image.pixels)
    found, notes = checks.of_image(reduced, CHEST if frontal_chest else OTHER, image.spacing_mm)
    if frontal_chest:
        position, more = chest.assess(reduced.pixels)
        found.extend(position)
        notes.extend(more)
    return found, notes
