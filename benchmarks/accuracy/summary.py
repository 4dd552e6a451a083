"""From the answers on all phantoms to figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from benchmarks.accuracy.records import Record
from overread.cli_validate.agreement import agreement, mean_figure, within
from overread.cli_validate.metrics import Draws, Figure, Floats, share, wilson

Json = dict[str, Any]
#: Nodules from this longest diameter on count, mm.
FROM_MM = 6.0
BANDS = ((4.0, 6.0), (6.0, 8.0), (8.0, 15.0), (15.0, 31.0))
#: Amounts of which less than this is no finding, and whose share of error means nothing, mL.
LEAST_ML = 20.0


def summarise(results: Sequence[Json]) -> list[Record]:
    """All figures of the phantoms."""
    read = [r for r in results if not r["refused"]]
    made = [_share("phantoms.read", "scans that were read", len(read), len(results), goal=1.0)]
    made += [*nodules(read), *sizes(read), *volumes(read), *whole_findings(read)]
    return [record for record in made if record.n]


def _share(key: str, name: str, hits: int, n: int, *, goal: float | None = None) -> Record:
    low, high = wilson(hits / n, n) if n else (0.0, 1.0)
    value = hits / n if n else float("nan")
    return Record(key=key, name=name, value=value, low=low, high=high, n=n, better="higher", goal=goal)


def nodules(results: Sequence[Json]) -> list[Record]:
    """Sensitivity by type and size, and what was no nodule. The interval is Wilson's, over nodules."""
    key = "phantoms.nodules"
    known = [(n, r) for r in results for n in r["nodules"]]
    counted = [n for n, _ in known if n["diameter_mm"] >= FROM_MM and n["density"] != "ground_glass"]
    made = [_found(f"{key}.sensitivity", f"nodules ≥ {FROM_MM:g} mm found", counted, goal=0.95)]
    groups: list[tuple[str, str, Callable[[Json], bool]]] = [
        (f"{low:g}_{high:g}_mm", f"{low:g} to {high:g} mm", _between(low, high)) for low, high in BANDS
    ]
    groups += [(f"density_{d}", f"≥ 6 mm, {d.replace('_', '-')}", _is("density", d)) for d in ("solid", "part_solid")]
    groups += [
        (f"contact_{c}", f"≥ 6 mm, {word}", _is("contact", c))
        for c, word in (("none", "free"), ("vessel", "at a vessel"), ("pleura", "at the pleura"))
    ]
    for name, words, keep in groups:
        pool = [n for n, _ in known if keep(n)] if name.endswith("_mm") else [n for n in counted if keep(n)]
        if pool:
            made.append(_found(f"{key}.sensitivity.{name}", words, pool))
    false = np.array([len(r["false"]) for r in results], np.float64)
    made.append(_mean(f"{key}.false_per_scan", "candidates a scan that are no nodule", false, goal=2.0))
    healthy = np.array([sum(f["where"] != "consolidation" for f in r["false"]) for r in results], np.float64)
    made.append(_mean(f"{key}.false_per_scan_outside_disease", "of these outside consolidation", healthy))
    large = np.array([sum((f["diameter_mm"] or 0) >= FROM_MM for f in r["false"]) for r in results], np.float64)
    made.append(_mean(f"{key}.false_per_scan_6_mm", f"of these measured {FROM_MM:g} mm or more", large))
    return made


def _found(key: str, name: str, pool: Sequence[Json], *, goal: float | None = None) -> Record:
    return _share(key, name, sum(n["ours"] is not None for n in pool), len(pool), goal=goal)


def _between(low: float, high: float) -> Callable[[Json], bool]:
    return lambda n: low <= n["diameter_mm"] < high and n["density"] != "ground_glass"


def _is(field: str, value: str) -> Callable[[Json], bool]:
    return lambda n: bool(n[field] == value)


def _mean(
    key: str, name: str, values: Floats, *, goal: float | None = None, unit: str = "",
    better: Literal["higher", "lower", "told"] = "lower",
) -> Record:  # fmt: skip
    found = mean_figure(values, _draws(len(values))) or Figure(value=float("nan"), low=0.0, high=0.0)
    return Record(
        key=key, name=name, value=found.value, low=found.low, high=found.high, n=len(values), better=better, goal=goal,
        unit=unit,
    )  # fmt: skip


def _draws(n: int) -> Draws:
    return Draws([str(i) for i in range(n)])


def found_and_sized(key: str, words: str, nodules_: Sequence[Json]) -> list[Record]:
    """Sensitivity and sizes of nodules by themselves."""
    counted = [n for n in nodules_ if n["diameter_mm"] >= FROM_MM]
    if not counted:
        return []
    whole = _found(f"{key}.sensitivity", f"nodules ≥ {FROM_MM:g} mm {words}, found", counted, goal=0.95)
    return [whole, *sizes([{"nodules": counted}], key, f"{words}: ")]


