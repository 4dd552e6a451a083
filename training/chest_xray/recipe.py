"""The runs whose networks ship."""

from __future__ import annotations

from training.chest_xray.train import Run

RUNS = (Run(name="first", seed=1, stages=((5, 160), (6, 192), (3, 224))),)
#: Input of the shipped model, pixels; chosen on validation patients.
SIZE = 224
