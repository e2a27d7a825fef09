"""Curves: points of scikit-learn's curves, few of them, with both ends."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn import metrics as sk

from core.evaluation.curves import MOST_POINTS, by_coverage, by_threshold, precision_recall
from core.evaluation.metrics import compute
from tests.core.evaluation.scored import ROWS, Scored, as_rows, draw


def test_precision_and_recall_are_scikit_learns_at_every_threshold() -> None:
    sample = draw(100, seed=1, steps=30)
    precision, recall, _ = sk.precision_recall_curve(sample.positive, sample.probability)
    found = precision_recall(sample.positive, sample.probability)
    points = dict.fromkeys(zip(found.recall, found.precision, strict=True))
    wanted = list(zip(recall[:-1][::-1], precision[:-1][::-1], strict=True))
    assert np.array(list(points)) == pytest.approx(np.array(wanted), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_metrics_by_threshold_are_those_of_the_rows(scored: Scored) -> None:
    c = as_rows(scored)
    found = by_threshold(c.positive, c.probability)
    for i, t in enumerate(found.threshold):
        m = compute(as_rows(scored), t)
        assert found.precision[i] == m["precision"]
        for name, wanted in (("recall", m["recall"]), ("f1", m["f1"]), ("macro_f1", m["macro_f1"])):
            assert getattr(found, name)[i] == (None if wanted is None else pytest.approx(wanted, abs=1e-12))
    everything = (precision_recall(c.positive, c.probability), by_coverage(c.positive, c.probability, 0.5))
    json.dumps([dataclasses.asdict(each) for each in (found, *everything)], allow_nan=False)


def test_many_rows_make_few_points_with_both_ends() -> None:
    sample = draw(20_000, seed=2)
    found = by_threshold(sample.positive, sample.probability)
    assert (found.threshold[0], found.threshold[-1]) == (0, 1)
    curve = precision_recall(sample.positive, sample.probability)
    assert curve.recall[-1] == 1
    coverage = by_coverage(sample.positive, sample.probability, 0.5)
    for points in (found.threshold, curve.recall, coverage.coverage):
        assert MOST_POINTS * 0.8 <= len(points) <= MOST_POINTS + 2


def test_full_coverage_has_the_accuracy_of_all_rows_and_little_coverage_a_higher_one() -> None:
    sample = draw(500, seed=3)
    found = by_coverage(sample.positive, sample.probability, 0.45)
    assert found.coverage[-1] == 1
    assert found.accuracy[-1] == compute(sample.rows(), 0.45)["accuracy"]
    first = next(a for c, a in zip(found.coverage, found.accuracy, strict=True) if c > 0.2)
    assert first > found.accuracy[-1]


def test_rows_without_a_probability_are_covered_last() -> None:
    found = by_coverage(np.array([True, True, False]), np.array([np.nan, 0.9, 0.2]), 0.5)
    assert found.coverage == pytest.approx([1 / 3, 2 / 3, 1])
    assert found.accuracy == pytest.approx([1, 1, 2 / 3])
    assert found.distance[-1] is None


def test_without_rows_or_positives_a_curve_is_empty() -> None:
    none = np.zeros(0)
    assert by_coverage(none.astype(np.bool_), none, 0.5).coverage == []
    assert precision_recall(np.zeros(3, dtype=np.bool_), np.array([0.1, 0.2, 0.3])).recall == []
