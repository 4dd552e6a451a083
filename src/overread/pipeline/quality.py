"""How usable the images are. Not assessed yet, and said so, but for what needs no judgement: no contrast at all."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from overread.domain.analysis import QualityAssessment, QualityIssue, QualityLevel
from overread.domain.image import GreyImage

NOT_ASSESSED = "Image quality was not assessed."
#: Between the 1st and the 99th percentile of the display values, 0..1: less shows nothing to the eye.
_NO_CONTRAST = 0.04
#: Every n-th row and column is enough for percentiles.
_STEP = 4


def assess(images: Iterable[GreyImage]) -> QualityAssessment:
    """Of the images that were read: `inadequate` if one has nearly no contrast, else not assessed (level None)."""
    flat = sum(1 for image in images if _contrast(image) < _NO_CONTRAST)
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


def _contrast(image: GreyImage) -> float:
    low, high = np.percentile(image.pixels[::_STEP, ::_STEP], (1.0, 99.0))
    return float(high - low)
