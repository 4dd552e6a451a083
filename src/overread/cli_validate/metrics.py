"""What a score is worth: pure functions of labels and scores, written once, checked against scikit-learn.

Labels `y` are bool (n,), True = the finding is there; scores `s` are float (n,), higher = more likely. Intervals are
95% and come from drawing whole patients again (percentile bootstrap, Efron 1979), since images of one patient resemble
each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

ROUNDS, SEED = 1000, 0
_PERCENTILES = (2.5, 97.5)
#: Standard normal quantile of a 95% interval.
_Z = 1.959963984540054
#: Weights held at a time while drawing again: few enough to stay in the processor's cache.
_CHUNK = 300_000


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A value with its 95% interval."""

    value: float
    low: float
    high: float


class Draws:
    """How often each patient (or image) counts in each round; the same rounds for every figure, so pairs are paired."""

    def __init__(self, groups: Sequence[str], *, rounds: int = ROUNDS, seed: int = SEED) -> None:
        """`groups`: whose image each is. The result depends on the set of names, not on the order of the images."""
        # Numbers as numbers: "9" before "10".
        names = sorted(set(groups), key=lambda name: (len(name), name))
        index = {name: number for number, name in enumerate(names)}
        self.group: NDArray[np.intp] = np.array([index[name] for name in groups], dtype=np.intp)
        self.count = len(names)
        rng = np.random.default_rng(seed)
        self._drawn = np.zeros((rounds, self.count), dtype=np.uint16)
        for row in self._drawn if self.count else ():
            row[:] = np.bincount(rng.integers(0, self.count, self.count), minlength=self.count)

    def chunks(self, width: int) -> Iterator[Floats]:
        """(rounds, groups) in pieces of few rounds, so that `width` columns of each fit in memory."""
        step = max(1, _CHUNK // max(1, width, self.count))
        for start in range(0, len(self._drawn), step):
            yield self._drawn[start : start + step].astype(np.float64)


def auc(y: Bools, s: Floats) -> float:
    """Area under the ROC curve; ties count half. NaN without both classes."""
    positive, negative = s[y], np.sort(s[~y])
    if not len(positive) or not len(negative):
        return math.nan
    below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(below.sum() / (2 * len(positive) * len(negative)))


def auc_rounds(y: Bools, s: Floats, draws: Draws) -> Floats:
    """The AUC of each round; NaN in rounds without both classes."""
    order = np.argsort(s[~y], kind="stable")
    negative, positive = s[~y][order], s[y]
    left, right = np.searchsorted(negative, positive, "left"), np.searchsorted(negative, positive, "right")
    of_positive, of_negative = draws.group[y], draws.group[~y][order]
    found = []
    for weights in draws.chunks(len(y)):
        reached = np.zeros((len(weights), len(negative) + 1))
        np.cumsum(weights[:, of_negative], axis=1, out=reached[:, 1:])
        counts = weights[:, of_positive]
        pairs = counts.sum(axis=1) * reached[:, -1]
        won = (counts * (reached[:, left] + reached[:, right])).sum(axis=1) / 2
        found.append(np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))
    return np.concatenate(found) if found else np.empty(0)


def auc_figure(y: Bools, s: Floats, draws: Draws) -> Figure | None:
    """None without both classes.

    Where drawing again gives no width (a perfect score, one patient) the interval is Wilson's for as many patients as
    the rarer class has.
    """
    value = auc(y, s)
    if math.isnan(value):
        return None
    rarer = min(len(np.unique(draws.group[y])), len(np.unique(draws.group[~y])))
    return _with_interval(value, auc_rounds(y, s, draws), rarer)


def share(hit: Bools, of: Bools, draws: Draws) -> Figure | None:
    """How many of `of` are `hit`: sensitivity (of the positives), specificity (of the negatives). None of none.

    Where all or none are hit the interval is Wilson's, over patients.
    """
    if not of.any():
        return None
    total = np.bincount(draws.group, of, draws.count)
    hits = np.bincount(draws.group, of & hit, draws.count)
    found = []
    for weights in draws.chunks(draws.count):
        drawn = weights @ total
        found.append(np.divide(weights @ hits, drawn, out=np.full(len(drawn), np.nan), where=drawn > 0))
    rounds = np.concatenate(found) if found else np.empty(0)
    return _with_interval(float(hits.sum() / total.sum()), rounds, len(np.unique(draws.group[of])))


def _with_interval(value: float, rounds: Floats, patients: int) -> Figure:
    kept = rounds[np.isfinite(rounds)]
    low, high = (float(v) for v in np.percentile(kept, _PERCENTILES)) if len(kept) else (value, value)
    if low >= high:
        low, high = wilson(value, patients)
    return Figure(value=value, low=min(low, value), high=max(high, value))


