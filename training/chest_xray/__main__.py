"""Train, export, measure and describe the chest radiograph model: `python -m training.chest_xray`.

A killed run goes on where it stopped. Steps can be run alone: `train`, `package`.
"""

from __future__ import annotations

import argparse
import os

# A waiting OpenMP thread that spins makes training six times slower where other programs run; set before torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from training.chest_xray import data, pack, train
from training.chest_xray.recipe import RUNS, SHIPPED


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.chest_xray", description=__doc__)
    parser.add_argument("step", nargs="?", choices=("all", "train", "package"), default="all")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    images = data.load()
    nets = {run.name: train.run(run, images, train_more=chosen.step != "package") for run in RUNS}
    if chosen.step != "train":
        pack.make([nets[name] for name in SHIPPED], RUNS, images)


if __name__ == "__main__":
    main()
