"""From trained networks to the package in models/, and its report."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from overread.domain.evidence import InputSpec
from overread.pipeline.preprocess import prepare
from training.chest_xray import card, data, evaluate, labels, report
from training.chest_xray.export import write_onnx
from training.chest_xray.network import EvidenceNet
from training.chest_xray.outputs import FINDING
from training.chest_xray.paths import ROOT, RUNS
from training.chest_xray.recipe import SHIPPED, SIZE
from training.chest_xray.score import Session, score
from training.chest_xray.train import Run

#: How many images without finding tell what a map usually looks like.
USUAL_OF = 400


def make(nets: Sequence[EvidenceNet], runs: Sequence[Run], images: data.Images) -> None:
    """Write models/chest_xray/1.0.0 and the report."""
    spec = data.input_spec(SIZE)
    everything = RUNS / "all_labels.onnx"
    table, boxed = images.table, set(labels.boxes()["image"])
    write_onnx(nets, range(len(labels.TARGETS)), SIZE, everything)
    usual = usual_maps(everything, spec, images)
    write_onnx(nets, range(len(labels.TARGETS)), SIZE, everything, usual=usual)
    measured = []
    part = table["part"]
    validation = score(everything, spec, table[part == "validation"], keep_maps=boxed)
    others = score(everything, spec, table[(part == "train") & table["image"].isin(boxed)], keep_maps=boxed)
    test = score(everything, spec, table[part == "test"], keep_maps=boxed)
    for label in FINDING:
        point = evaluate.choose(validation, label)
        measured.append(evaluate.measure(test, label, point))
        print(label, measured[-1].point.why_not or "output", measured[-1].whole.auc, measured[-1].cues, flush=True)
    chosen_on = evaluate.joined(validation, others)
    level = evaluate.best_level(chosen_on)
    folder = ROOT / "models" / card.NAME / card.VERSION
    outputs = [m for m in measured if m.point.is_output]
    write_onnx(nets, [labels.TARGETS.index(m.label) for m in outputs], SIZE, folder / "model.onnx", usual=usual)
    model = (folder / "model.onnx").read_bytes()
    method = describe(runs)
    card.write(
        folder, spec=spec, measured=outputs,
        left_out=[(m.label, m.point.why_not) for m in measured if not m.point.is_output],
        table=table, method=method, trained_on=dt.datetime.now(dt.UTC).date(),
    )  # fmt: skip
    report.write(
        measured=measured, in_512=evaluate.pneumonia_in_512(test), boxes=evaluate.boxes(test, level),
        boxes_before=evaluate.boxes(chosen_on, level), table=table, method=method,
        sha256=hashlib.sha256(model).hexdigest(), size=len(model),
    )  # fmt: skip


def usual_maps(model: Path, spec: InputSpec, images: data.Images) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (F, h, w) of the raw maps of training images without finding."""
    table = images.table
    none = table[(table["part"] == "train") & (table["No Finding"] == 1)].sample(USUAL_OF, random_state=0)
    session = Session(model)
    maps = np.stack(
        [session.run(prepare(data.read_grey(f, i), spec).tensor)[1]
         for f, i in zip(none["folder"], none["image"], strict=True)]
    )  # fmt: skip
    both = np.concatenate([maps, maps[..., ::-1]])
    return torch.from_numpy(both.mean(0)), torch.from_numpy(np.maximum(both.std(0), 1e-3))


def describe(runs: Sequence[Run]) -> str:
    """How the model was made, in a paragraph."""
    epochs = ", ".join(
        f"{run.name} (seed {run.seed}{', from ' + run.after if run.after else ''}): "
        + " + ".join(f"{n} epochs at {size} px" for n, size in run.stages)
        for run in runs
    )
    several = f"mean of {len(SHIPPED)} networks ({', '.join(SHIPPED)}) and " if len(SHIPPED) > 1 else ""
    return (
        "EfficientNet-lite0 with a map of evidence for each label (1 x 1 convolutions at stride 32 and 16, "
        f"softmax-weighted pooling); {several}mean over the image and its mirror image. {epochs}. AdamW, cosine rate, "
        "bfloat16, exponential average of weights, mixup, heavy augmentation. The odds of each label in each folder "
        "are added to the logits in the loss (so the folder is no cue), and images of chest_xray are weighted so that "
        "view, age, sex, follow-up number, spacing and brightness do not tell its label. Every image is brought to "
        "128 x 128 first."
    )
