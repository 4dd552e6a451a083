"""Quality of a single MR or CT slice as it is displayed: its background is black, and it has no unit."""

from __future__ import annotations

from overread.domain.image import GreyImage
from overread.domain.modality import Modality
from overread.pipeline.quality import checks, measures
from overread.pipeline.quality.checks import Limits
from overread.pipeline.quality.score import Check, Scale

MRI = Limits(
    blur=Scale(clear=5.0, mild=6.5, moderate=8.0, severe=11.0),
    noise=Scale(clear=0.06, mild=0.08, moderate=0.12, severe=0.18),
    white=Scale(clear=0.1, mild=0.15, moderate=0.25, severe=0.4),
    black=None,
    dark=Scale(clear=0.02, mild=0.015, moderate=0.01, severe=0.004),
    bright=Scale(clear=0.75, mild=0.8, moderate=0.88, severe=0.95),
    band_step=0.15,
    border=Scale(clear=0.2, mild=0.3, moderate=0.4, severe=0.5),
    blur_advice="Repeat the sequence with the patient still, or with a shorter or motion-corrected one.",
    noise_advice="Repeat with more averages, a larger voxel or a better fitting coil.",
    dark_advice="Check the window and the coil, and repeat the sequence if they are right.",
)
CT = Limits(
    blur=Scale(clear=5.0, mild=6.5, moderate=8.0, severe=11.0),
    noise=Scale(clear=0.1, mild=0.14, moderate=0.2, severe=0.3),
    white=Scale(clear=0.4, mild=0.5, moderate=0.6, severe=0.7),
    black=None,
    dark=Scale(clear=-0.1, mild=-0.2, moderate=-0.3, severe=-0.4),
    bright=Scale(clear=0.9, mild=0.94, moderate=0.97, severe=0.99),
    band_step=0.15,
    border=Scale(clear=0.2, mild=0.3, moderate=0.4, severe=0.5),
    blur_advice="Repeat the slices with the patient still.",
    noise_advice="Reconstruct with a softer kernel or thicker slices, and check the dose.",
    dark_advice="Check the window.",
)


def assess(image: GreyImage, modality: Modality) -> tuple[list[Check], list[str]]:
    """Checks of one slice, and notes on what was not looked at."""
    reduced = measures.reduce(image.pixels)
    return checks.of_image(reduced, MRI if modality is Modality.MRI else CT, image.spacing_mm)
