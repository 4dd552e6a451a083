"""docs/reference/accuracy.md from the figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.accuracy.records import Record, Section

HEAD = """# Accuracy

Written by `make prove`; not edited by hand. Intervals are 95%. A run that finds a figure outside the interval that is
kept in [accuracy.json](accuracy.json), on the worse side, fails. Phantoms are no patients: figures on them say that a
method does what it is meant to do where the truth is known, and no more.
"""


def page(sections: Iterable[Section]) -> str:
    """One after the other, and first which goals are met."""
    kept = list(sections)
    goals = [record for section in kept for record in section.figures if record.met is not None]
    lines = [HEAD, "## Goals", "", *_goals(goals)]
    for section in kept:
        lines += ["", f"## {section.heading}", "", section.text.strip(), "", *_table(section.figures)]
    return "\n".join(lines) + "\n"


def _goals(records: Sequence[Record]) -> list[str]:
    lines = ["| goal | measured | met |", "| --- | --- | --- |"]
    for r in sorted(records, key=lambda record: bool(record.met)):
        sign = "≤" if r.better == "lower" or r.goal_is_most else "≥"
        lines.append(
            f"| {r.name} {sign} {_number(r.goal or 0.0, r.unit)} | {_figure(r)} | {'yes' if r.met else '**no**'} |"
        )
    return lines if records else ["No goal could be measured."]


def _table(records: Sequence[Record]) -> list[str]:
    if not records:
        return ["Nothing was measured."]
    lines = ["| figure | value | n |", "| --- | --- | --- |"]
    return lines + [f"| {r.name} | {_figure(r)} | {r.n} |" for r in records]


def _figure(r: Record) -> str:
    value, low, high = (_number(v, r.unit) for v in (r.value, r.low, r.high))
    return value if low == value == high else f"{value} [{low}, {high}]"


def _number(value: float, unit: str) -> str:
    digits = {"s": 1, "MB": 0, "%": 1, "points": 2, "mm": 2, "times": 2}.get(unit, 3)
    text = f"{value:.{digits}f}"
    return f"{text}{unit}" if unit == "%" else f"{text} {unit}" if unit else text
