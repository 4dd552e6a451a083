"""report.md for people, report.json for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from training.chest_xray import card, cues
from training.chest_xray.evaluate import BOX_IOU, MAIN, Boxes, Group, Measured
from training.chest_xray.outputs import AIMS, FINDING
from training.chest_xray.paths import CONFOUNDED, REPORT, REPORT_JSON, SPLIT_SHA256
from training.stats import Figure

#: What must be known of how the test part was treated.
SEEN = (
    "Test figures were also seen twice before the final networks (of an unfinished and of the first network). After "
    "that the lower end that a validation AUC must pass was set from 0.60 to 0.50, which made pneumothorax an output, "
    "and the rule that takes outputs back was added; runs, networks and size were chosen on validation patients only."
)


def write(
    *, measured: Sequence[Measured], in_512: cues.Cues, boxes: Boxes, boxes_before: Boxes, table: pd.DataFrame,
    method: str, sha256: str, size: int,
) -> None:  # fmt: skip
    """Both files. `boxes_before`: on the patients that the box level was chosen on."""
    parts = table.groupby(["folder", "part"]).agg(images=("image", "size"), patients=("patient", "nunique"))
    data: dict[str, Any] = {
        "model": {"name": card.NAME, "version": card.VERSION, "sha256": sha256, "bytes": size},
        "method": method,
        "split_sha256": SPLIT_SHA256.read_text().split()[0],
        "parts": [{"folder": f, "part": p, **row} for (f, p), row in parts.to_dict("index").items()],
        "labels": [asdict(m) | {"finding": FINDING[m.label]} for m in measured],
        "pneumonia_in_chest_xray": asdict(in_512),
        "boxes": {"test": asdict(boxes), "chosen_on": asdict(boxes_before)},
    }
    REPORT_JSON.write_text(json.dumps(data, indent=1) + "\n")
    REPORT.write_text("\n".join(_text(measured, in_512, boxes, boxes_before, parts, method, sha256)) + "\n")


def _text(
    measured: Sequence[Measured], in_512: cues.Cues, boxes: Boxes, before: Boxes, parts: pd.DataFrame, method: str,
    sha256: str,
) -> list[str]:  # fmt: skip
    return [
        f"# {card.NAME} {card.VERSION}: what it was measured to do",
        "",
        f"Written by `python -m training.chest_xray`. model.onnx sha256 `{sha256}`.",
        "",
        f"**{card.STATEMENT}**",
        "",
        method,
        "",
        "Figures are AUC, or sensitivity and specificity at the threshold to raise urgency, on test patients of "
        f"`{MAIN}`, with 95% intervals (1,000 rounds, drawing patients). Thresholds, calibration and the choice of "
        f"outputs come from validation patients. {card.rule_of_outputs()} Every label is reported, output or not.",
        "",
        SEEN,
        "",
        *_table(["folder", "part", "images", "patients"],
                [[f, p, r["images"], r["patients"]] for (f, p), r in parts.to_dict("index").items()]),
        "",
        "## AUC, and what cues tell",
        "",
        "Columns 5 to 7 are what `cue_check.py` says on the same images: cues alone, and the score on pairs that cues "
        "cannot tell apart.",
        "",
        *_table(
            ["label", "finding", "positive", "AUC", "cues alone", "matched pairs", "pairs", "aim", "output?"],
            [[m.label, FINDING[m.label], m.whole.positives, _say(m.whole.auc), str(m.cues.cues), _say(m.cues.matched),
              m.cues.pairs, AIMS[m.label][0] if m.label in AIMS else "", m.point.why_not or "yes"] for m in measured],
        ),
        "",
        f"`{CONFOUNDED}`, label Pneumonia by the output pneumonia / lung opacity ({CONFOUNDED} is confounded: its "
        "plain AUC proves nothing):",
        "",
        *_table(["cues alone", "AUC", "matched pairs", "pairs", "aim on pairs"],
                [[str(in_512.cues), str(in_512.score), _say(in_512.matched), in_512.pairs, 0.80]]),
        "",
        "## At the thresholds",
        "",
        *_table(
            ["finding", "to show", "sensitivity", "specificity", "to raise", "sensitivity", "specificity",
             "calibration error"],
            [[FINDING[m.label], m.point.show, _say(m.whole.sensitivity_show), _say(m.whole.specificity_show),
              m.point.up, _say(m.whole.sensitivity), _say(m.whole.specificity), f"{m.calibration_error:.3f}"]
             for m in measured if m.point.is_output],
        ),
        "",
        "## Groups (AUC; number of positive images of all)",
        "",
        *_groups([m for m in measured if m.point.is_output]),
        "",
        "## Boxes",
        "",
        f"A box hits if its intersection over union with a radiologist's box of the finding is at least {BOX_IOU}. No "
        "box is larger than 40% of the image. The level of the outline was chosen on training and validation "
        "patients, whose boxes were not trained on.",
        "",
        *_table(["patients", "findings with a box", "level", "hit rate", "mean IoU", "largest box"],
                [[b, x.images, x.level, _say(x.hit_rate), f"{x.mean_iou:.2f}", f"{x.largest:.0%}"]
                 for b, x in (("test", boxes), ("training and validation", before))]),
    ]  # fmt: skip


def _groups(measured: Sequence[Measured]) -> list[str]:
    if not measured:
        return []
    heads = [f"{g.by} {g.group}" for g in measured[0].groups]
    return _table(["finding", *heads], [[FINDING[m.label], *map(_group, m.groups)] for m in measured])


def _group(group: Group) -> str:
    return f"{_say(group.auc)} ({group.positives} of {group.images})"


def _say(figure: Figure | None) -> str:
    return str(figure) if figure else "too few"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in row) + " |" for row in lines]
