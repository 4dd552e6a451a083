"""How usable the images are, for all modalities. docs/explanation/quality.md says what every figure means.

`assess_image` for one displayed image, `assess_volume` for a CT or MR volume, `combine` for the study.
"""

from __future__ import annotations

from collections.abc import Iterable

from overread.domain.analysis import QualityAssessment, QualityIssue, QualityLevel
from overread.domain.image import GreyImage, ImageInstance
from overread.domain.modality import Modality
from overread.pipeline.quality import cross_section, measures, radiograph, ultrasound
from overread.pipeline.quality.score import NOT_ASSESSED, Check, ImageQuality, IssueType, Severity, combine
from overread.pipeline.quality.volume import assess_volume

__all__ = [
    "NOT_ASSESSED",
    "Check",
    "ImageQuality",
    "IssueType",
    "Severity",
    "assess",
    "assess_image",
    "assess_volume",
    "combine",
]

#: Between the 1st and the 99th percentile of the display values, 0..1: less shows nothing to the eye.
_NO_CONTRAST = 0.04


def assess_image(instance: ImageInstance, modality: Modality | None, *, frontal_chest: bool = False) -> ImageQuality:
    """Quality of one displayed image (first frame).

    `modality` None is taken for a radiograph without a known view. `frontal_chest` adds polarity and position of the
    chest; only say so if the image was recognised as one.
    """
    image = instance.image
    match modality:
        case Modality.ULTRASOUND:
            checks, notes = ultrasound.assess(image)
        case Modality.CT | Modality.MRI:
            checks, notes = cross_section.assess(image, modality)
        case _:
            checks, notes = radiograph.assess(image, frontal_chest=frontal_chest)
    uid = instance.header.sop_instance_uid
    return ImageQuality(modality=modality, uid=uid, checks=tuple(checks), notes=tuple(notes))


def assess(images: Iterable[GreyImage]) -> QualityAssessment:
    """Of the images that were read: `inadequate` if one has nearly no contrast, else not assessed (level None)."""
    flat = sum(1 for image in images if measures.contrast(image.pixels[::4, ::4]) < _NO_CONTRAST)
    if flat == 0:
        return QualityAssessment(level=None, score=None, recommendations=NOT_ASSESSED)
    which = "The image has" if flat == 1 else f"{flat} images have"
    return QualityAssessment(
        level=QualityLevel.INADEQUATE,
        score=0.0,
        issues=(
            QualityIssue(
                type="inadequate_contrast",
                severity="severe",
                description=f"{which} nearly no contrast: what it shows cannot be told apart.",
            ),
        ),
        recommendations="Check exposure and window, and repeat the image if they are right.",
        flagged_for_repeat=True,
    )
