"""Table E.1-1 of DICOM PS3.15 2026c: what the basic profile does with each attribute."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from importlib.resources import files


class Action(StrEnum):
    """Codes of table E.1-1a. Where several are allowed, the one that fits the attribute's type in every IOD is used."""

    #: Replaced by a value that says nothing and fits the VR.
    DUMMY = "D"
    #: Emptied.
    ZERO = "Z"
    #: Removed.
    REMOVE = "X"
    #: A UID, replaced by one that is the same wherever the old one stood.
    UID = "U"


#: An attribute of type 1 cannot be emptied and one of type 2 cannot be removed: the weakest that is allowed.
_READ = {
    "D": Action.DUMMY,
    "Z": Action.ZERO,
    "X": Action.REMOVE,
    "U": Action.UID,
    "X/Z": Action.ZERO,
    "X/D": Action.DUMMY,
    "Z/D": Action.DUMMY,
    "X/Z/D": Action.DUMMY,
    "X/Z/U": Action.UID,
}


@cache
def basic_profile() -> dict[int, Action]:
    """Action by tag, as 0xGGGGEEEE."""
    text = files(__package__).joinpath("ps3_15_table_e_1_1.tsv").read_text(encoding="ascii")
    rows = (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))
    return {int(tag, 16): _READ[action] for tag, action, _keyword in rows}
