"""Radiographs of the thorax phantom. They are only tested with: the model has never seen one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from overread.phantom.anatomy import Arms, Side
from overread.phantom.findings import PleuralEffusion, Pneumothorax
from overread.phantom.presentation import Exposure, expose, present
from overread.phantom.radiograph import Geometry, View, project
from overread.phantom.thorax import make_thorax
from training.radiograph_view.classes import FRONTAL, LATERAL, Grey8, Item

#: Seeds that the product's own samples do not use.
FIRST_SEED = 90_000
ARMS = {View.PA: Arms.OUT, View.AP: Arms.DOWN, View.LATERAL: Arms.UP}


def radiograph(view: View, seed: int) -> Grey8:
    """One phantom radiograph, uint8 (256, 256); every third has a finding."""
    rng = np.random.default_rng(seed)
    finding = (PleuralEffusion(side=Side.LEFT, volume_ml=500.0), Pneumothorax(side=Side.RIGHT, volume_ml=400.0))[
        seed // 3 % 2
    ]
    thorax = make_thorax(rng, *([finding] if seed % 3 == 0 else []), arms=ARMS[view])
    field = float(rng.uniform(380, 430))
    geometry = Geometry(view=view, size=256, field_mm=field, detail_mm=field / 200, plane_mm=6.0)
    attenuation = project(thorax, geometry).attenuation
    exposure = Exposure(
        bits=8,
        marker=str(rng.choice(["L", "R", ""])),
        flatten=float(rng.uniform(0.1, 0.5)),
        contrast=float(rng.uniform(0.8, 1.2)),
        lung_grey=float(rng.uniform(0.15, 0.35)),
    )
    return present(expose(attenuation, geometry.pixel_mm, exposure, rng), geometry.pixel_mm, exposure).astype(np.uint8)


def items(view: View, count: int) -> Iterator[Item]:
    """`count` phantoms, each with an anatomy of its own."""
    for index in range(count):
        seed = FIRST_SEED + index
        yield Item(
            pixels=radiograph(view, seed),
            label=LATERAL if view is View.LATERAL else FRONTAL,
            source=f"phantom_{view.name.lower()}",
            group=str(seed),
            part="test",
            view=view.value,
        )
