"""Outlines and measurements against cases worked out by hand, and against the slow definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from overread.cli_validate import agreement as agree
from overread.cli_validate import overlap as o
from overread.cli_validate.metrics import Draws


def square(low: int, high: int, side: int = 12) -> o.Mask:
    mask = np.zeros((side, side), bool)
    mask[low:high, low:high] = True
    return mask


def test_dice_by_hand() -> None:
    # 16 and 16 pixels, of which 9 are common.
    assert o.dice(square(2, 6), square(3, 7)) == pytest.approx(2 * 9 / 32)
    assert o.dice(square(2, 6), square(2, 6)) == 1.0
    assert o.dice(square(2, 6), square(0, 0)) == 0.0
    assert math.isnan(o.dice(square(0, 0), square(0, 0)))


def test_hd95_of_a_moved_square_is_how_far_it_moved() -> None:
    a = np.zeros((40, 60), bool)
    a[10:30, 10:30] = True
    b = np.roll(a, 7, axis=1)
    assert o.hd95(a, b) == 7.0
    assert o.hd95(a, b, (1.0, 0.5)) == 3.5
    assert o.hd95(a, a) == 0.0
    assert math.isnan(o.hd95(a, np.zeros_like(a)))


def test_hd95_leaves_out_a_speck_far_away() -> None:
    a = np.zeros((200, 200), bool)
    a[50:150, 50:150] = True
    b = a.copy()
    b[0, 0] = True
    # One border pixel of 397 is 70 pixels away: beyond the 95th percentile.
    assert o.hd95(a, b) == 0.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(9, 11), (5, 6, 7)]))
def test_hd95_as_all_pairs_of_border_voxels_say(seed: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random(shape) < 0.3, rng.random(shape) < 0.4
    spacing = tuple(rng.uniform(0.5, 2.0, len(shape)))
    if not a.any() or not b.any():
        return
    places = []
    for mask in (a, b):
        padded = np.pad(mask, 1)
        inside = padded.copy()
        for axis in range(mask.ndim):
            inside &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
        border = (padded & ~inside)[(slice(1, -1),) * mask.ndim]
        places.append(np.argwhere(border) * spacing)
    far = cdist(*places)
    expected = max(np.percentile(far.min(axis=1), 95), np.percentile(far.min(axis=0), 95))
    assert o.hd95(a, b, spacing) == pytest.approx(expected)
    assert o.hd95(b, a, spacing) == pytest.approx(expected)


def test_compare_says_what_is_unknown() -> None:
    found = o.compare(square(2, 6), square(0, 0), (1.0, 1.0))
    assert (found.dice, found.hd95_px, found.hd95_mm, found.truth, found.ours) == (0.0, None, None, 16, 0)
    known = o.compare(square(2, 6), square(3, 7), (2.0, 2.0))
    assert known.hd95_px is not None and known.hd95_mm == pytest.approx(2 * known.hd95_px)
    assert o.compare(square(2, 6), square(3, 7)).hd95_mm is None
    with pytest.raises(ValueError, match="the true outline is of"):
        o.compare(square(2, 6), square(2, 6, 9))


def singles(n: int) -> Draws:
    return Draws([str(i) for i in range(n)], rounds=400)


def test_agreement_by_hand() -> None:
    truth = np.array([10.0, 20.0, 30.0, 40.0])
    found = agree.agreement(truth, truth + np.array([1.0, 2.0, 3.0, 2.0]), singles(4))
    assert found is not None and found.n == 4
    deviation = math.sqrt(2 / 3)
    assert found.bias.value == pytest.approx(2.0) and found.deviation == pytest.approx(deviation)
    assert found.upper.value == pytest.approx(2 + 1.95996 * deviation, abs=1e-4)
    # t(0.975, 3) = 3.1824
    assert found.bias.high - found.bias.value == pytest.approx(3.1824 * deviation / 2, abs=1e-3)
    half = 3.1824 * deviation * math.sqrt(1 / 4 + 1.95996**2 / 6)
    assert found.lower.value - found.lower.low == pytest.approx(half, abs=1e-3)
    assert found.mean_absolute.value == pytest.approx(2.0)
    assert agree.agreement(truth[:1], truth[:1], singles(1)) is None


def test_limits_hold_95_percent_of_the_differences_and_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(150):
        truth = rng.uniform(50, 300, 60)
        found = agree.agreement(truth, truth + rng.normal(1.5, 2.0, 60), Draws([str(i) for i in range(60)], rounds=50))
        assert found is not None
        held += found.upper.low <= 1.5 + 1.95996 * 2.0 <= found.upper.high
    assert 0.88 <= held / 150 <= 1.0


def test_several_images_a_patient_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    truth = np.full(200, 100.0)
    ours = truth + np.repeat(rng.normal(0, 2, 20), 10)
    alone = agree.agreement(truth, ours, singles(200))
    by_patient = agree.agreement(truth, ours, Draws([str(i // 10) for i in range(200)], rounds=400))
    assert alone is not None and by_patient is not None
    assert by_patient.bias.high - by_patient.bias.low > 2 * (alone.bias.high - alone.bias.low)
    assert by_patient.lower.low < by_patient.lower.value < by_patient.lower.high


def test_within_takes_the_wider_of_both() -> None:
    truth, ours = np.array([5.0, 5.0, 30.0, 30.0]), np.array([6.0, 6.2, 33.0, 33.1])
    assert agree.within(truth, ours, absolute=1.0, relative=0.1).tolist() == [True, False, True, False]


def test_a_mean_with_its_interval() -> None:
    found = agree.mean_figure(np.array([0.5, 0.7, 0.9]), singles(3))
    assert found is not None and found.value == pytest.approx(0.7) and found.low < 0.7 < found.high
    assert agree.mean_figure(np.empty(0), singles(0)) is None
