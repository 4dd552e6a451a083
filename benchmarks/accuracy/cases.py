"""The phantoms of the proof. Their seeds, 1000 and up, are used nowhere else: nothing was tuned on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from overread.phantom.ct_case import CtCase, ct_case
from overread.phantom.ct_noise import Kernel
from overread.phantom.nodules import Contact, Density, Nodule

FIRST_SEED, CASES = 1000, 40
#: (lowest, highest) longest diameter, mm, of the nodules of a scan; the first is smaller than what counts.
SIZES = ((4.0, 6.0), (6.0, 8.0), (6.0, 8.0), (8.0, 12.0), (12.0, 20.0), (20.0, 30.0))
#: What the nodules are, in turn. Ground glass is told apart: the goal names solid and part-solid ones.
KINDS = (
    (Density.SOLID, Contact.NONE),
    (Density.SOLID, Contact.VESSEL),
    (Density.PART_SOLID, Contact.NONE),
    (Density.SOLID, Contact.PLEURA),
    (Density.SOLID, Contact.NONE),
    (Density.PART_SOLID, Contact.VESSEL),
    (Density.SOLID, Contact.VESSEL),
)
SLICES_MM = (1.5, 2.0, 2.0, 2.5)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One phantom: arguments of `ct_case`."""

    seed: int
    arguments: dict[str, Any]

    def make(self) -> CtCase:
        """The phantom. Nodules for which there is no place are left out, the largest first (`ct_case` places these)."""
        nodules = list(self.arguments["nodules"])
        while True:
            try:
                return ct_case(self.seed, **{**self.arguments, "nodules": nodules})
            except ValueError:
                if not nodules:
                    raise
                nodules.remove(max(nodules, key=lambda n: n.diameter_mm))


def plans(count: int = CASES, *, first: int = FIRST_SEED, size: int = 512, slice_mm: float | None = None) -> list[Plan]:
    """`count` phantoms, each with nodules of all sizes; every fifth with one disease each, every fifth with none.

    Dose and kernel differ: soft and sharp kernels, half to one and a half of the dose.
    """
    made = []
    for number in range(count):
        seed = first + number
        rng = np.random.default_rng([seed, 77])
        nodules = [_nodule(rng, low, high, number + place) for place, (low, high) in enumerate(SIZES)]
        made.append(
            Plan(
                seed=seed,
                arguments={
                    "nodules": nodules,
                    "kernel": (Kernel.SOFT, Kernel.SOFT, Kernel.SHARP)[number % 3],
                    "dose": float(rng.uniform(0.5, 1.5)),
                    "size": size,
                    "slice_mm": slice_mm or SLICES_MM[number % len(SLICES_MM)],
                    **_disease(rng, number % 5),
                },
            )
        )
    return made


def quick() -> list[Plan]:
    """Two small phantoms for a test of the machinery; seeds of development."""
    return [
        replace(plan, arguments={**plan.arguments, "nodules": plan.arguments["nodules"][3:5], "dose": 2.0})
        for plan in plans(2, first=90, size=192, slice_mm=4.0)
    ]


def _nodule(rng: np.random.Generator, low: float, high: float, turn: int) -> Nodule:
    density, contact = KINDS[turn % len(KINDS)]
    return Nodule(
        diameter_mm=float(rng.uniform(low, high)),
        density=density,
        contact=contact,
        flatness=(float(rng.uniform(0.7, 1.0)), float(rng.uniform(0.7, 1.0))),
        lobulation=float(rng.choice([0.0, 0.1, 0.2])),
        shape_seed=int(rng.integers(1 << 30)),
    )


def _disease(rng: np.random.Generator, kind: int) -> dict[str, float]:
    match kind:
        case 1:
            return {"effusion_ml": float(rng.uniform(60, 500))}
        case 2:
            return {"pneumothorax_ml": float(rng.uniform(60, 500))}
        case 3:
            return {"consolidation_ml": float(rng.uniform(40, 250))}
        case 4:
            return {"emphysema_percent": float(rng.uniform(3, 25))}
        case _:
            return {}
