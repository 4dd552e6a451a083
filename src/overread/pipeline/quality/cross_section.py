"""Quality of a single MR or CT slice as it is displayed: its background is black, and it has no unit."""

from __future__ import annotations

from overread.domain.image import GreyImage
from overread.domain.modality import Modality
from overread.pipeline.quality import checks, measures
from overread.pipeline.quality.checks import Limits
from overread.pipeline.quality.score import Check, Scale

#: Matrices of 192 and 256 are how MR and CT are acquired: only smaller slices are previews.
_SMALL = 160

MRI = Limits(
    blur=Scale(clear=2.8, mild=4.0, moderate=5.5, severe=8.0),
    noise=Scale(clear=0.035, mild=0.05, moderate=0.075, severe=0.11),
    white=Scale(clear=0.03, mild=0.06, moderate=0.15, severe=0.3),
    black=None,
    dark=Scale(clear=0.2, mild=0.15, moderate=0.1, severe=0.06),
    dark_percentile=95.0,
    bright=Scale(clear=0.65, mild=0.75, moderate=0.85, severe=0.93),
    inverted=(measures.background_is_bright, Scale(clear=0.02, mild=0.05, moderate=0.1, severe=0.15)),
    small_side=_SMALL,
    blur_advice="Repeat the sequence with the patient still, or with a shorter or motion-corrected one.",
    noise_advice="Repeat with more averages, a larger voxel or a better fitting coil.",
    exposure_advice="Check the window and the coil, and repeat the sequence if they are right.",
)
CT = Limits(
    blur=Scale(clear=4.5, mild=5.5, moderate=7.0, severe=9.0),
    noise=Scale(clear=0.028, mild=0.035, moderate=0.055, severe=0.09),
    white=Scale(clear=0.2, mild=0.3, moderate=0.45, severe=0.6),
    black=None,
    dark=Scale(clear=0.08, mild=0.05, moderate=0.03, severe=0.01),
    dark_percentile=98.0,
    bright=Scale(clear=0.75, mild=0.85, moderate=0.92, severe=0.97),
    inverted=(measures.background_is_bright, Scale(clear=0.02, mild=0.05, moderate=0.1, severe=0.15)),
    small_side=_SMALL,
    blur_advice="Repeat the slices with the patient still.",
    noise_advice="Reconstruct with a softer kernel or thicker slices, and check the dose.",
    exposure_advice="Check the window.",
)


def assess(image: GreyImage, modality: Modality) -> tuple[list[Check], list[str]]:
    """Checks of one slice, and notes on what was not looked at."""
    reduced = measures.reduce(image.pixels)
    return checks.of_image(reduced, MRI if modality is Modality.MRI else CT, image.spacing_mm)
