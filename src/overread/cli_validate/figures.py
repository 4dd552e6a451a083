"""From labels and scores to all figures, as the JSON that `docs/how-to/validate-on-your-own-data.md` describes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from overread import __version__
from overread.cli_validate import metrics as m
from overread.cli_validate import quantities
from overread.cli_validate.dataset import Dataset, Row
from overread.cli_validate.score import CUES, Scores
from overread.domain import catalogue
from overread.domain.texts import DISCLAIMER
from overread.inference.card import Card

FORMAT = "overread-validation/1"
#: With fewer images with, or without, a finding no figure of a subgroup is given.
FEWEST_OF_GROUP = 5
#: The largest groups alone are shown of a column with more values than this.
MOST_GROUPS = 8
BOX_IOU = 0.2
#: Age bands where the card has none.
AGES = ((0, 17), (18, 39), (40, 59), (60, 79), (80, 150))
#: Specificities, on these images, that the threshold table has a row for.
SPECIFICITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)

Json = dict[str, Any]


def validation(dataset: Dataset, scores: Scores, card: Card | None, *, rounds: int = m.ROUNDS) -> Json:
    """Every figure. `card`: of the model, for its own figures and age bands; None if only a file of scores is there."""
    bands = age_bands(card)
    return {
        "format": FORMAT,
        "disclaimer": DISCLAIMER,
        "overread": __version__,
        "model": model_of(scores, card),
        "dataset": describe(dataset, scores),
        "method": {
            "intervals": "95%, percentile bootstrap; Wilson's where drawing again gives no width",
            "drawn_by": "patient" if dataset.by_patient else "image",
            "rounds": rounds,
            "seed": m.SEED,
            "gate": scores.gated,
        },
        "findings": {
            key: _finding(key, dataset, scores, card, bands, rounds)
            for key in scores.thresholds
            if key in dataset.words
        },
        "outlines": quantities.outlines(dataset, scores, rounds=rounds),
        "measurements": quantities.measurements(dataset, scores, rounds=rounds),
        "measured": {image: dict(values) for image, values in scores.measured.items() if values},
        "not_labelled": [key for key in scores.thresholds if key not in dataset.words],
    }


def model_of(scores: Scores, card: Card | None) -> Json:
    """Which model it is."""
    identity = scores.identity
    return {
        "name": identity.name,
        "version": identity.version,
        "sha256": identity.sha256,
        "task": scores.task,
        "statement": card.statement if card is not None else "",
    }


def describe(dataset: Dataset, scores: Scores) -> Json:
    """How many images there are, of whom, and what became of them."""
    rows, ages = dataset.rows, [row.age for row in dataset.rows if row.age is not None]
    return {
        "name": dataset.folder.resolve().name,
        "labels_sha256": dataset.labels_sha256,
        "images": len(rows),
        "patients": len({row.patient for row in rows}) if dataset.by_patient else None,
        "scored": len(scores.confidence),
        "not_assessed": [{"image": image, "reason": why} for image, why in scores.not_assessed.items()],
        "unreadable": [{"image": p.image, "code": p.code, "message": p.message} for p in scores.problems],
        "without_label": dataset.without_label,
        "boxes_elsewhere": dataset.boxes_elsewhere,
        "unused_words": dict(dataset.unused_words),
        "view": dict(Counter(row.view or "unknown" for row in rows).most_common()),
        "sex": dict(Counter(row.sex or "unknown" for row in rows).most_common()),
        "age": [min(ages), float(np.median(ages)), max(ages)] if ages else None,
    }


def _finding(
    key: str, dataset: Dataset, scores: Scores, card: Card | None, bands: Sequence[tuple[float, float]], rounds: int
) -> Json:
    there, labelled = dataset.truth(key)
    not_assessed = _refused(key, scores)
    scored = np.array([key in scores.confidence.get(row.image, {}) for row in dataset.rows], bool)
    refused = np.array([row.image in not_assessed for row in dataset.rows], bool) & labelled
    here = np.flatnonzero(labelled & scored)
    rows, groups = [dataset.rows[i] for i in here], dataset.groups
    y = there[here]
    p = np.array([scores.confidence[row.image][key] for row in rows], np.float64)
    draws = m.Draws([groups[i] for i in here], rounds=rounds)
    show, up = scores.thresholds[key]
    bins = m.reliability(y, p)
    found: Json = {
        "name": catalogue.entry(key).name if catalogue.is_known(key) else key,
        "label_words": list(dataset.words[key]),
        **_figures(y, p, draws, show, up),
        "not_labelled": int((~labelled).sum()),
        "not_assessed": {"n": int(refused.sum()), "positives": int((refused & there).sum())},
        "calibration": {
            "ece": m.expected_calibration_error(bins) if bins else None,
            "bins": [{"n": b.n, "confidence": b.confidence, "observed": _json(b.observed)} for b in bins],
        },
        "roc": m.roc(y, p),
        "thresholds": _thresholds(y, p, show, up),
        "subgroups": _subgroups(rows, y, p, [groups[i] for i in here], bands, show, up, rounds),
        "cues": _cues(rows, y, scores, draws),
        "card": _card_figures(card, key),
    }
    if dataset.boxes is not None and any(key in of_image for of_image in dataset.boxes.values()):
        found["boxes"] = _boxes(key, rows, y, p, dataset, scores, rounds)
    return found


def _refused(key: str, scores: Scores) -> set[str]:
    """Images that were not assessed, or not for this finding."""
    return {*scores.not_assessed, *(image for image, said in scores.confidence.items() if key not in said)}


def _figures(y: m.Bools, p: m.Floats, draws: m.Draws, show: float, up: float, fewest: int = 1) -> Json:
    """n, positives, AUC and both thresholds; null with the reason where a class is too small."""
    positives = int(y.sum())
    lacking = [
        f"no image {word} it" if not count else f"only {count} {word} it"
        for word, count in (("with", positives), ("without", len(y) - positives))
        if count < fewest
    ]
    enough = fewest == 1 or not lacking
    return {
        "n": len(y),
        "patients": draws.count,
        "positives": positives,
        "auc": _json(m.auc_figure(y, p, draws)) if enough else None,
        "at_show": _at(y, p, show, draws) if enough else None,
        "at_raise": _at(y, p, up, draws) if enough else None,
        "reason": "; ".join(lacking) or None,
    }


def _at(y: m.Bools, p: m.Floats, threshold: float, draws: m.Draws) -> Json:
    return {
        "threshold": threshold,
        "sensitivity": _json(m.share(p >= threshold, y, draws)),
        "specificity": _json(m.share(p < threshold, ~y, draws)),
    }


def _json(figure: m.Figure | None) -> Json | None:
    return None if figure is None else {"value": figure.value, "low": figure.low, "high": figure.high}


def _thresholds(y: m.Bools, p: m.Floats, show: float, up: float) -> list[Json]:
    """Counts at the card's thresholds and at those that give some specificities on these very images."""
    negative = p[~y]
    chosen: dict[float, list[str]] = {}
    for specificity in SPECIFICITIES if len(negative) else ():
        least = float(np.nextafter(np.quantile(negative, specificity, method="higher"), 2.0))
        chosen.setdefault(least, []).append(f"{specificity:.0%}")
    named = [(threshold, f"specificity {', '.join(said)} here") for threshold, said in chosen.items()]
    rows = []
    for threshold, why in sorted([*named, (show, "card: show"), (up, "card: raise")]):
        at = m.at_threshold(y, p, threshold)
        rows.append({
            "why": why, "threshold": threshold, "sensitivity": at.sensitivity, "specificity": at.specificity,
            "ppv": at.ppv, "npv": at.npv, "true_positive": at.true_positive, "false_positive": at.false_positive,
            "false_negative": at.false_negative, "true_negative": at.true_negative,
        })  # fmt: skip
    return rows


