"""How usable the images are, for all modalities. docs/explanation/quality.md says what every figure means.

`assess_image` for one displayed image, `assess_volume` for a CT or MR volume, `combine` for the study.
"""

from __future__ import annotations

from overread.domain.image import ImageInstance
from overread.domain.modality import Modality
from overread.pipeline.quality import cross_section, radiograph, ultrasound
from overread.pipeline.quality.score import NOT_ASSESSED, Check, ImageQuality, IssueType, Severity, combine
from overread.pipeline.quality.volume import assess_volume

__all__ = [
    "NOT_ASSESSED",
    "Check",
    "ImageQuality",
    "IssueType",
    "Severity",
    "assess_image",
    "assess_volume",
    "combine",
]


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
