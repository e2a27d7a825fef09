"""Curves and reliability: thinned curves with both ends, and bins of equal size, equal scikit-learn's."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from core.evaluation.curves import MOST_POINTS, ByCoverage, draw_curves, reliability
from core.evaluation.metrics import compute
from core.evaluation.predictions import Bools, Floats
from tests.core.evaluation.scored import ROWS, Scored, as_rows, draw


def coverage(positive: Bools, probability: Floats, threshold: float) -> ByCoverage:
    found = draw_curves(positive, probability, threshold).by_coverage
    assert found is not None
    return found


def test_precision_and_recall_equal_scikit_learn_at_every_threshold() -> None:
    sample = draw(100, seed=1, steps=30)
    precision, recall, _ = sk.precision_recall_curve(sample.positive, sample.probability)
    found = draw_curves(sample.positive, sample.probability, None).precision_recall
    points = dict.fromkeys(zip(found.recall, found.precision, strict=True))
    wanted = list(zip(recall[:-1][::-1], precision[:-1][::-1], strict=True))
    assert np.array(list(points)) == pytest.approx(np.array(wanted), abs=1e-9)


@given(ROWS)
def test_metrics_by_threshold_are_those_of_the_rows(scored: Scored) -> None:
    c = as_rows(scored)
    curves = draw_curves(c.positive, c.probability, 0.5)
    found = curves.by_threshold
    for i, t in enumerate(found.threshold):
        m = compute(as_rows(scored), t)
        assert found.precision[i] == m["precision"]
        for name, wanted in (("recall", m["recall"]), ("f1", m["f1"]), ("macro_f1", m["macro_f1"])):
            assert getattr(found, name)[i] == (None if wanted is None else pytest.approx(wanted, abs=1e-12))
    json.dumps(dataclasses.asdict(curves), allow_nan=False)


def test_curves_of_many_rows_are_thinned_and_keep_both_ends() -> None:
    sample = draw(20_000, seed=2)
    curves = draw_curves(sample.positive, sample.probability, 0.5)
    by_threshold, by_recall = curves.by_threshold.threshold, curves.precision_recall.recall
    assert (by_threshold[0], by_threshold[-1]) == (0, 1)
    assert by_recall[-1] == 1
    for points in (by_threshold, by_recall, coverage(sample.positive, sample.probability, 0.5).coverage):
        assert MOST_POINTS * 0.8 <= len(points) <= MOST_POINTS + 2


def test_full_coverage_has_the_accuracy_of_all_rows() -> None:
    sample = draw(500, seed=3)
    found = coverage(sample.positive, sample.probability, 0.45)
    assert found.coverage[-1] == 1
    assert found.accuracy[-1] == compute(sample.rows(), 0.45)["accuracy"]
    first = next(a for c, a in zip(found.coverage, found.accuracy, strict=True) if c > 0.2)
    assert first > found.accuracy[-1]


def test_rows_without_a_probability_are_covered_last() -> None:
    found = coverage(np.array([True, True, False]), np.array([np.nan, 0.9, 0.2]), 0.5)
    assert found.coverage == pytest.approx([1 / 3, 2 / 3, 1])
    assert found.accuracy == pytest.approx([1, 1, 2 / 3])
    assert found.distance[-1] is None


def test_curves_are_empty_without_rows_or_positives() -> None:
    none = np.zeros(0)
    assert coverage(none.astype(np.bool_), none, 0.5).coverage == []
    curves = draw_curves(np.zeros(3, dtype=np.bool_), np.array([0.1, 0.2, 0.3]), None)
    assert curves.precision_recall.recall == []


def test_bins_equal_scikit_learn_quantile_bins() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(1000)
    y = rng.random(1000) < p**1.5
    share, mean = calibration_curve(y, p, n_bins=10, strategy="quantile")
    found = reliability(y, p)
    assert [q.mean_probability for q in found.points] == pytest.approx(mean, abs=1e-9)
    assert [q.positive.value for q in found.points] == pytest.approx(share, abs=1e-9)
    assert found.expected_calibration_error == pytest.approx(np.abs(share - mean).mean(), abs=1e-9)


def test_bins_have_wilson_intervals() -> None:
    sample = draw(300, seed=2)
    for point in reliability(sample.positive, sample.probability).points:
        assert point.positive.value is not None
        hits = round(point.positive.value * point.rows)
        wanted = stats.binomtest(hits, point.rows).proportion_ci(method="wilson")
        assert (point.positive.low, point.positive.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


@given(ROWS, st.integers(1, 12), st.randoms())
def test_every_scored_row_is_in_one_bin_in_any_order(scored: Scored, bins: int, random: object) -> None:
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


def test_the_calibration_error_is_undefined_without_rows() -> None:
    found = reliability(np.zeros(0, dtype=np.bool_), np.zeros(0))
    assert (found.points, found.expected_calibration_error, found.rows) == ((), None, 0)


def test_overconfidence_increases_the_calibration_error() -> None:
    p = np.array([0.9] * 10 + [0.1] * 10)
    y = np.array([True] * 6 + [False] * 4 + [True] * 4 + [False] * 6)
    assert reliability(y, p).expected_calibration_error == pytest.approx(0.3)