# --- subgroups ----------------------------------------------------------------------------------------------------


def age_bands(card: Card | None) -> tuple[tuple[float, float], ...]:
    """The bands of the card's own figures ("40-59", "80+"), so that both compare; else `AGES`."""
    said = [s.group for o in card.outputs for s in o.subgroups if s.by == "age"] if card is not None else []
    found = []
    for text in dict.fromkeys(said):
        match = re.fullmatch(r"(\d+)(?:-(\d+)|\+)", text)
        if match is None:
            return AGES
        found.append((float(match[1]), float(match[2] or 150)))
    return tuple(sorted(found)) or AGES


def _subgroups(
    rows: Sequence[Row], y: m.Bools, p: m.Floats, groups: Sequence[str], bands: Sequence[tuple[float, float]],
    show: float, up: float, rounds: int,
) -> list[Json]:  # fmt: skip
    made = []
    for by, name, mask in _masks(rows, bands):
        draws = m.Draws([group for group, inside in zip(groups, mask, strict=True) if inside], rounds=rounds)
        made.append({"by": by, "group": name, **_figures(y[mask], p[mask], draws, show, up, FEWEST_OF_GROUP)})
    return made


def _masks(rows: Sequence[Row], bands: Sequence[tuple[float, float]]) -> list[tuple[str, str, m.Bools]]:
    """(by, group, which images); a group of all images or of none is left out."""
    masks = []
    for by, values in (("view", [row.view for row in rows]), ("sex", [row.sex for row in rows])):
        for value, _ in Counter(v for v in values if v).most_common(MOST_GROUPS):
            masks.append((by, value, np.array([v == value for v in values], bool)))
    for low, high in bands:
        # Ages in years may have decimals: 39.5 is still in the band to 39.
        inside = [row.age is not None and low <= row.age < high + 1 for row in rows]
        masks.append(("age", f"{low:.0f}+" if high >= 150 else f"{low:.0f}-{high:.0f}", np.array(inside, bool)))
    return [(by, name, mask) for by, name, mask in masks if mask.any() and not mask.all()]


