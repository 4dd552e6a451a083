"""The evidence of a model card, written from a validation: what was measured here takes the place of what it said.

Everything else of the card stays: thresholds, calibration, input, training. A finding that this data set cannot judge
(no image with it, or none without) keeps its old figures and says so in `measured_on`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from overread.cli_validate.figures import Json
from overread.inference.card import SUBGROUPS, Card, parse

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
#: Digits after the point of figures in a card.
_DIGITS = 3


def card_text(card: Card, result: Json) -> str:
    """card.toml with the figures of `result` (of `figures.validation`), which `inference.card.parse` has read.

    Raises `InvalidPackage` if what comes out is no card, which would be a mistake in here.
    """
    raw = dict(card.raw)
    outputs = raw.pop("output")
    raw["output"] = [_output(dict(old), result) for old in outputs]
    data, method = result["dataset"], result["method"]
    lines = [
        f"# Figures of this card were measured by `overread validate` {result['overread']} on {data['name']}",
        f"# ({data['scored']} of {data['images']} images, labels.csv sha256 {data['labels_sha256']}), intervals 95% by",
        f"# drawing {method['drawn_by']}s again ({method['rounds']} rounds, seed {method['seed']}).",
        *_table(raw, ()),
    ]
    text = "\n".join(lines) + "\n"
    parse(text)
    return text


def _output(old: dict[str, Any], result: Json) -> dict[str, Any]:
    found = result["findings"].get(old["finding"])
    if not is_judged(found):
        before = str(old.get("measured_on", "the data that the package's author says"))
        return old | {"measured_on": f"{before}; {result['dataset']['name']} cannot judge it"}
    data = result["dataset"]
    new = old | {
        "auc": _rounded(found["auc"]),
        "sensitivity": _rounded(found["at_raise"]["sensitivity"]),
        "specificity": _rounded(found["at_raise"]["specificity"]),
        "sensitivity_show": _rounded(found["at_show"]["sensitivity"]),
        "specificity_show": _rounded(found["at_show"]["specificity"]),
        # The strongest of the cues, each by itself: a lower bound of what all together tell.
        "cues_auc": _rounded(found["cues"][0]["auc"]) if found["cues"] else [0.5, 0.0, 1.0],
        "cues_rule": f"the strongest single cue: {found['cues'][0]['cue']}" if found["cues"] else "no cue was measured",
        "calibration_error": round(found["calibration"]["ece"], _DIGITS),
        "patients": found["patients"],
        "images": found["n"],
        "positives": found["positives"],
        "measured_on": f"{data['name']} by overread validate {result['overread']}, sensitivity and specificity at "
        f"threshold_raise; 95% intervals by drawing {result['method']['drawn_by']}s again",
        "subgroup": list(_subgroups(found)),
    }
    # Of the package's own test, and said of no other data.
    for key in ("matched_pairs", "matched_pairs_auc"):
        new.pop(key, None)
    return new


def is_judged(found: Json | None) -> bool:
    """Whether a finding has all figures that a card must have."""
    return found is not None and found["auc"] is not None and found["at_raise"] is not None


def _subgroups(found: Json) -> Iterator[dict[str, Any]]:
    """One table a group; a card must speak of age, sex and view, also where the labels do not."""
    for group in found["subgroups"]:
        made = {key: group[key] for key in ("by", "group", "patients", "positives")} | {"images": group["n"]}
        if group["auc"] is not None:
            made["auc"] = _rounded(group["auc"])
            made |= {key: _rounded(group["at_raise"][key]) for key in ("sensitivity", "specificity")}
        yield made
    for by in SUBGROUPS:
        if not any(group["by"] == by for group in found["subgroups"]):
            yield {
                "by": by, "group": "all, or unknown", "patients": found["patients"], "images": found["n"],
                "positives": found["positives"],
            }  # fmt: skip


def _rounded(figure: Mapping[str, float]) -> list[float]:
    return [round(float(figure[key]), _DIGITS) for key in ("value", "low", "high")]


# --- TOML ---------------------------------------------------------------------------------------------------------


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Values first, then tables, then arrays of tables, as TOML wants them."""
    for key, value in table.items():
        if not isinstance(value, dict) and not _is_tables(value):
            yield f"{_key(key)} = {_value(value)}"
    for key, value in table.items():
        at = (*path, key)
        if isinstance(value, dict):
            yield f"\n[{'.'.join(map(_key, at))}]"
            yield from _table(value, at)
        elif _is_tables(value):
            for item in value:
                yield f"\n[[{'.'.join(map(_key, at))}]]"
                yield from _table(item, at)


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return (
            '"' + "".join(_ESCAPES.get(c, c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}") for c in value) + '"'
        )
    if isinstance(value, Sequence):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return repr(value)


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
