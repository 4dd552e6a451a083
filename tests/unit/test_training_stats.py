"""Figures of the training reports, and the split that they rest on."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from training import stats

SPLIT = Path(__file__).parents[2] / "training" / "chest_xray" / "split.csv"


def test_auc_is_the_usual_one() -> None:
    rng = np.random.default_rng(0)
    y, s, w = rng.integers(0, 2, 300), np.round(rng.random(300), 1), rng.integers(0, 4, 300).astype(float)
    assert stats.auc(y, s) == pytest.approx(roc_auc_score(y, s))
    assert stats.auc(y, s, w) == pytest.approx(roc_auc_score(y, s, sample_weight=w))
    assert np.isnan(stats.auc(np.zeros(4, dtype=int), np.arange(4.0)))


def test_interval_draws_patients_not_images() -> None:
    rng = np.random.default_rng(1)
    y = np.repeat(rng.integers(0, 2, 40), 10)
    s = np.repeat(y[::10] + rng.normal(0, 1.5, 40), 10)
    alone = stats.auc_figure(y, s, np.arange(400))
    together = stats.auc_figure(y, s, np.repeat(np.arange(40), 10))
    assert alone is not None and together is not None
    assert alone.value == together.value
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_share_of_all_has_a_width() -> None:
    hit = np.ones(20, dtype=bool)
    found = stats.share(hit, hit, np.arange(20))
    assert found is not None and found.value == 1.0 and 0.8 < found.low < 0.9 and found.high == pytest.approx(1.0)


def test_calibration_error() -> None:
    rng = np.random.default_rng(2)
    p = rng.random(20_000)
    y = (rng.random(20_000) < p).astype(int)
    assert stats.calibration_error(y, p) < 0.02
    assert stats.calibration_error(y, p**4) > 0.2


def test_split_is_the_one_that_was_committed_before_training() -> None:
    said = SPLIT.with_name("split.sha256").read_text().split()[0]
    assert hashlib.sha256(SPLIT.read_bytes()).hexdigest() == said
    with SPLIT.open() as file:
        rows = list(csv.DictReader(file))
    assert len({r["patient"] for r in rows}) == len(rows) == 2174
    assert {r["part"] for r in rows} == {"train", "validation", "test"}
