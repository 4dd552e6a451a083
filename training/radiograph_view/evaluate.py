"""What the model does on images that its training never saw.

Rates are told with a 95% Wilson interval whose sample size is the number of patients (of images where patients are
unknown): several images of one patient count as one, which is wide rather than bold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.radiograph_view.classes import CLASSES, FRONTAL, Grey8, Item
from training.radiograph_view.degrade import make_other, vary
from training.radiograph_view.foreign import ForeignFile

Floats = NDArray[np.float64]
#: Images uint8 (rows, columns) -> probabilities (images, classes).
Predict = Callable[[Sequence[Grey8]], Floats]

#: The threshold is never below this (another class would be likelier) nor above: films of other makers get less
#: confidence than those of the one hospital that is validated on (the phantom's fall to 0.7), and are to pass.
THRESHOLD_RANGE = (0.5, 0.6)
#: Share of validation frontals, as stored and degraded, that must pass.
MUST_PASS = 0.995


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A proportion with its 95% interval."""

    value: float
    low: float
    high: float
    images: int
    groups: int

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})"


def wilson(value: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a proportion (Wilson 1927)."""
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return max(0.0, min(value, float(centre - half))), min(1.0, max(value, float(centre + half)))


def rate(hits: NDArray[np.bool_], groups: Sequence[str]) -> Rate:
    """Share of `hits`; interval by the number of different groups."""
    value, count = float(hits.mean()), len(set(groups))
    low, high = wilson(value, count)
    return Rate(value=value, low=low, high=high, images=len(hits), groups=count)


def choose_threshold(frontal: Floats) -> float:
    """From which probability of `chest_frontal` an image is taken for one: `MUST_PASS` of `frontal` reach it."""
    value = float(np.quantile(frontal, 1.0 - MUST_PASS, method="lower"))
    return float(np.floor(np.clip(value, *THRESHOLD_RANGE) * 1000) / 1000)


def auc(score: Floats, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve (Mann-Whitney)."""
    from scipy.stats import rankdata

    ranks = rankdata(score)
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def auc_interval(
    score: Floats, positive: NDArray[np.bool_], groups: Sequence[str], rounds: int = 300
) -> tuple[float, float, float]:
    """AUC with its 95% interval by bootstrap over groups."""
    value = auc(score, positive)
    of: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        of[group].append(index)
    members = [np.asarray(v) for v in of.values()]
    rng, found = np.random.default_rng(0), []
    for _ in range(rounds):
        pick = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        if 0 < positive[pick].sum() < len(pick):
            found.append(auc(score[pick], positive[pick]))
    low, high = np.percentile(found, [2.5, 97.5])
    return value, min(value, float(low)), max(value, float(high))


def cues(pixels: Grey8) -> list[float]:
    """What an image tells without anatomy: brightness, contrast, borders, aspect."""
    values = pixels.astype(np.float32)
    border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    return [
        float(values.mean()),
        float(values.std()),
        *(float(v) for v in np.percentile(values, [1, 25, 50, 75, 99])),
        float(border.mean()),
        float(border.std()),
        pixels.shape[1] / pixels.shape[0],
    ]


def cue_auc(train: Sequence[Item], test: Sequence[Item], label: int) -> tuple[float, float, float]:
    """AUC of a random forest on `cues` alone, for one class against the others, with its interval."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(200, min_samples_leaf=3, random_state=0)
    step = max(1, len(train) // 4000)
    some = train[::step]
    forest.fit([cues(i.pixels) for i in some], [i.label == label for i in some])
    score = forest.predict_proba([cues(i.pixels) for i in test])[:, 1]
    positive = np.asarray([i.label == label for i in test])
    return auc_interval(score, positive, [f"{i.source}/{i.group}" for i in test])


def degraded(items: Sequence[Item], seed: int) -> list[Grey8]:
    """Every image once through `vary` at half strength, seeded."""
    rng = np.random.default_rng(seed)
    return [vary(item.pixels, rng, 0.5) for item in items]


def hard_cases(frontals: Sequence[Item], predict: Predict, threshold: float) -> dict[str, Rate]:
    """How often a frontal chest radiograph is still taken for one after each change."""
    rng = np.random.default_rng(11)
    cases: dict[str, list[Grey8]] = {
        how: [make_other(i.pixels, how, rng) for i in frontals]
        for how in ("turned_90", "turned_180", "turned_270", "inverted", "detail", "two_films")
    }
    cases["mirrored (should pass)"] = [i.pixels[:, ::-1] for i in frontals]
    cases["cropped to 75% (should pass)"] = [_middle(i.pixels, 0.75) for i in frontals]
    cases["dark border of 25% (should pass)"] = [np.pad(i.pixels, i.pixels.shape[0] // 6) for i in frontals]
    groups = [i.group for i in frontals]
    return {how: rate(predict(images)[:, FRONTAL] >= threshold, groups) for how, images in cases.items()}


def _middle(pixels: Grey8, part: float) -> Grey8:
    rows, columns = pixels.shape
    y, x = round(rows * (1 - part) / 2), round(columns * (1 - part) / 2)
    return pixels[y : rows - y, x : columns - x]


def confusion(items: Sequence[Item], p: Floats) -> NDArray[np.int64]:
    """Counts (true class, likeliest class)."""
    table = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
    np.add.at(table, ([i.label for i in items], p.argmax(axis=1)), 1)
    return table


def foreign_lines(
    files: Sequence[ForeignFile], predict_float: Callable[[Sequence[NDArray[np.float32]]], Floats]
) -> list[str]:
    """One Markdown table row a file."""
    p = predict_float([f.pixels for f in files])
    return [
        f"| {f.name} | {f.modality} | {f.expected} | {CLASSES[int(row.argmax())]} | {row[FRONTAL]:.3f} |"
        for f, row in zip(files, p, strict=True)
    ]
