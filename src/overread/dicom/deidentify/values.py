"""Single values: what they must look like to stay, and what takes their place (PS3.5 table 6.2-1)."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Any, Final

#: What stands for a text that was there.
REMOVED: Final = "REMOVED"
NUMBERS: Final = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"})
BINARY: Final = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN"})
DATES: Final = frozenset({"DA", "TM", "DT"})
TEXTS: Final = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "PN", "AE", "UR"})

_LOOKS = {
    "DS": re.compile(r" *[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)? *"),
    "IS": re.compile(r" *[+-]?\d{1,10} *"),
    "CS": re.compile(r"[A-Z0-9_ ]{0,16}"),
    "AS": re.compile(r"\d{3}[DWMY]"),
    "TM": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)? *"),
    "DA": re.compile(r"\d{8}"),
    "DT": re.compile(r"\d{4,14}(\.\d{1,6})?([+-]\d{4})? *"),
}
_DUMMY: dict[str, Any] = {
    "DA": "19000101",
    "TM": "000000",
    "DT": "19000101000000",
    "AS": "000Y",
    "DS": "0",
    "IS": "0",
    "CS": "REMOVED",
    "PN": "REMOVED",
    "UR": "urn:removed",
    "AT": 0,
}


def fits(vr: str, text: str) -> bool:
    """Whether `text` is a value of `vr` (DS, IS, CS, AS, DA, TM, DT) and nothing else."""
    return _LOOKS[vr].fullmatch(text) is not None


def dummy(vr: str) -> Any:
    """A value that says nothing, for an attribute that must have one."""
    if vr in NUMBERS:
        return 0
    if vr in BINARY:
        return b"\x00\x00"
    return _DUMMY.get(vr, REMOVED)


def shifted(vr: str, text: str, by: timedelta) -> str | None:
    """A DA or DT moved by whole days, its offset from UTC dropped; None if it is no date. A TM stays."""
    if not fits(vr, text):
        return None
    if vr == "TM":
        return text.strip()
    if vr == "DT":
        text = re.split(r"[+-]", text)[0].strip()
        # A year or month alone: its first day moves.
        head, tail = (text + "0101"[max(len(text) - 4, 0) :])[:8] if len(text) < 8 else text[:8], text[8:]
    else:
        head, tail = text, ""
    try:
        moved = date(int(head[:4]), int(head[4:6]), int(head[6:8])) + by
    except (ValueError, OverflowError):
        return None
    return f"{moved:%Y%m%d}".rjust(8, "0") + tail


def capped_age(text: str) -> str:
    """An age of 90 years and more is 90 years: so few are older that the age would name them."""
    return "090Y" if text.endswith("Y") and int(text[:3]) >= 90 else text