def wilson(share_of: float, n: int) -> tuple[float, float]:
    """95% interval of a proportion seen in `n` (Wilson 1927)."""
    centre = (share_of + _Z * _Z / (2 * n)) / (1 + _Z * _Z / n)
    half = _Z / (1 + _Z * _Z / n) * math.sqrt(share_of * (1 - share_of) / n + _Z * _Z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def roc(y: Bools, s: Floats, *, most: int = 200) -> list[tuple[float, float]]:
    """(1 - specificity, sensitivity) from (0, 0) to (1, 1), at most about `most` points. Empty without both classes."""
    if not y.any() or y.all():
        return []
    order = np.argsort(-s, kind="stable")
    last_of_tie = np.flatnonzero(np.append(np.diff(s[order]) != 0, True))
    hits = np.cumsum(y[order])[last_of_tie]
    alarms = last_of_tie + 1 - hits
    points = list(zip((alarms / (~y).sum()).tolist(), (hits / y.sum()).tolist(), strict=True))
    step = max(1, math.ceil(len(points) / most))
    kept = points[::step]
    return [(0.0, 0.0), *kept] if kept[-1] == points[-1] else [(0.0, 0.0), *kept, points[-1]]


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Images of like confidence."""

    n: int
    confidence: float
    #: How many of them have the finding, with Wilson's interval (images taken as independent).
    observed: Figure


def reliability(y: Bools, p: Floats, *, bins: int = 10) -> tuple[Bin, ...]:
    """Bins of equally many images, by rising confidence (Nixon et al. 2019)."""
    order = np.argsort(p, kind="stable")
    made = []
    for part in np.array_split(order, bins):
        if len(part):
            seen = float(y[part].mean())
            low, high = wilson(seen, len(part))
            figure = Figure(value=seen, low=min(low, seen), high=max(high, seen))
            made.append(Bin(n=len(part), confidence=float(p[part].mean()), observed=figure))
    return tuple(made)


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance of confidence and share observed, weighted by images. NaN without bins."""
    n = sum(b.n for b in bins)
    return sum(b.n * abs(b.observed.value - b.confidence) for b in bins) / n if n else math.nan


@dataclass(frozen=True, kw_only=True)
class AtThreshold:
    """Decisions `p >= threshold`. Predictive values hold for this share of positives only; None of none."""

    threshold: float
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def sensitivity(self) -> float | None:
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> float | None:
        return _ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def ppv(self) -> float | None:
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def npv(self) -> float | None:
        return _ratio(self.true_negative, self.true_negative + self.false_negative)


def at_threshold(y: Bools, p: Floats, threshold: float) -> AtThreshold:
    """Counts at one threshold."""
    above = p >= threshold
    return AtThreshold(
        threshold=threshold,
        true_positive=int((above & y).sum()),
        false_positive=int((above & ~y).sum()),
        false_negative=int((~above & y).sum()),
        true_negative=int((~above & ~y).sum()),
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True, kw_only=True)
class FrocPoint:
    """All candidate boxes of at least this confidence."""

    threshold: float
    #: Part of the true boxes that a candidate meets.
    sensitivity: float
    false_positives_per_image: float


def froc(confidence: Floats, hits: NDArray[np.int_], true_boxes: int, *, most: int = 100) -> tuple[FrocPoint, ...]:
    """One candidate box an image: its confidence (NaN: none), and how many true boxes it meets (0: a false positive).

    Chakraborty 1989. Empty without true boxes or images.
    """
    if not true_boxes or not len(confidence):
        return ()
    there = np.flatnonzero(np.isfinite(confidence))
    order = there[np.argsort(-confidence[there], kind="stable")]
    last_of_tie = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True)) if len(order) else np.empty(0, int)
    found, false = np.cumsum(hits[order]), np.cumsum(hits[order] == 0)
    step = max(1, math.ceil(len(last_of_tie) / most))
    picked = sorted({*last_of_tie[::step].tolist(), *last_of_tie[-1:].tolist()})
    return tuple(
        FrocPoint(
            threshold=float(confidence[order[i]]),
            sensitivity=float(found[i] / true_boxes),
            false_positives_per_image=float(false[i] / len(confidence)),
        )
        for i in picked
    )


@dataclass(frozen=True, kw_only=True)
class DeLong:
    """Two AUCs on the same images, which are taken as independent of each other."""

    difference: float
    standard_error: float
    #: Two-sided; None where the standard error is 0.
    p: float | None


def delong(y: Bools, a: Floats, b: Floats) -> DeLong | None:
    """AUC of `a` less AUC of `b` (DeLong 1988, by mid-ranks: Sun and Xu 2014). None with fewer than 2 of a class."""
    m, n = int(y.sum()), int((~y).sum())
    if min(m, n) < 2:
        return None
    of_positives, of_negatives, areas = [], [], []
    for s in (a, b):
        everywhere = stats.rankdata(s)
        of_positives.append((everywhere[y] - stats.rankdata(s[y])) / n)
        of_negatives.append(1.0 - (everywhere[~y] - stats.rankdata(s[~y])) / m)
        areas.append(float(of_positives[-1].mean()))
    covariance = np.cov(np.stack(of_positives)) / m + np.cov(np.stack(of_negatives)) / n
    variance = max(0.0, float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
    difference, error = areas[0] - areas[1], math.sqrt(variance)
    p = math.erfc(abs(difference) / error / math.sqrt(2)) if error > 0 else None
    return DeLong(difference=difference, standard_error=error, p=p)


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Images that only one of two decides rightly."""

    only_a: int
    only_b: int
    #: Exact, two-sided.
    p: float


def mcnemar(right_a: Bools, right_b: Bools) -> McNemar:
    """Exact test on pairs of decisions (McNemar 1947); p is 1 where both are right on the same images."""
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    p = float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a=only_a, only_b=only_b, p=p)


def difference(y: Bools, a: Floats, b: Floats, draws: Draws) -> Figure | None:
    """AUC of `a` less AUC of `b`, interval by drawing patients again, both on the same draws. None of one class."""
    value = auc(y, a) - auc(y, b)
    if math.isnan(value):
        return None
    rounds = auc_rounds(y, a, draws) - auc_rounds(y, b, draws)
    kept = rounds[np.isfinite(rounds)]
    low, high = (float(v) for v in np.percentile(kept, _PERCENTILES)) if len(kept) else (value, value)
    return Figure(value=value, low=min(low, value), high=max(high, value))
