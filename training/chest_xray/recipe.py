"""The runs that are trained, one after the other, and the networks that ship.

On validation patients the mean of the two networks that ship was better than either, and better than with a third one
that went on from `first` at 224 pixels; 192 pixels were better than 224 for them.
"""

from __future__ import annotations

from training.chest_xray.train import Run

RUNS = (
    Run(name="first", seed=1, stages=((5, 160), (9, 192))),
    Run(
        name="second", seed=3, stages=((4, 160), (5, 192)), rate=5e-4, head_rate=1.5e-3, average=0.995,
        per_patient=0.8, freeze_from=4, frozen_blocks=4, place=True,
    ),
    Run(
        name="second_on", seed=4, after="second", stages=((7, 192),), rate=5e-4, head_rate=1e-3, average=0.995,
        per_patient=0.9, freeze_from=99, place=True,
    ),
)  # fmt: skip
SHIPPED = ("first", "second_on")
#: Input of the shipped model, pixels; chosen on validation patients.
SIZE = 192