def sizes(results: Sequence[Json], at: str = "phantoms.nodules", prefix: str = "") -> list[Record]:
    """Diameter and volume of the nodules that were found, of at least 6 mm."""
    pool = [(n, n["ours"]) for r in results for n in r["nodules"] if n["ours"] and n["diameter_mm"] >= FROM_MM]
    made: list[Record] = []
    for field, words, unit, absolute, relative, goal_words in (
        ("diameter_mm", "longest diameter", "mm", 1.0, 0.10, "within 1 mm or 10%"),
        ("perpendicular_mm", "perpendicular diameter", "mm", 1.0, 0.10, "within 1 mm or 10%"),
        ("volume_ml", "nodule volume", "mL", 0.0, 0.15, "within 15%"),
    ):
        pairs = [(n[field], ours[field]) for n, ours in pool if ours[field] is not None]
        if len(pairs) < 2:
            continue
        truth, ours = (np.array(column, np.float64) for column in zip(*pairs, strict=True))
        key, words = f"{at}.{field}", prefix + words
        if field == "volume_ml":  # a share of the truth, so that large ones do not drown the small
            truth, ours, unit = np.full(len(truth), 100.0), ours / truth * 100, "%"
        made += _agreement(key, words, truth, ours, unit)
        if field == "volume_ml":
            hit = within(truth, ours, absolute=15.0)
        else:
            hit = within(truth, ours, absolute=absolute, relative=relative)
        found = share(hit, np.ones(len(hit), bool), _draws(len(hit)))
        if found is not None:
            low, high = wilson(found.value, len(hit))
            made.append(
                Record(key=f"{key}.within", name=f"{words} {goal_words}", value=found.value, low=low, high=high,
                       n=len(hit), better="higher", goal=None)
            )  # fmt: skip
    return made


_SIZE_GOALS = {"diameter_mm": 1.0, "volume_ml": 15.0}


def _agreement(key: str, words: str, truth: Floats, ours: Floats, unit: str) -> list[Record]:
    found = agreement(truth, ours, _draws(len(truth)))
    if found is None:
        return []
    told = [
        Record(key=f"{key}.{part}", name=f"{words}: {name}", value=f.value, low=f.low, high=f.high, n=found.n,
               unit=unit, better="told")
        for part, name, f in (
            ("bias", "bias (ours less the truth)", found.bias),
            ("lower", "lower limit of agreement", found.lower),
            ("upper", "upper limit of agreement", found.upper),
        )
    ]  # fmt: skip
    f = found.mean_absolute
    return [
        *told,
        Record(key=f"{key}.error", name=f"{words}: mean absolute error", value=f.value, low=f.low, high=f.high,
               n=found.n, unit=unit, better="lower", goal=_SIZE_GOALS.get(key.rsplit(".", 1)[-1])),
    ]  # fmt: skip


#: Amount -> (words, goal of the mean absolute error in percent of the truth).
AMOUNTS = {
    "lung_right_ml": ("right lung", 3.0),
    "lung_left_ml": ("left lung", 3.0),
    "pleural_effusion_ml": ("pleural effusion", 10.0),
    "pneumothorax_ml": ("pneumothorax", 10.0),
    "consolidation_ml": ("consolidation", 10.0),
}


def volumes(results: Sequence[Json]) -> list[Record]:
    """Volumes in percent of the truth, of the scans that have the thing; LAA-950 in points of percent, of all."""
    made: list[Record] = []
    for key, (words, goal) in AMOUNTS.items():
        known = [r["amounts"][key] for r in results if r["amounts"][key][0] >= LEAST_ML]
        pairs = [(truth, ours or 0.0) for truth, ours in known]
        if not pairs:
            continue
        error = np.array([abs(ours - truth) / truth * 100 for truth, ours in pairs], np.float64)
        signed = np.array([(ours - truth) / truth * 100 for truth, ours in pairs], np.float64)
        at = f"phantoms.{key}"
        made.append(_mean(f"{at}.bias", f"{words}: bias", signed, unit="%", better="told"))
        made.append(_mean(f"{at}.error", f"{words}: mean absolute error", error, unit="%", goal=goal))
        made.append(
            _share(f"{at}.within", f"{words}: scans within {goal:g}%", int((error <= goal + 1e-9).sum()), len(error))
        )
    laa = [r["amounts"]["laa_percent"] for r in results if r["amounts"]["laa_percent"][1] is not None]
    if laa:
        error = np.array([abs(ours - truth) for truth, ours in laa], np.float64)
        signed = np.array([ours - truth for truth, ours in laa], np.float64)
        made.append(_mean("phantoms.laa.bias", "LAA-950: bias", signed, unit="points", better="told"))
        made.append(_mean("phantoms.laa.error", "LAA-950: mean absolute error", error, unit="points"))
    return made


def whole_findings(results: Sequence[Json]) -> list[Record]:
    """Scans with and without a disease, and whether it was said."""
    made = []
    for key in ("pleural_effusion", "pneumothorax", "consolidation", "emphysema"):
        looked = [r for r in results if key in r["assessed"]]
        there = [r for r in looked if key in r["true_findings"]]
        without = [r for r in looked if key not in r["true_findings"]]
        words = key.replace("_", " ")
        if there:
            hits = sum(key in r["findings"] for r in there)
            made.append(_share(f"phantoms.{key}.sensitivity", f"{words}: scans with it, said", hits, len(there)))
        if without:
            quiet = sum(key not in r["findings"] for r in without)
            made.append(
                _share(f"phantoms.{key}.specificity", f"{words}: scans without it, not said", quiet, len(without))
            )
    return made