# --- what else tells the label ------------------------------------------------------------------------------------


def _cues(rows: Sequence[Row], y: m.Bools, scores: Scores, draws: m.Draws) -> list[Json]:
    """How well each thing that is no anatomy tells the finding, alone; the strongest first.

    The AUC is turned so that it is at least 0.5. A model may have learned such a cue, and a figure that a cue reaches
    too is no evidence of reading images.
    """
    if not y.any() or y.all():
        return []
    values: dict[str, m.Floats] = {}
    measured = [scores.cues.get(row.image) for row in rows]
    if rows and all(value is not None for value in measured):
        table = np.array(measured, np.float64)
        values |= {name: table[:, column] for column, name in enumerate(CUES)}
    ages = [row.age for row in rows]
    if rows and all(age is not None for age in ages):
        values["age"] = np.array(ages, np.float64)
    for by, said in (("view", [row.view for row in rows]), ("sex", [row.sex for row in rows])):
        known = [value for value, _ in Counter(v for v in said if v).most_common(MOST_GROUPS)]
        for value in known[:1] if len(set(said)) == 2 else known:
            # Of two values the rarer says the same the other way round.
            values[f"{by} {value}"] = np.array([one == value for one in said], np.float64)
    found = []
    for name, cue in values.items():
        if len(np.unique(cue)) > 1:
            rises = m.auc(y, cue) >= 0.5
            figure = _json(m.auc_figure(y, cue if rises else -cue, draws))
            found.append({"cue": name, "more_where_positive": rises, "auc": figure})
    return sorted(found, key=lambda item: -float(item["auc"]["value"]))


def _card_figures(card: Card | None, key: str) -> Json | None:
    """What the card says of this finding, for comparison."""
    evidence = next((o.evidence for o in card.outputs if o.evidence.finding == key), None) if card is not None else None
    if evidence is None:
        return None
    return {
        name: {"value": interval.value, "low": interval.low, "high": interval.high}
        for name, interval in (
            ("auc", evidence.auc),
            ("sensitivity", evidence.sensitivity),
            ("specificity", evidence.specificity),
        )
    }


# --- boxes --------------------------------------------------------------------------------------------------------


def _boxes(
    key: str, rows: Sequence[Row], y: m.Bools, p: m.Floats, dataset: Dataset, scores: Scores, rounds: int
) -> Json:
    """Hit rate where somebody drew a box, and FROC over these images and those without the finding."""
    known: Mapping[str, Any] = dataset.boxes or {}
    truth = [known.get(row.image, {}).get(key, ()) for row in rows]
    ours = [scores.boxes.get(row.image, {}).get(key) for row in rows]
    iou = [[box.iou(true) for true in those] if box is not None else [] for box, those in zip(ours, truth, strict=True)]
    boxed = [i for i, those in enumerate(truth) if those]
    best = np.array([max(iou[i], default=0.0) for i in boxed], np.float64)
    groups = dataset.groups
    by_image = dict(zip((row.image for row in dataset.rows), groups, strict=True))
    draws = m.Draws([by_image[rows[i].image] for i in boxed], rounds=rounds)
    used = [i for i in range(len(rows)) if truth[i] or not y[i]]
    confidence = np.array([p[i] if ours[i] is not None else np.nan for i in used], np.float64)
    hits = np.array([sum(v >= BOX_IOU for v in iou[i]) for i in used], int)
    points = m.froc(confidence, hits, sum(len(truth[i]) for i in boxed))
    return {
        "images": len(boxed),
        "boxes": sum(len(truth[i]) for i in boxed),
        "positives_without_box": int(sum(1 for i in range(len(rows)) if y[i] and not truth[i])),
        "least_iou": BOX_IOU,
        "hit_rate": _json(m.share(best >= BOX_IOU, np.ones(len(best), bool), draws)),
        "mean_iou": float(best.mean()) if len(best) else None,
        "froc": [
            {
                "threshold": f.threshold,
                "sensitivity": f.sensitivity,
                "false_positives_per_image": f.false_positives_per_image,
            }
            for f in points
        ],
    }
