"""Measured numbers as a radiologist reads them: sizes beside findings, the rest in a table of sides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from overread.domain.analysis import Measurement

#: UCUM codes as people write them.
_UNITS: Final = {"1": "", "[hnsf'U]": "HU", "mm2": "mm²", "cm2": "cm²", "mm3": "mm³", "cm3": "cm³"}
_SIDES: Final = ("right", "left", "total")
_TOTALS: Final = frozenset({"total", "both", "whole"})
#: Types without their side that read badly when only spelled out.
_NAMES: Final = {
    "lung_density": "Mean density",
    "haa": "High attenuation, −600 to −250 HU",
    "perc_15": "15th percentile",
    "laa_950": "LAA-950",
}
#: Parts of a `measurement_type` that are no words.
_ABBREVIATIONS: Final = {"laa": "LAA", "hu": "HU", "ct": "CT", "haa": "HAA", "lv": "LV", "rv": "RV"}
#: Units that a type may end in, though its unit says it already ("lung_volume_ml").
_UNIT_WORDS: Final = frozenset({"mm", "ml", "percent", "hu"})


def unit(code: str) -> str:
    """A UCUM code for a person."""
    return _UNITS.get(code, code)


def number(value: float, code: str) -> str:
    """With as many digits as the measurement is worth: 0.12 mL, 6.1 mm, 2346 mL, 3.4 %."""
    return _digits(value, code).replace("-", "−")


def _digits(value: float, code: str) -> str:
    size = abs(value)
    if code in ("mm", "%"):
        return f"{value:.1f}" if size < 100 else f"{value:.0f}"
    if size >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def quantity(value: float, code: str) -> str:
    """A number with its unit."""
    return f"{number(value, code)} {unit(code)}".rstrip()


def label(measurement_type: str) -> str:
    """`lung_volume` -> "Lung volume", `laa_910` -> "LAA-910"."""
    if measurement_type in _NAMES:
        return _NAMES[measurement_type]
    words = [_ABBREVIATIONS.get(w, w) for w in measurement_type.split("_") if w]
    text = re.sub(r"\b([A-Z]{2,}) (\d+)\b", r"\1-\2", " ".join(words))
    return text[:1].upper() + text[1:]


def size_of(measurements: Sequence[Measurement], finding: UUID) -> str:
    """What was measured of a finding, in one line: "6.1 × 5.2 mm · 0.12 mL". "" if nothing was."""
    own = [m for m in measurements if m.finding_id == finding]
    across = next((m for m in own if m.unit == "mm" and re.search("perpendicular|short", m.measurement_type)), None)
    longest = next((m for m in own if m is not across and m.unit == "mm" and "diameter" in m.measurement_type), None)
    volume = next((m for m in own if m.unit == "mL"), None)
    parts: list[str] = []
    said: list[Measurement | None] = [volume]
    if longest is not None and across is not None:
        parts.append(f"{number(longest.value, 'mm')} × {number(across.value, 'mm')} mm")
        said += [longest, across]
    if volume is not None:
        parts.append(quantity(volume.value, "mL"))
    parts += [f"{label(_base(m)[0]).lower()} {quantity(m.value, m.unit)}" for m in own if m not in said]
    return " · ".join(parts)


def side_of(measurements: Sequence[Measurement], finding: UUID) -> str:
    """ "right" or "left", where its measurements say so; else ""."""
    sites = (str(m.metadata.get("site", "")).split("_") for m in measurements if m.finding_id == finding)
    return next((side for site in sites for side in ("right", "left") if side in site), "")


@dataclass(frozen=True, kw_only=True)
class FigureRow:
    """One quantity: the right side's, the left side's and the whole's where they were measured."""

    name: str
    right: Measurement | None
    left: Measurement | None
    total: Measurement | None


@dataclass(frozen=True, kw_only=True)
class FigureTable:
    """The measurements of no finding."""

    rows: tuple[FigureRow, ...]
    #: (name, how it was measured), each way once.
    methods: tuple[tuple[str, str], ...]

    @property
    def has_sides(self) -> bool:
        """Whether any quantity was measured on one side."""
        return any(row.right or row.left for row in self.rows)


def table_of(measurements: Sequence[Measurement]) -> FigureTable:
    """Those that belong to no finding, in the order of the result; sides of one quantity in one row."""
    rows: dict[tuple[str, str], dict[str, Measurement]] = {}
    methods: dict[str, list[str]] = {}
    for m in measurements:
        if m.finding_id is not None:
            continue
        base, side = _base(m)
        sides = rows.setdefault((base, m.unit), {})
        # Twice the same: a row of its own rather than a value that vanishes.
        if side in sides:
            sides = rows.setdefault((m.measurement_type + "_", str(m.id)), {})
        sides[side] = m
        named = methods.setdefault(m.method, [])
        if label(base) not in named:
            named.append(label(base))
    return FigureTable(
        rows=tuple(
            FigureRow(name=label(base.rstrip("_")), **{side: sides.get(side) for side in _SIDES})
            for (base, _), sides in rows.items()
        ),
        methods=tuple((", ".join(names), method) for method, names in methods.items()),
    )


def _base(measurement: Measurement) -> tuple[str, str]:
    """The type without its side and unit, and the side."""
    words = measurement.measurement_type.split("_")
    if len(words) > 1 and words[-1] in _UNIT_WORDS:
        words = words[:-1]
    side = next((w for w in words if w in ("right", "left")), "total")
    stripped = [w for w in words if w not in ("right", "left") and w not in _TOTALS]
    return "_".join(stripped or words), side
