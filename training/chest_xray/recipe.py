"""The runs whose networks ship."""

from __future__ import annotations

from training.chest_xray.train import Run

RUNS = (
    Run(name="first", seed=1, stages=((5, 160), (9, 192))),
    Run(
        name="second", seed=2, after="first", stages=((5, 224),), rate=3e-4, head_rate=1e-3, decay=0.05,
        average=0.99, per_patient=0.8, freeze_from=0, frozen_blocks=5, place=True,
    ),
)  # fmt: skip
#: Input of the shipped model, pixels; chosen on validation patients.
SIZE = 224
