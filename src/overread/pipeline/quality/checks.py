"""The checks that every single image gets: figure, grade and sentence. What differs by modality is in `Limits`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from overread.domain.image import FloatImage
from overread.pipeline.quality import measures
from overread.pipeline.quality.edges import edge_blur
from overread.pipeline.quality.measures import Reduced
from overread.pipeline.quality.score import Check, IssueType, Scale

#: One value in all pixels: nothing to see, whatever the modality. A tenth of the display's range is hard to see.
CONTRAST = Scale(clear=0.3, mild=0.22, moderate=0.14, severe=0.07)
#: Share of the rows that were never transferred; a collimator alone may leave a twentieth.
POLARITY_ADVICE = "Check PhotometricInterpretation and the window, and send the image with the right polarity."
TRUNCATED = Scale(clear=0.03, mild=0.06, moderate=0.12, severe=0.2)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where the figures of one modality's single images matter. docs/explanation/quality.md has their meaning."""

    #: Blur, as the sigma of a Gaussian in thousandths of the image's longer side.
    blur: Scale
    #: Noise, as a share of the contrast.
    noise: Scale
    #: Share of white pixels.
    white: Scale
    #: Share of black pixels; None where the background is black by nature.
    black: Scale | None
    #: A percentile of the display values, below which the image is too dark; where much is black by nature, a high one.
    dark: Scale
    dark_percentile: float
    #: Median of the display values, above which it is too bright.
    bright: Scale
    #: What is bright only if black and white were exchanged; None where something else tells.
    inverted: tuple[Callable[[FloatImage], float], Scale] | None
    #: Longest side, in pixels, up to which pixels limit the sharpness more than the examination.
    small_side: int = measures.SMALL_SIDE
    #: Whether it is a picture of a screen, with empty stretches between its parts.
    screen: bool = False
    #: What to do about blur.
    blur_advice: str = "Repeat with the patient still and with a shorter exposure, and check the focus."
    noise_advice: str = "Repeat with a higher dose or sensitivity class, and check the exposure index."
    exposure_advice: str = "Check the exposure index and the window, and repeat with a corrected exposure."


def of_image(reduced: Reduced, limits: Limits, spacing_mm: tuple[float, float] | None) -> tuple[list[Check], list[str]]:
    """All checks that every modality has, and what could not be looked at."""
    image = reduced.pixels
    notes: list[str] = []
    spread = measures.contrast(image)
    checks = [_contrast(spread), _truncated(image, screen=limits.screen)]
    checks.extend(_exposure(image, limits))
    if limits.inverted is not None:
        checks.append(_inverted(image, *limits.inverted))
    checks.append(_noise(image, spread, limits))
    if max(image.shape) * reduced.factor <= limits.small_side:
        rows, columns = image.shape
        notes.append(f"Sharpness was not assessed: {columns} x {rows} pixels limit it more than the examination.")
    elif spread >= CONTRAST.severe:
        checks.append(_blur(reduced, limits, spacing_mm))
    return checks, notes


def _contrast(spread: float) -> Check:
    return Check(
        type=IssueType.CONTRAST,
        grade=CONTRAST.grade(spread),
        description=f"The grey values of 98% of the pixels lie within {spread:.0%} of the display's range: "
        "what the image shows can hardly be told apart.",
        recommendation="Check exposure and window, and repeat the image if they are right.",
    )


def _truncated(image: FloatImage, *, screen: bool) -> Check:
    share = measures.constant_bands(image, screen=screen)
    return Check(
        type=IssueType.TRUNCATED,
        grade=TRUNCATED.grade(share),
        description=f"{share:.0%} of the image's lines hold a single value, as if it was not sent completely.",
        recommendation="Send the image again from the modality, and repeat it if it is incomplete there too.",
    )


def _exposure(image: FloatImage, limits: Limits) -> list[Check]:
    black, white = measures.saturated(image)
    middle, low = measures.percentiles(image, 50.0, limits.dark_percentile)
    checks = [
        Check(
            type=IssueType.CLIPPING,
            grade=limits.white.grade(white),
            description=f"{white:.0%} of the pixels are plain white: what is dense there shows no detail.",
            recommendation=limits.exposure_advice,
        ),
        Check(
            type=IssueType.EXPOSURE,
            grade=limits.dark.grade(low),
            description=f"The image is too dark: {limits.dark_percentile:.0f}% of it is below {low:.0%} of the "
            "display's brightness.",
            recommendation=limits.exposure_advice,
        ),
        Check(
            type=IssueType.EXPOSURE,
            grade=limits.bright.grade(middle),
            description=f"The image is too bright: half of it is above {middle:.0%} of the display's brightness.",
            recommendation=limits.exposure_advice,
        ),
    ]
    if limits.black is not None:
        checks.append(
            Check(
                type=IssueType.CLIPPING,
                grade=limits.black.grade(black),
                description=f"{black:.0%} of the pixels are plain black: what lets rays through shows no detail.",
                recommendation=limits.exposure_advice,
            )
        )
    return checks


def _inverted(image: FloatImage, brightness: Callable[[FloatImage], float], scale: Scale) -> Check:
    excess = brightness(image)
    return Check(
        type=IssueType.INVERTED,
        grade=scale.grade(excess),
        description=f"What holds no detail is bright (by {excess:.2f}; air is dark), "
        "as if black and white were exchanged.",
        recommendation=POLARITY_ADVICE,
    )


def _noise(image: FloatImage, spread: float, limits: Limits) -> Check:
    share = measures.noise(image) / max(spread, 0.05)
    return Check(
        type=IssueType.NOISE,
        grade=limits.noise.grade(share),
        description=f"Noise from pixel to pixel is {share:.1%} of the contrast.",
        recommendation=limits.noise_advice,
    )


def _blur(reduced: Reduced, limits: Limits, spacing_mm: tuple[float, float] | None) -> Check:
    down, along = edge_blur(reduced.pixels)
    sigma = max(down, along)
    axis = 0 if down >= along else 1
    pixels = sigma * reduced.factor
    size = f"{pixels:.1f} pixels"
    if spacing_mm is not None:
        size += f" ({pixels * spacing_mm[axis]:.1f} mm)"
    return Check(
        type=IssueType.MOTION,
        grade=limits.blur.grade(1000 * sigma / max(reduced.pixels.shape)),
        description=f"Edges are smeared by {size} {'down' if axis == 0 else 'along'} the image, "
        "as by motion or poor focus.",
        recommendation=limits.blur_advice,
    )
