"""Where things lie. `OVERREAD_DATA` names the folder that holds the NIH folders."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DATA = Path(os.environ.get("OVERREAD_DATA", ROOT.parent / "shared" / "data"))
#: The two NIH folders: name, and whether its positives and negatives were sampled apart (see the data's README).
FOLDERS = ("chest_xray", "chest_xray_128")
CONFOUNDED = "chest_xray"

SPLIT = HERE / "split.csv"
SPLIT_SHA256 = HERE / "split.sha256"
#: Git-ignored: decoded images and checkpoints.
CACHE = HERE / "cache"
RUNS = HERE / "runs"
REPORT = HERE / "report.md"
REPORT_JSON = HERE / "report.json"
