"""The shipped X-ray model on the patients that training held back, measured by `overread validate`."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from training.chest_xray.outputs import FINDING

from benchmarks.accuracy.records import Record
from overread.domain import catalogue
from overread.inference.card import Card, parse

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ROOT / "training" / "chest_xray"
#: The set without the cue that training found in the other (training/README.md).
FOLDER = "chest_xray_128"


def measure(data: Path | None, *, rounds: int = 1000) -> tuple[list[Record], str]:
    """Figures and how they came about: run again if `data` has the folder, else from the report of training."""
    folder = data / FOLDER if data is not None else None
    if folder is None or not folder.is_dir():
        report = json.loads((TRAINING / "report.json").read_text())
        return from_report(report), (
            f"From `training/chest_xray/report.json`: the model was not run again on {FOLDER}."
        )
    with tempfile.TemporaryDirectory() as temporary:
        names = Path(temporary) / "patients.txt"
        with (TRAINING / "split.csv").open(newline="") as opened:
            names.write_text("\n".join(row["patient"] for row in csv.DictReader(opened) if row["part"] == "test"))
        command = ["validate", folder, "--model", "chest_xray", "--patients", names, "--json", "--rounds", rounds]
        done = subprocess.run(
            [sys.executable, "-m", "overread", *map(str, command)], capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise RuntimeError(f"overread validate failed: {done.stderr.strip()}")
    result = json.loads(done.stdout)
    split = hashlib.sha256((TRAINING / "split.csv").read_bytes()).hexdigest()
    return from_validation(result), (
        f"Measured now by `overread validate`: {result['dataset']['scored']} images of "
        f"{result['dataset']['patients']} patients of {FOLDER} that training held back (split sha256 `{split[:12]}`); "
        f"{len(result['dataset']['not_assessed'])} images were refused by the view gate."
    )


def from_validation(result: dict[str, Any]) -> list[Record]:
    """Of the JSON of `overread validate`."""
    made = []
    for key, found in result["findings"].items():
        for name, figure in (
            ("auc", found["auc"]),
            ("sensitivity", found["at_raise"] and found["at_raise"]["sensitivity"]),
            ("specificity", found["at_raise"] and found["at_raise"]["specificity"]),
        ):
            if figure is not None:
                made.append(_record(key, found["name"], name, figure, found["n"]))
    return made


def from_report(report: dict[str, Any]) -> list[Record]:
    """Of the report that training wrote: the same split, the same folder."""

    shipped = {output.evidence.finding for output in _card().outputs}
    made = []
    for label in report["labels"]:
        entry = catalogue.entry(FINDING[label["label"]])
        if entry.key not in shipped:
            continue
        for name in ("auc", "sensitivity", "specificity"):
            if label["whole"][name] is not None:
                made.append(_record(entry.key, entry.name, name, label["whole"][name], label["whole"]["images"]))
    return made


def _card() -> Card:
    """Of the newest package that is shipped."""
    cards = [parse(file.read_text()) for file in (ROOT / "models" / "chest_xray").glob("*/card.toml")]
    return max(cards, key=lambda card: card.sort_key)


def _record(key: str, words: str, name: str, figure: dict[str, float], n: int) -> Record:
    spoken = {"auc": "AUC", "sensitivity": "sensitivity (raise)", "specificity": "specificity (raise)"}[name]
    return Record(
        key=f"chest_xray.{key}.{name}", name=f"{words}: {spoken}", value=figure["value"], low=figure["low"],
        high=figure["high"], n=n, better="higher",
    )  # fmt: skip
