"""How well two measurements of the same thing agree: pure functions (Bland and Altman 1986, 1999).

The difference is always ours less the truth. With one image a patient the intervals are those of Bland and Altman
1999 (Statistical Methods in Medical Research 8:135, Student's t); with several, patients are drawn again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from overread.cli_validate.metrics import Bools, Draws, Figure, Floats

#: Standard deviations on each side of the bias between which 95% of the differences lie, if they are normal.
_Z = 1.959963984540054
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of n pairs, in their unit; intervals are 95%."""

    n: int
    #: Mean difference, ours less the truth.
    bias: Figure
    #: Standard deviation of the differences.
    deviation: float
    #: Limits of agreement: 95% of the differences lie between them.
    lower: Figure
    upper: Figure
    #: Mean of the differences without sign.
    mean_absolute: Figure


def agreement(truth: Floats, ours: Floats, draws: Draws) -> Agreement | None:
    """Bias and limits of agreement; None with fewer than two pairs. `draws`: whose each pair is."""
    n = len(truth)
    if n < 2:
        return None
    d = ours - truth
    bias, deviation = float(d.mean()), float(d.std(ddof=1))
    means, deviations, absolute = _drawn(d, draws)
    values = (bias, bias - _Z * deviation, bias + _Z * deviation)
    if draws.count == n:
        t = float(stats.t.ppf(0.975, n - 1))
        of_bias = t * deviation / math.sqrt(n)
        of_limit = t * deviation * math.sqrt(1 / n + _Z * _Z / (2 * (n - 1)))
        halves = (of_bias, of_limit, of_limit)
        figures = [Figure(value=v, low=v - h, high=v + h) for v, h in zip(values, halves, strict=True)]
    else:
        rounds = (means, means - _Z * deviations, means + _Z * deviations)
        figures = [_figure(v, r) for v, r in zip(values, rounds, strict=True)]
    return Agreement(
        n=n,
        bias=figures[0],
        deviation=deviation,
        lower=figures[1],
        upper=figures[2],
        mean_absolute=_figure(float(np.abs(d).mean()), absolute),
    )


def within(truth: Floats, ours: Floats, *, absolute: float = 0.0, relative: float = 0.0) -> Bools:
    """Which pairs differ by at most `absolute` or by at most `relative` (a share) of the truth, whichever is more."""
    return np.asarray(np.abs(ours - truth) <= np.maximum(absolute, relative * np.abs(truth)) + 1e-9, bool)


def _drawn(d: Floats, draws: Draws) -> tuple[Floats, Floats, Floats]:
    """Mean, standard deviation and mean without sign of each round."""
    means, deviations, absolute = [], [], []
    for weights in draws.chunks(len(d)):
        counts = weights[:, draws.group]
        total = counts.sum(axis=1)
        mean = counts @ d / total
        square = counts @ (d * d) / total - mean * mean
        means.append(mean)
        deviations.append(np.sqrt(np.maximum(square, 0) * total / np.maximum(total - 1, 1)))
        absolute.append(counts @ np.abs(d) / total)
    return np.concatenate(means), np.concatenate(deviations), np.concatenate(absolute)


def mean_figure(values: Floats, draws: Draws) -> Figure | None:
    """A mean with its interval by drawing patients again; None of none."""
    if not len(values):
        return None
    return _figure(float(values.mean()), _drawn(values, draws)[0])


def _figure(value: float, rounds: Floats) -> Figure:
    low, high = (float(v) for v in np.percentile(rounds, _PERCENTILES))
    return Figure(value=value, low=min(low, value), high=max(high, value))
