"""`python -m training.radiograph_view`: from the data to models/radiograph_view/1.0.0 and report.md.

Seen beside other work on two cores: 16 minutes of training on one thread, 8 for the rest. `--steps` shortens it for
a trial; then nothing is written but to `--out`.
"""

from __future__ import annotations

import argparse
import datetime as dt
import time
from pathlib import Path

import torch

from training.chest_xray.paths import ROOT
from training.radiograph_view import card, phantoms, sources
from training.radiograph_view.card import NAME, VERSION
from training.radiograph_view.export import write_onnx
from training.radiograph_view.network import ViewNet
from training.radiograph_view.phantoms import View
from training.radiograph_view.report import OnnxModel, markdown, measure
from training.radiograph_view.train import fit

STEPS = 700


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None, help="folder for model, card and report of a trial")
    parser.add_argument(
        "--measure-only", action="store_true", help="take the weights of the last training (runs/last.pt)"
    )
    options = parser.parse_args()
    package = options.out or ROOT / "models" / NAME / VERSION
    report = (options.out or Path(__file__).parent) / "report.md"
    if options.steps != STEPS and options.out is None:
        parser.error("a trial with other --steps needs --out")
    begun = time.monotonic()
    items = sources.load_all()
    print(f"{len(items)} images in {time.monotonic() - begun:.0f} s", flush=True)
    last = Path(__file__).parent / "runs" / "last.pt"
    if options.measure_only:
        net = ViewNet()
        net.load_state_dict(torch.load(last, weights_only=True))
    else:
        net = fit([i for i in items if i.part == "train"], options.steps, options.threads)
        last.parent.mkdir(exist_ok=True)
        torch.save(net.state_dict(), last)
    print(f"trained after {(time.monotonic() - begun) / 60:.1f} minutes", flush=True)
    write_onnx(net, package / "model.onnx")
    model = OnnxModel(package / "model.onnx")
    tested = [item for view in View for item in phantoms.items(view, 20)]
    figures = measure(model, package / "model.onnx", items, tested)
    card.write(package, figures, items, dt.datetime.now(dt.UTC).date())
    report.write_text(markdown(figures))
    print(f"{package} and {report} after {(time.monotonic() - begun) / 60:.1f} minutes")


main()
