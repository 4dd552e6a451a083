"""Figures of merit against scikit-learn and against cases worked out by hand."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from overread.cli_validate import metrics as m


def bools(*values: int) -> m.Bools:
    return np.array(values, bool)


def floats(*values: float) -> m.Floats:
    return np.array(values, np.float64)


def singles(n: int) -> m.Draws:
    return m.Draws([str(i) for i in range(n)])


def test_auc_by_hand() -> None:
    y, s = bools(0, 0, 1, 1), floats(0.1, 0.4, 0.35, 0.8)
    assert m.auc(y, s) == 0.75
    assert m.auc(y, floats(1, 1, 1, 1)) == 0.5
    # Of four pairs one is a tie: half.
    assert m.auc(y, floats(0.1, 0.4, 0.4, 0.8)) == 0.875
    assert math.isnan(m.auc(bools(1, 1), floats(0.1, 0.2)))
    assert math.isnan(m.auc(bools(), floats()))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=60).filter(
        lambda v: 0 < sum(y for y, _ in v) < len(v)
    )
)
def test_auc_and_roc_as_scikit_learn_says_also_with_ties(pairs: list[tuple[bool, int]]) -> None:
    y, s = bools(*(p[0] for p in pairs)), floats(*(p[1] / 10 for p in pairs))
    assert m.auc(y, s) == pytest.approx(sk.roc_auc_score(y, s))
    points = m.roc(y, s, most=1000)
    x, z = sk.roc_curve(y, s, drop_intermediate=False)[:2]
    assert np.array(points) == pytest.approx(np.column_stack([x, z]))


def test_each_round_is_the_auc_of_the_drawn_images() -> None:
    rng = np.random.default_rng(3)
    y, s = rng.random(40) < 0.4, rng.integers(0, 8, 40) / 8
    draws = m.Draws([f"p{i % 13}" for i in range(40)], rounds=30)
    weights = np.concatenate(list(draws.chunks(40)))
    assert (weights.sum(axis=1) == 13).all()
    for found, weight in zip(m.auc_rounds(y, s, draws), weights, strict=True):
        again = np.repeat(np.arange(40), weight[draws.group].astype(int))
        assert found == pytest.approx(sk.roc_auc_score(y[again], s[again]))


def test_intervals_do_not_depend_on_the_order_of_the_images_nor_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    y, s = rng.random(200) < 0.3, rng.random(200)
    groups = [str(i // 3) for i in range(200)]
    first = m.auc_figure(y, s, m.Draws(groups))
    order = rng.permutation(200)
    monkeypatch.setattr(m, "_CHUNK", 700)
    assert m.auc_figure(y[order], s[order], m.Draws([groups[i] for i in order])) == first


def test_images_of_one_patient_widen_the_interval() -> None:
    rng = np.random.default_rng(5)
    y, s = np.repeat(rng.random(40) < 0.5, 10), np.repeat(rng.random(40), 10)
    alone = m.auc_figure(y, s, singles(400))
    by_patient = m.auc_figure(y, s, m.Draws([str(i // 10) for i in range(400)]))
    assert alone is not None and by_patient is not None and alone.value == by_patient.value
    assert by_patient.high - by_patient.low > 2 * (alone.high - alone.low)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    truth, hit = 0.5 * (1 + math.erf(1 / 2)), 0
    for _ in range(120):
        y = np.arange(80) < 40
        found = m.auc_figure(y, rng.normal(size=80) + y, m.Draws([str(i) for i in range(80)], rounds=200))
        assert found is not None
        hit += found.low <= truth <= found.high
    assert 0.87 <= hit / 120 <= 1.0


def test_single_class_and_tiny_sets() -> None:
    assert m.auc_figure(bools(1, 1), floats(0.2, 0.3), singles(2)) is None
    assert m.auc_figure(bools(), floats(), singles(0)) is None
    assert m.share(bools(1, 0), bools(0, 0), singles(2)) is None
    assert m.delong(bools(1, 0, 0), floats(1, 0, 0), floats(0, 1, 0)) is None
    assert m.roc(bools(1, 1), floats(0.1, 0.2)) == []
    assert m.reliability(bools(), floats()) == () and math.isnan(m.expected_calibration_error(()))
    one = m.auc_figure(bools(1, 0), floats(0.9, 0.1), m.Draws(["a", "a"]))
    assert one is not None and one.value == 1.0 and one.low == pytest.approx(0.2065, abs=1e-3) and one.high == 1.0


def test_all_hit_gets_an_interval_with_width() -> None:
    found = m.share(np.ones(20, bool), np.ones(20, bool), singles(20))
    assert found is not None and found.value == found.high == 1.0
    # Wilson for 20 of 20: 20 / (20 + 1.96^2).
    assert found.low == pytest.approx(20 / (20 + 1.959964**2))


def test_share_counts_images_and_draws_patients() -> None:
    hit, of = bools(1, 1, 0, 0, 1), bools(1, 1, 1, 0, 1)
    found = m.share(hit, of, m.Draws(["a", "a", "b", "b", "c"]))
    assert found is not None and found.value == 0.75 and found.low == 0.0 and found.high == 1.0


def test_reliability_by_hand() -> None:
    p = floats(0.1, 0.2, 0.3, 0.9)
    bins = m.reliability(bools(0, 1, 0, 1), p, bins=2)
    assert [(b.n, b.confidence, b.observed.value) for b in bins] == [
        (2, pytest.approx(0.15), 0.5),
        (2, pytest.approx(0.6), 0.5),
    ]
    assert m.expected_calibration_error(bins) == pytest.approx(0.5 * 0.35 + 0.5 * 0.1)


def test_counts_at_a_threshold() -> None:
    y, p = bools(1, 1, 0, 0, 0), floats(0.5, 0.4, 0.5, 0.1, 0.2)
    at = m.at_threshold(y, p, 0.5)
    assert (at.true_positive, at.false_positive, at.false_negative, at.true_negative) == (1, 1, 1, 2)
    assert (at.sensitivity, at.specificity, at.ppv, at.npv) == (0.5, 2 / 3, 0.5, 2 / 3)
    none = m.at_threshold(y, p, 0.99)
    assert none.ppv is None and none.sensitivity == 0.0
    assert at.sensitivity == sk.recall_score(y, p >= 0.5) and at.ppv == sk.precision_score(y, p >= 0.5)


def test_froc_by_hand() -> None:
    # Four images: a hit, a false one, a box that meets two true ones, no box. Five true boxes in all.
    points = m.froc(floats(0.9, 0.8, 0.7, math.nan), np.array([1, 0, 2, 0]), 5)
    assert [(p.threshold, p.sensitivity, p.false_positives_per_image) for p in points] == [
        (0.9, 0.2, 0.0),
        (0.8, 0.2, 0.25),
        (0.7, 0.6, 0.25),
    ]
    assert m.froc(floats(), np.array([], int), 5) == () and m.froc(floats(0.5), np.array([0]), 0) == ()
    assert m.froc(floats(math.nan), np.array([0]), 1) == ()


def test_delong_against_its_definition() -> None:
    rng = np.random.default_rng(7)
    y = np.arange(60) < 25
    a, b = rng.normal(size=60) + y, rng.integers(0, 5, 60) / 5 + 0.3 * y

    def parts(s: m.Floats) -> tuple[m.Floats, m.Floats]:
        wins = (s[y][:, None] > s[~y]) + 0.5 * (s[y][:, None] == s[~y])
        return wins.mean(axis=1), wins.mean(axis=0)

    (a10, a01), (b10, b01) = parts(a), parts(b)
    variance = np.var(a10 - b10, ddof=1) / 25 + np.var(a01 - b01, ddof=1) / 35
    found = m.delong(y, a, b)
    assert found is not None
    assert found.difference == pytest.approx(sk.roc_auc_score(y, a) - sk.roc_auc_score(y, b))
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    assert found.p == pytest.approx(math.erfc(abs(found.difference) / math.sqrt(variance) / math.sqrt(2)))
    same = m.delong(y, a, a)
    assert same is not None and same.difference == 0 and same.p is None


def test_mcnemar_by_hand() -> None:
    right_a, right_b = bools(1, 1, 1, 1, 1, 0, 1), bools(0, 0, 0, 0, 0, 1, 1)
    found = m.mcnemar(right_a, right_b)
    assert (found.only_a, found.only_b) == (5, 1)
    # Two-sided exact: 2 * (C(6,0) + C(6,1)) / 2^6.
    assert found.p == pytest.approx(14 / 64)
    assert m.mcnemar(right_a, right_a).p == 1.0


def test_difference_is_paired() -> None:
    rng = np.random.default_rng(8)
    y = rng.random(150) < 0.4
    a = rng.normal(size=150) + y
    found = m.difference(y, a, a, singles(150))
    assert found == m.Figure(value=0.0, low=0.0, high=0.0)
    worse = m.difference(y, a, rng.normal(size=150), singles(150))
    assert worse is not None and worse.low > 0
    assert m.difference(bools(1, 1), floats(0, 1), floats(1, 0), singles(2)) is None


def test_a_thousand_rounds_on_7500_images_are_fast() -> None:
    rng = np.random.default_rng(9)
    y, s = rng.random(7500) < 0.1, rng.random(7500)
    began = time.perf_counter()
    assert m.auc_figure(y, s, m.Draws([str(v) for v in rng.integers(0, 1945, 7500)])) is not None
    assert time.perf_counter() - began < 20
