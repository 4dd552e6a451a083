"""Quality of an ultrasound still: speckle is no noise, and black is what returns no echo."""

from __future__ import annotations

from overread.domain.image import GreyImage
from overread.pipeline.quality import checks, measures
from overread.pipeline.quality.checks import Limits
from overread.pipeline.quality.score import Check, Scale

LIMITS = Limits(
    blur=Scale(clear=2.1, mild=2.7, moderate=3.5, severe=4.6),
    noise=Scale(clear=0.02, mild=0.035, moderate=0.06, severe=0.1),
    white=Scale(clear=0.03, mild=0.06, moderate=0.12, severe=0.25),
    black=None,
    dark=Scale(clear=0.2, mild=0.15, moderate=0.1, severe=0.06),
    dark_percentile=95.0,
    bright=Scale(clear=0.65, mild=0.72, moderate=0.8, severe=0.9),
    screen=True,
    inverted=(measures.smooth_brightness, Scale(clear=0.0, mild=0.04, moderate=0.07, severe=0.1)),
    blur_advice="Repeat with the probe and the patient still, and set the focus to the depth of interest.",
    noise_advice="Repeat with less gain and more transmitted power, or a lower frequency.",
    exposure_advice="Repeat with gain and time-gain compensation set so that tissue is mid-grey.",
)


def assess(image: GreyImage) -> tuple[list[Check], list[str]]:
    """Checks of one still, and notes on what was not looked at."""
    return checks.of_image(measures.reduce(image.pixels), LIMITS, image.spacing_mm)
