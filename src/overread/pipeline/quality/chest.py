"""Polarity and position of a frontal chest radiograph, from where it is dark."""

from __future__ import annotations

import numpy as np

from overread.domain.image import FloatImage
from overread.pipeline.quality.checks import POLARITY_ADVICE
from overread.pipeline.quality.score import Check, IssueType, Scale

#: Middle of the chest minus lung, in standard deviations of the image: lungs are darker unless both are white.
POLARITY = Scale(clear=0.0, mild=-0.2, moderate=-0.4, severe=-0.6)


def assess(image: FloatImage) -> list[Check]:
    """Checks of one frontal chest, float32 (rows, columns), 0..1."""
    return [_polarity(image)]


def polarity(image: FloatImage) -> float:
    """How much darker the darker lung field is than the middle, in standard deviations of the area around both."""
    rows, columns = image.shape
    chest = image[int(0.2 * rows) : int(0.65 * rows)]

    def field(low: float, high: float) -> float:
        return float(np.mean(chest[:, int(low * columns) : max(int(high * columns), int(low * columns) + 1)]))

    spread = float(np.std(chest[:, int(0.15 * columns) : int(0.85 * columns) + 1]))
    if spread < 1e-3:
        return 0.0
    return (field(0.44, 0.56) - min(field(0.2, 0.4), field(0.6, 0.8))) / spread


def _polarity(image: FloatImage) -> Check:
    darker = polarity(image)
    return Check(
        type=IssueType.INVERTED,
        grade=POLARITY.grade(darker),
        description=f"Both lung fields are brighter than the mediastinum (by {-darker:.1f} standard deviations), "
        "as if black and white were exchanged.",
        recommendation=POLARITY_ADVICE,
    )
