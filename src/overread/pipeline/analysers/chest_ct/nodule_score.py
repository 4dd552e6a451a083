"""How nodule-like a body is: a logistic function of its shape, fitted on development phantoms (seeds 0 to 99)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from overread.pipeline.analysers.chest_ct.nodule_shape import Body

#: Bodies that score less are no candidates.
LEAST_SCORE = 0.5
FEATURES = ("b/a", "c/a", "attached", "vessel", "opposed", "wall", "compact", "fill", "size", "contrast", "round")


def features_of(body: Body) -> NDArray[np.float64]:
    """The numbers in the order of `FEATURES`."""
    a, b, c = body.half_axes_mm
    return np.array(
        [
            b / a,
            c / a,
            body.attached,
            body.vessel,
            body.opposed * body.vessel,
            body.wall,
            2 * body.ball_mm / body.diameter_mm,
            body.volume_ml * 1000 / (4 / 3 * np.pi * a * b * c),
            np.log(body.diameter_mm / 8),
            (body.core_hu - body.lung_hu) / 500,
            body.seed.roundness,
        ]
    )


_WEIGHTS = np.array([4.0, 6.0, -8.0, -3.0, -1.0, -5.0, 5.0, 5.0, 1.0, 0.0, 2.0])
_OFFSET = -13.0


def score_of(body: Body) -> float:
    """0..1."""
    return float(1 / (1 + np.exp(-np.clip(features_of(body) @ _WEIGHTS + _OFFSET, -50, 50))))
