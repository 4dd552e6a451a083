"""Quality of an ultrasound still: speckle is no noise, and black is what returns no echo."""

from __future__ import annotations

from overread.domain.image import GreyImage
from overread.pipeline.quality import checks, measures
from overread.pipeline.quality.checks import Limits
from overread.pipeline.quality.score import Check, Scale

LIMITS = Limits(
    blur=Scale(clear=5.0, mild=6.5, moderate=8.0, severe=11.0),
    noise=Scale(clear=0.08, mild=0.1, moderate=0.14, severe=0.2),
    white=Scale(clear=0.1, mild=0.15, moderate=0.25, severe=0.4),
    black=None,
    dark=Scale(clear=0.03, mild=0.02, moderate=0.01, severe=0.004),
    bright=Scale(clear=0.65, mild=0.7, moderate=0.8, severe=0.9),
    band_step=0.2,
    border=Scale(clear=0.4, mild=0.5, moderate=0.6, severe=0.7),
    blur_advice="Repeat with the probe and the patient still, and set the focus to the depth of interest.",
    noise_advice="Repeat with less gain and more transmitted power, or a lower frequency.",
    dark_advice="Repeat with gain and time-gain compensation set so that tissue is mid-grey.",
)


def assess(image: GreyImage) -> tuple[list[Check], list[str]]:
    """Checks of one still, and notes on what was not looked at."""
    return checks.of_image(measures.reduce(image.pixels), LIMITS, image.spacing_mm)
