"""From true and our outlines and measurements to figures, as JSON: Dice, HD95, bias, limits of agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from overread.cli_validate import metrics as m
from overread.cli_validate.agreement import agreement, mean_figure
from overread.cli_validate.dataset import Dataset, Row
from overread.cli_validate.overlap import Overlap
from overread.cli_validate.score import Scores

Json = dict[str, Any]


def outlines(dataset: Dataset, scores: Scores, *, rounds: int) -> dict[str, Json]:
    """Outline -> figures. Dice and HD95 are over images with a true outline; one that was not drawn has a Dice of 0.

    `missed`: true outlines where we drew nothing; `drawn_where_none`: images whose true outline is empty where we drew
    one, of `without`.
    """
    keys = dict.fromkeys(key for of_image in scores.overlaps.values() for key in of_image)
    return {key: _outline(key, dataset, scores, rounds) for key in keys}


def _outline(key: str, dataset: Dataset, scores: Scores, rounds: int) -> Json:
    groups = dataset.groups
    pairs = [
        (row, group, scores.overlaps[row.image][key])
        for row, group in zip(dataset.rows, groups, strict=True)
        if key in scores.overlaps.get(row.image, {})
    ]
    there = [(row, group, o) for row, group, o in pairs if o.truth]
    without = [o for _, _, o in pairs if not o.truth]
    dice = np.array([o.dice for _, _, o in there if o.dice is not None], np.float64)
    draws = m.Draws([group for _, group, _ in there], rounds=rounds)
    return {
        "n": len(there),
        "patients": draws.count if dataset.by_patient else None,
        "missed": sum(1 for _, _, o in there if not o.ours),
        "without": len(without),
        "drawn_where_none": sum(1 for o in without if o.ours),
        "dice": figure(mean_figure(dice, draws)),
        "dice_median": float(np.median(dice)) if len(dice) else None,
        "dice_histogram": np.histogram(dice, bins=20, range=(0.0, 1.0))[0].tolist(),
        "hd95_px": _distance([(g, o.hd95_px) for _, g, o in there], rounds),
        "hd95_mm": _distance([(g, o.hd95_mm) for _, g, o in there], rounds),
        "worst": [_named(row, o) for row, _, o in sorted(there, key=lambda item: item[2].dice or 0.0)[:5]],
    }


def _named(row: Row, overlap: Overlap) -> Json:
    return {"image": row.image, **asdict(overlap)}


def _distance(values: Sequence[tuple[str, float | None]], rounds: int) -> Json | None:
    """Mean, median and 95th percentile of the images where it is known."""
    known = [(group, value) for group, value in values if value is not None]
    if not known:
        return None
    found = np.array([value for _, value in known], np.float64)
    mean = mean_figure(found, m.Draws([group for group, _ in known], rounds=rounds))
    return {
        "n": len(known),
        "mean": figure(mean),
        "median": float(np.median(found)),
        "p95": float(np.percentile(found, 95)),
    }


def measurements(dataset: Dataset, scores: Scores, *, rounds: int) -> dict[str, Json]:
    """Column of labels.csv -> bias and limits of agreement of what was measured; all in the unit of the column."""
    return {name: _measurement(name, dataset, scores, rounds) for name in dataset.measures}


def _measurement(name: str, dataset: Dataset, scores: Scores, rounds: int) -> Json:
    true = [
        (row, group)
        for row, group in zip(dataset.rows, dataset.groups, strict=True)
        if name in row.measured and row.image in scores.confidence
    ]
    pairs = [(row, group, scores.measured.get(row.image, {}).get(name)) for row, group in true]
    known = [(row, group, value) for row, group, value in pairs if value is not None]
    truth = np.array([row.measured[name] for row, _, _ in known], np.float64)
    ours = np.array([value for _, _, value in known], np.float64)
    found = agreement(truth, ours, m.Draws([group for _, group, _ in known], rounds=rounds))
    return {
        "unit": name.rsplit("_", 1)[-1],
        "n": len(known),
        "missed": len(true) - len(known),
        "reason": None if found is not None else "fewer than two images with a true and a measured value",
        "bias": figure(found.bias if found else None),
        "deviation": found.deviation if found else None,
        "lower": figure(found.lower if found else None),
        "upper": figure(found.upper if found else None),
        "mean_absolute_error": figure(found.mean_absolute if found else None),
        "points": [[float(t), float(o)] for t, o in zip(truth, ours, strict=True)],
        "worst": [
            {"image": row.image, "truth": row.measured[name], "ours": value}
            for row, _, value in sorted(known, key=lambda item: -abs(item[2] - item[0].measured[name]))[:5]
        ],
    }


def figure(value: m.Figure | None) -> Json | None:
    """As JSON."""
    return None if value is None else {"value": value.value, "low": value.low, "high": value.high}
