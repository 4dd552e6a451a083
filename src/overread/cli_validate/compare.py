"""Two models, or two files of scores, on the same images."""

from __future__ import annotations

from typing import Any

import numpy as np

from overread import __version__
from overread.cli_validate import metrics as m
from overread.cli_validate.dataset import Dataset
from overread.cli_validate.figures import Json, describe, model_of
from overread.cli_validate.score import Scores
from overread.domain import catalogue
from overread.domain.errors import InvalidRequest
from overread.domain.texts import DISCLAIMER

FORMAT = "overread-comparison/1"


def comparison(dataset: Dataset, a: Scores, b: Scores, *, rounds: int = m.ROUNDS) -> Json:
    """AUCs by DeLong and by drawing patients again; decisions at the thresholds of each model's card by McNemar.

    Only images that both scored count. Raises `InvalidRequest` if there is no finding or no image that both have.
    """
    keys = [key for key in a.thresholds if key in b.thresholds and key in dataset.words]
    if not keys:
        raise InvalidRequest("There is no labelled finding that both look for.")
    both = np.array([row.image in a.confidence and row.image in b.confidence for row in dataset.rows], bool)
    if not both.any():
        raise InvalidRequest("There is no image that both have scored.")
    return {
        "format": FORMAT,
        "disclaimer": DISCLAIMER,
        "overread": __version__,
        "a": model_of(a, None) | {"dataset": describe(dataset, a)},
        "b": model_of(b, None) | {"dataset": describe(dataset, b)},
        "scored_by_both": int(both.sum()),
        "method": {
            "drawn_by": "patient" if dataset.by_patient else "image",
            "rounds": rounds,
            "seed": m.SEED,
            "difference": "A less B; `difference` draws patients again, DeLong and McNemar take images as independent",
        },
        "findings": {key: _finding(key, dataset, a, b, both, rounds) for key in keys},
    }


def _finding(key: str, dataset: Dataset, a: Scores, b: Scores, both: m.Bools, rounds: int) -> Json:
    there, labelled = dataset.truth(key)
    said = np.array([all(key in s.confidence.get(row.image, {}) for s in (a, b)) for row in dataset.rows], bool)
    here = np.flatnonzero(labelled & both & said)
    y = there[here]
    names, groups = [dataset.rows[i].image for i in here], dataset.groups
    p_a, p_b = (np.array([s.confidence[name][key] for name in names], np.float64) for s in (a, b))
    draws = m.Draws([groups[i] for i in here], rounds=rounds)
    reason = None if y.any() and not y.all() else "no image with it" if not y.any() else "no image without it"
    found = m.difference(y, p_a, p_b, draws)
    test = m.delong(y, p_a, p_b)
    return {
        "name": catalogue.entry(key).name if catalogue.is_known(key) else key,
        "n": len(y),
        "positives": int(y.sum()),
        "reason": reason,
        "auc_a": _figure(m.auc_figure(y, p_a, draws)),
        "auc_b": _figure(m.auc_figure(y, p_b, draws)),
        "difference": _figure(found),
        "delong": None if test is None else {"standard_error": test.standard_error, "p": test.p},
        "at_show": _decisions(y, p_a >= a.thresholds[key][0], p_b >= b.thresholds[key][0]),
        "at_raise": _decisions(y, p_a >= a.thresholds[key][1], p_b >= b.thresholds[key][1]),
    }


def _decisions(y: m.Bools, a: m.Bools, b: m.Bools) -> dict[str, Any]:
    """McNemar among images with the finding (sensitivity) and without it (specificity)."""
    of_positives, of_negatives = m.mcnemar(a[y], b[y]), m.mcnemar(~a[~y], ~b[~y])
    return {
        name: {"only_a_right": test.only_a, "only_b_right": test.only_b, "p": test.p} if count else None
        for name, test, count in (
            ("sensitivity", of_positives, int(y.sum())),
            ("specificity", of_negatives, int((~y).sum())),
        )
    }


def _figure(figure: m.Figure | None) -> Json | None:
    return None if figure is None else {"value": figure.value, "low": figure.low, "high": figure.high}
