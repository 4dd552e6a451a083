"""Figures with intervals, goals and the rule that a new run must not fall below an old one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

FORMAT = "overread-accuracy/1"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One figure."""

    #: Unique: "phantoms.nodules.sensitivity".
    key: str
    #: What it is, for the page.
    name: str
    value: float
    low: float
    high: float
    #: Of how many.
    n: int
    unit: str = ""
    #: "told": neither way is better, or it depends on the machine; it is not compared.
    better: Literal["higher", "lower", "told"]
    #: What was asked for: `value` must reach it (stay at or below it where less is better).
    goal: float | None = None
    #: Whether `goal` is an upper end, for figures that are told only.
    goal_is_most: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        most = self.better == "lower" or self.goal_is_most
        return self.value <= self.goal if most else self.value >= self.goal


def dropped(new: Iterable[Record], stored: Iterable[Record]) -> list[str]:
    """One sentence for each figure that is worse than the interval of the stored one, or is missing now."""
    now = {record.key: record for record in new}
    found = []
    for old in stored:
        key = old.key
        if old.better == "told":
            continue
        if key not in now:
            found.append(f"{key}: was {old.value:.4g}, is not measured any more")
        elif old.better == "higher" and now[key].value < old.low:
            found.append(f"{key}: {now[key].value:.4g} is below the interval {old.low:.4g} to {old.high:.4g}")
        elif old.better == "lower" and now[key].value > old.high:
            found.append(f"{key}: {now[key].value:.4g} is above the interval {old.low:.4g} to {old.high:.4g}")
    return found


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the proof."""

    heading: str
    #: How the figures came about.
    text: str
    figures: tuple[Record, ...]


def save(file: Path, sections: Mapping[str, Section]) -> None:
    """As JSON, by part."""
    raw = {"format": FORMAT, "parts": {part: asdict(section) for part, section in sections.items()}}
    file.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")


def load(file: Path) -> dict[str, Section]:
    """What earlier runs found, by part; nothing where there was none. Raises ValueError for another format."""
    if not file.exists():
        return {}
    raw = json.loads(file.read_text(encoding="utf-8"))
    if raw["format"] != FORMAT:
        raise ValueError(f"{file} has the format {raw['format']!r}, not {FORMAT!r}")
    return {
        part: Section(
            heading=found["heading"],
            text=found["text"],
            figures=tuple(Record(**figure) for figure in found["figures"]),
        )
        for part, found in raw["parts"].items()
    }
