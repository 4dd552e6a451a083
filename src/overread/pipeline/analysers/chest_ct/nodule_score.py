"""How nodule-like a body is: a logistic function of its shape, fitted on 15 development phantoms (seeds below 100).

What tells most is how much of the ellipsoid of its moments a body fills, then how round it is, and how much of its
surface vessels take that are not much thinner than itself. The last counts less where there is ground glass inside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from overread.pipeline.analysers.chest_ct.nodule_shape import Body

#: Bodies that score less are no candidates.
LEAST_SCORE = 0.5
#: More of the shell outside the lung, and it is a fold or a rim of the pleura.
MOST_WALL = 0.5
FEATURES = (
    "b/a",
    "c/a",
    "attached",
    "vessel",
    "opposed",
    "wall",
    "fill",
    "size",
    "contrast",
    "round",
    "glass",
    "glass on a vessel",
    "seed",
)


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
            # a cap of a ball at the pleura fills its ellipsoid less; a vessel that enters the lung is none
            min(body.wall, 0.3) * max(0.0, 1 - body.attached / 0.25),
            body.volume_ml * 1000 / (4 / 3 * np.pi * a * b * c),
            np.log(body.diameter_mm / 8),
            (body.core_hu - body.lung_hu) / 500,
            body.seed.roundness,
            body.glass,
            min(body.glass, 0.5) * body.vessel,
            body.seed.fill,
        ]
    )


_WEIGHTS = np.array([8.91, -7.71, -3.66, -8.30, -2.60, 12.76, 59.34, -0.78, 1.95, 6.03, -5.31, 13.27, 8.07])
#: So that `LEAST_SCORE` is where ten other development phantoms had fewer than two false candidates each; -62.25
#: found no more nodules there.
_OFFSET = -62.45


def score_of(body: Body) -> float:
    """0..1."""
    if body.wall > MOST_WALL:
        return 0.0
    return float(1 / (1 + np.exp(-np.clip(features_of(body) @ _WEIGHTS + _OFFSET, -50, 50))))
