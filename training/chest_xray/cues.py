"""What trivial cues already tell: `tools/cue_check.py` of the shared folder, run on one part of one folder."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.chest_xray.paths import DATA
from training.stats import Figure

TOOL = DATA.parent / "tools" / "cue_check.py"
_FIGURE = re.compile(r"(\d\.\d+) \[(\d\.\d+), (\d\.\d+)\]")


@dataclass(frozen=True, kw_only=True)
class Cues:
    """AUCs as `cue_check.py` prints them (its intervals draw images, not patients)."""

    cues: Figure
    score: Figure
    #: On pairs that the cues cannot tell apart; None if there are too few.
    matched: Figure | None
    pairs: int


def check(folder: str, table: pd.DataFrame, label: str, scores: NDArray[np.float32]) -> Cues:
    """For `label`, a 0/1 column of `table` (rows of one folder), against the rest of the rows."""
    with tempfile.TemporaryDirectory() as made:
        here = Path(made)
        (here / "images").symlink_to(DATA / folder / "images")
        rows = table.assign(findings=table[label].map({1: label, 0: ""}))
        rows[["image", "findings", "patient"]].to_csv(here / "labels.csv", index=False)
        pd.DataFrame({"image": table["image"], "score": scores}).to_csv(here / "scores.csv", index=False)
        command = [sys.executable, "-W", "ignore", str(TOOL), str(here), label, str(here / "scores.csv")]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = dict(line.split(maxsplit=1) for line in said.splitlines())
    matched = lines.get("matched", "")
    pairs = re.search(r"on (\d+) pairs|only (\d+) pairs", said)
    return Cues(
        cues=_figure(lines["cues"]),
        score=_figure(lines["score"]),
        matched=_figure(matched) if _FIGURE.search(matched) else None,
        pairs=int(next(g for g in pairs.groups() if g)) if pairs else 0,
    )


def _figure(text: str) -> Figure:
    found = _FIGURE.search(text)
    if found is None:
        raise ValueError(f"no figure in {text!r}")
    value, low, high = (float(g) for g in found.groups())
    return Figure(value=value, low=low, high=high)
