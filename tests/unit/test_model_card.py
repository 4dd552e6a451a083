"""A card that lacks one of the required items is refused, and the sentence names it."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from tests.unit.card_text import card

from overread.domain.errors import InvalidPackage
from overread.domain.evidence import Interval
from overread.inference import card as cards

SHA = "a" * 64


def write(value: Any) -> str:
    """Enough of a TOML writer for a card: inline tables only."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {write(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(write(v) for v in value) + "]"
    if isinstance(value, str):
        return '"' + value + '"'
    return str(value)


def without(path: str) -> str:
    raw = tomllib.loads(card(SHA))
    at: Any = raw
    *parents, last = path.split(".")
    for key in parents:
        at = at[int(key)] if key.isdigit() else at[key]
    del at[last]
    return "\n".join(f"{k} = {write(v)}" for k, v in raw.items())


def test_whole_card() -> None:
    read = cards.parse(card(SHA))
    assert str(read.identity) == "toy 1.2.3" and read.sort_key == (1, 2, 3)
    assert [o.evidence.finding for o in read.outputs] == ["pneumothorax", "pleural_effusion"]
    assert read.outputs[0].evidence.auc == Interval(value=0.8, low=0.7, high=0.9)
    assert read.input.extra == (("working_rows", 32.0),) and read.input.fit == "stretch"
    assert {s.by for s in read.outputs[0].subgroups} == {"age", "sex", "view"}


@pytest.mark.parametrize(("path", "what"), cards.REQUIRED)
def test_missing_item_is_named(path: str, what: str) -> None:
    with pytest.raises(InvalidPackage, match="does not say") as caught:
        cards.parse(without(path))
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("place", "items"),
    [("training.data.0", cards.REQUIRED_OF_DATA), ("training.split", cards.REQUIRED_OF_SPLIT),
     ("output.1", cards.REQUIRED_OF_OUTPUT)],
)  # fmt: skip
def test_missing_item_of_a_part_is_named(place: str, items: tuple[tuple[str, str], ...]) -> None:
    for key, what in items:
        with pytest.raises(InvalidPackage, match="does not say") as caught:
            cards.parse(without(f"{place}.{key}"))
        assert what in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"1.2.3"', '"1.2"', "version"),
        ("threshold_raise = 0.6", "threshold_raise = 0.3", "thresholds"),
        ("auc = [0.8, 0.7, 0.9]\ncues", "auc = [0.8, 0.9, 0.9]\ncues", "interval"),
        ("pneumothorax", "left_handedness", "catalogue"),
        ("pneumothorax", "pleural_effusion", "twice"),
        ('by = "sex"', 'by = "shoe size"', "by sex"),
        ("rows = 32\ncolumns", "rows = 0\ncolumns", "input of"),
        ("channels = 1", "channels = 3", "one value a channel"),
        ('fit = "stretch"', 'fit = "guess"', "input.fit"),
        ("slope = 1.0", "slope = -1.0", "slope"),
        ('severity = "urgent"', 'severity = "grave"', "grave"),
        ("trained_on = 2026-11-24", 'trained_on = "lately"', "date"),
        ("[input]", "[input", "TOML"),
    ],
)
def test_wrong_value_is_refused(old: str, new: str, says: str) -> None:
    text = card(SHA)
    assert old in text
    with pytest.raises(InvalidPackage, match=says):
        cards.parse(text.replace(old, new))


def test_classes_need_no_clinical_code() -> None:
    text = card(SHA, findings=("chest_frontal",)).replace('name = "toy"', 'name = "toy"\nkind = "classes"')
    lines = [line for line in text.splitlines() if not line.startswith(("code", "severity", "subgroup", "  {", "]"))]
    read = cards.parse("\n".join(lines))
    assert read.outputs[0].code is None and read.outputs[0].evidence.finding == "chest_frontal"
