"""Figures with intervals. Patients, not images, are drawn again: images of one patient resemble each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 1000
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A value in 0..1 with its 95% interval."""

    value: float
    low: float
    high: float

    def rounded(self) -> list[float]:
        """[value, low, high] with three digits."""
        return [round(v, 3) for v in (self.value, min(self.low, self.value), max(self.high, self.value))]

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def auc(y: NDArray[np.int_], s: NDArray[np.float64], w: NDArray[np.float64] | None = None) -> float:
    """Area under the ROC curve; ties count half. `w`: how often each image counts. NaN without both classes."""
    w = np.ones(len(y)) if w is None else w
    levels, where = np.unique(s, return_inverse=True)
    positive = np.bincount(where, w * y, len(levels))
    negative = np.bincount(where, w * (1 - y), len(levels))
    pairs = positive.sum() * negative.sum()
    if pairs == 0:
        return float("nan")
    below = np.cumsum(negative) - negative
    return float((positive * (below + 0.5 * negative)).sum() / pairs)


def over_patients(measure: Callable[[NDArray[np.float64]], float], patients: NDArray[np.int_]) -> Figure | None:
    """`measure` takes how often each image counts. None if it cannot be measured on all images."""
    value = measure(np.ones(len(patients)))
    if not np.isfinite(value):
        return None
    rng = np.random.default_rng(SEED)
    _, group = np.unique(patients, return_inverse=True)
    n = int(group.max()) + 1
    draws = [measure(np.bincount(rng.integers(0, n, n), minlength=n)[group].astype(float)) for _ in range(ROUNDS)]
    kept = [d for d in draws if np.isfinite(d)]
    return Figure(value=value, low=float(np.percentile(kept, 2.5)), high=float(np.percentile(kept, 97.5)))


def auc_figure(y: NDArray[np.int_], s: NDArray[np.float64], patients: NDArray[np.int_]) -> Figure | None:
    return over_patients(lambda w: auc(y, s, w), patients)


def share(hit: NDArray[np.bool_], of: NDArray[np.bool_], patients: NDArray[np.int_]) -> Figure | None:
    """How many of `of` are `hit`: sensitivity (of the positives), specificity (of the negatives), hit rate.

    Where all or none are hit, drawing again gives no width; then the interval is Wilson's, over patients.
    """

    def measure(w: NDArray[np.float64]) -> float:
        total = float((w * of).sum())
        return float((w * of * hit).sum()) / total if total else float("nan")

    found = over_patients(measure, patients)
    if found is None or found.low < found.high:
        return found
    n = len(np.unique(patients[of]))
    z = 1.96
    middle = (found.value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(found.value * (1 - found.value) / n + z * z / (4 * n * n))
    return Figure(value=found.value, low=max(0.0, float(middle - half)), high=min(1.0, float(middle + half)))


def calibration_error(y: NDArray[np.int_], p: NDArray[np.float64], bins: int = 10) -> float:
    """Expected calibration error, in bins of equally many images (Nixon et al. 2019)."""
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(part) * abs(y[part].mean() - p[part].mean()) for part in parts) / len(y))
