"""The same on phantoms, which look more like patients than a few ellipses do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from tests.unit.quality_images import quality, volume
from tests.unit.test_quality_images import CHEST_WAYS, WAVER, WAYS
from tests.unit.test_quality_volume import WAYS as VOLUME_WAYS

from overread.domain.analysis import QualityLevel
from overread.domain.image import FloatImage
from overread.phantom.ct import CtGeometry, scan
from overread.phantom.study import demo_studies
from overread.phantom.thorax import make_thorax
from overread.pipeline.quality import assess_volume


@pytest.fixture(scope="module")
def film() -> FloatImage:
    image = demo_studies(5, size=320)[0].render()
    shown = image.pixels.astype(np.float32) / (2**image.bits - 1)
    return 1 - shown if image.inverted else shown


@pytest.fixture(scope="module")
def hu() -> np.ndarray:
    rng = np.random.default_rng(3)
    geometry = CtGeometry(size=96, field_mm=420.0, slices=48, slice_mm=8.0, bottom_mm=-150.0)
    return np.stack([one.hu for one in scan(make_thorax(rng), geometry, rng)])


def test_a_phantom_radiograph_is_good(film: FloatImage) -> None:
    assert [check.description for check in quality(film, "chest").issues] == []


@pytest.mark.parametrize("way", [*WAYS, *CHEST_WAYS])
def test_a_phantom_radiograph_only_gets_worse(film: FloatImage, way: str) -> None:
    spoil, most, expected = (WAYS | CHEST_WAYS)[way]
    found = [quality(spoil(film, most * share), "chest") for share in (0, 0.25, 0.5, 0.75, 1)]
    scores = [one.score for one in found]
    assert all(later <= earlier + WAVER for earlier, later in pairwise(scores)), scores
    assert found[-1].level is not QualityLevel.ADEQUATE
    assert {check.type for check in found[-1].issues} & expected


def test_a_phantom_ct_is_good(hu: np.ndarray) -> None:
    found = assess_volume(volume(hu, (8.0, 4.375, 4.375)))
    assert found.level is QualityLevel.ADEQUATE, [check.description for check in found.issues]


@pytest.mark.parametrize("way", ["noise", "motion", "lungs cut"])
def test_a_phantom_ct_only_gets_worse(hu: np.ndarray, way: str) -> None:
    spoil, amounts, _ = VOLUME_WAYS[way]
    scores = [assess_volume(volume(spoil(hu, amount), (8.0, 4.375, 4.375))).score for amount in amounts]
    assert all(later <= earlier + WAVER for earlier, later in pairwise(scores)), scores
    assert scores[-1] < 0.5
