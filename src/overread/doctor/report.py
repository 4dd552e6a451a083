"""What a check says, and how a report is shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


class State(StrEnum):
    """How a part is."""

    WELL = "well"
    #: It works, and something should be done.
    ATTENTION = "attention"
    #: It does not work, or data are at risk.
    ILL = "needs care"


_COLOUR = {State.WELL: "green", State.ATTENTION: "yellow", State.ILL: "red"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line: of a part."""

    state: State
    message: str
    #: How to mend it, one sentence; "" where it is well.
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A finding and the part that it is about."""

    part: str
    finding: Finding


def well(message: str) -> Finding:
    return Finding(state=State.WELL, message=message)


def attention(message: str, remedy: str) -> Finding:
    return Finding(state=State.ATTENTION, message=message, remedy=remedy)


def ill(message: str, remedy: str) -> Finding:
    return Finding(state=State.ILL, message=message, remedy=remedy)


def exit_status(lines: list[Line]) -> int:
    """1 if a part needs care, else 0."""
    return int(any(line.finding.state is State.ILL for line in lines))


def as_json(lines: list[Line]) -> dict[str, Any]:
    """For a monitor."""
    worst = max((list(State).index(line.finding.state) for line in lines), default=0)
    return {
        "state": list(State)[worst].value,
        "checks": [
            {
                "part": line.part,
                "state": line.finding.state.value,
                "message": line.finding.message,
                "remedy": line.finding.remedy,
            }
            for line in lines
        ],
    }


def show(lines: list[Line], console: Console) -> None:
    """A table."""
    table = Table("part", "state", "", box=None, header_style="bold")
    shown = ""
    for line in lines:
        found = line.finding
        text = f"{found.message} {found.remedy}" if found.remedy else found.message
        name = "" if line.part == shown else line.part
        table.add_row(name, f"[{_COLOUR[found.state]}]{found.state}[/]", escape(" ".join(text.split())))
        shown = line.part
    console.print(table)
