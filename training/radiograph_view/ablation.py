"""`python -m training.radiograph_view.ablation`: what passes of sources that training never saw, to ablation.md.

The report's negatives come from the same sources as the trained ones. So that nobody takes its rates for those of an
unknown kind of image, a second network is trained without whole kinds, and every image of them is then tested: no
ultrasound, no brain MRI, no photograph, no screen, no lateral or oblique, no section of a chest CT.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from training.radiograph_view import evaluate, phantoms, sources
from training.radiograph_view.classes import FRONTAL
from training.radiograph_view.export import write_onnx
from training.radiograph_view.phantoms import View
from training.radiograph_view.report import ONE_CT, REAL_FRONTAL, OnnxModel
from training.radiograph_view.train import fit

STEPS = 250
LEFT_OUT = (
    "brain_mri",
    "breast_ultrasound",
    "fetal_ultrasound",
    "photographs",
    "faces",
    "screens",
    "ellipses",
    "nih_real_lateral",
)


def main() -> None:
    begun = time.monotonic()
    items = sources.load_all()
    out = [i for i in items if i.source in LEFT_OUT or i.source.startswith(ONE_CT)]
    left = {id(i) for i in out}
    net = fit([i for i in items if i.part == "train" and id(i) not in left], STEPS)
    path = Path(__file__).parent / "runs" / "ablation.onnx"
    write_onnx(net, path)
    model = OnnxModel(path)
    frontal = [i for i in items if i.part == "val" and i.source in REAL_FRONTAL]
    p = [model.predict([i.pixels for i in frontal]), model.predict(evaluate.degraded(frontal, 21))]
    threshold = evaluate.choose_threshold(np.concatenate([q[:, FRONTAL] for q in p]))
    tested = [*out, *phantoms.items(View.LATERAL, 20)]
    test = [i for i in items if i.part == "test" and i.source in REAL_FRONTAL]
    lines = [
        "# Radiograph view: kinds of image that training never saw",
        "",
        f"`{__package__}.ablation`: a network trained {STEPS} steps without any of these sources; its threshold is",
        f"{threshold:.3f}, by the same rule. Real frontals of the test part: {_pass(model, test, threshold)}.",
        "",
        "| source never seen | images | groups | taken for a frontal chest radiograph |",
        "| --- | --- | --- | --- |",
    ]
    for source in dict.fromkeys(i.source for i in tested if i.label != FRONTAL):
        chosen = [i for i in tested if i.source == source]
        rate = _pass(model, chosen, threshold)
        lines.append(f"| {source} | {rate.images} | {rate.groups} | {rate} |")
    Path(__file__).with_name("ablation.md").write_text("\n".join(lines) + "\n")
    print(f"ablation.md after {(time.monotonic() - begun) / 60:.1f} minutes, {torch.get_num_threads()} thread")


def _pass(model: OnnxModel, items: list[sources.Item], threshold: float) -> evaluate.Rate:
    p = model.predict([i.pixels for i in items])
    return evaluate.rate(p[:, FRONTAL] >= threshold, [i.group for i in items])


if __name__ == "__main__":
    main()
