"""The runs whose networks ship."""

from __future__ import annotations

from training.chest_xray.train import Run

RUNS = (
    Run(name="first", seed=1, stages=((5, 160), (9, 192))),
    Run(
        name="second", seed=2, stages=((5, 160), (4, 192), (6, 224)), rate=6e-4, head_rate=2e-3, no_finding=0.5,
        mix_share=0.3, place=True,
    ),
)  # fmt: skip
#: Input of the shipped model, pixels; chosen on validation patients.
SIZE = 224
