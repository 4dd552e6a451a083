"""Small phantoms with fluid, free air and airless lung; each is rendered and read once a session."""

from __future__ import annotations

from functools import cache

from tests.unit.ct_bodies import chest

from overread.phantom.anatomy import Side
from overread.phantom.ct_case import CtCase, ct_case
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy, find_anatomy
from overread.pipeline.analysers.chest_ct.pleura import complete

RIGHT, LEFT = Side.RIGHT, Side.LEFT
_SIZE, _SLICE_MM = 160, 5.0


def healthy() -> CtCase:
    """Nothing in it."""
    return chest()


@cache
def wet() -> CtCase:
    """Fluid on both sides and consolidation on the right, at half the dose."""
    fluid, patch = {RIGHT: 300.0, LEFT: 150.0}, {RIGHT: 100.0}
    return ct_case(62, size=_SIZE, slice_mm=_SLICE_MM, effusion_ml=fluid, consolidation_ml=patch, dose=0.5)


@cache
def airy() -> CtCase:
    """Free air on the left, consolidation on the right."""
    return ct_case(61, size=_SIZE, slice_mm=3.0, pneumothorax_ml={LEFT: 300.0}, consolidation_ml={RIGHT: 120.0})


@cache
def before(case: CtCase) -> ChestAnatomy:
    """Without the pleura."""
    return find_anatomy(case.volume())


@cache
def anatomy(case: CtCase) -> ChestAnatomy:
    """With the pleura."""
    return complete(before(case))


def truth_ml(case: CtCase, key: str, side: Side) -> float:
    """mL of the findings of a kind on one side."""
    return sum(f.volume_ml for f in case.truth().of(key) if f.side is side)
