"""Curves: points of scikit-learn's curves, few of them, with both ends."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from sklearn import metrics as sk

from core.evaluation.curves import MOST_POINTS, ByCoverage, draw_curves
from core.evaluation.metrics import compute
from core.evaluation.predictions import Bools, Floats
from tests.core.evaluation.scored import ROWS, Scored, as_rows, draw


def coverage(positive: Bools, probability: Floats, threshold: float) -> ByCoverage:
    found = draw_curves(positive, probability, threshold).by_coverage
    assert found is not None
    return found


def test_precision_and_recall_are_scikit_learns_at_every_threshold() -> None:
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


def test_many_rows_make_few_points_with_both_ends() -> None:
    sample = draw(20_000, seed=2)
    curves = draw_curves(sample.positive, sample.probability, 0.5)
    by_threshold, by_recall = curves.by_threshold.threshold, curves.precision_recall.recall
    assert (by_threshold[0], by_threshold[-1]) == (0, 1)
    assert by_recall[-1] == 1
    for points in (by_threshold, by_recall, coverage(sample.positive, sample.probability, 0.5).coverage):
        assert MOST_POINTS * 0.8 <= len(points) <= MOST_POINTS + 2


def test_full_coverage_has_the_accuracy_of_all_rows_and_little_coverage_a_higher_one() -> None:
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


def test_without_rows_or_positives_a_curve_is_empty() -> None:
    none = np.zeros(0)
    assert coverage(none.astype(np.bool_), none, 0.5).coverage == []
    curves = draw_curves(np.zeros(3, dtype=np.bool_), np.array([0.1, 0.2, 0.3]), None)
    assert curves.precision_recall.recall == []
