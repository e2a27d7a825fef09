"""Reliability: bins of equal size as scikit-learn has them, whatever the order of rows."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.calibration import calibration_curve

from core.evaluation.curves import reliability
from tests.core.evaluation.scored import ROWS, Scored, as_rows, draw


def test_the_points_are_scikit_learns_quantile_bins() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(1000)
    y = rng.random(1000) < p**1.5
    share, mean = calibration_curve(y, p, n_bins=10, strategy="quantile")
    found = reliability(y, p)
    assert [q.mean_probability for q in found.points] == pytest.approx(mean, abs=1e-9)
    assert [q.positive.value for q in found.points] == pytest.approx(share, abs=1e-9)
    assert found.expected_calibration_error == pytest.approx(np.abs(share - mean).mean(), abs=1e-9)


def test_each_points_interval_is_wilsons() -> None:
    sample = draw(300, seed=2)
    for point in reliability(sample.positive, sample.probability).points:
        assert point.positive.value is not None
        hits = round(point.positive.value * point.rows)
        wanted = stats.binomtest(hits, point.rows).proportion_ci(method="wilson")
        assert (point.positive.low, point.positive.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


@given(ROWS, st.integers(1, 12), st.randoms())
def test_every_scored_row_is_in_one_bin_whatever_the_order(scored: Scored, bins: int, random: object) -> None:
    c = as_rows(scored)
    found = reliability(c.positive, c.probability, bins)
    assert sum(p.rows for p in found.points) == found.rows == sum(q is not None for _, q in scored)
    assert len(found.points) <= bins
    for low, high in zip(found.points[:-1], found.points[1:], strict=True):
        assert low.highest < high.lowest
    shuffled = list(scored)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    d = as_rows(shuffled)
    again = reliability(d.positive, d.probability, bins)
    assert [p.positive for p in again.points] == [p.positive for p in found.points]
    json.dumps(dataclasses.asdict(found), allow_nan=False)


def test_without_rows_there_is_no_error() -> None:
    found = reliability(np.zeros(0, dtype=np.bool_), np.zeros(0))
    assert (found.points, found.expected_calibration_error, found.rows) == ((), None, 0)


def test_overconfidence_shows() -> None:
    p = np.array([0.9] * 10 + [0.1] * 10)
    y = np.array([True] * 6 + [False] * 4 + [True] * 4 + [False] * 6)
    assert reliability(y, p).expected_calibration_error == pytest.approx(0.3)
