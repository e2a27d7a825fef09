"""Wilson and percentile intervals equal scipy's, and are null with a reason where undefined."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from core.config import METRICS
from core.evaluation.bootstrap import Judged, intervals
from core.intervals import (
    SAME,
    TOO_FEW,
    Difference,
    Interval,
    Share,
    difference,
    percentile,
    proportion,
    share,
)
from tests.core.evaluation.scored import draw, groups_of


@given(st.integers(1, 5000), st.data())
def test_proportions_have_the_wilson_interval_of_scipy(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    wanted = stats.binomtest(count, total).proportion_ci(0.95, method="wilson")
    found = proportion(count, total)
    assert found.value == count / total
    assert found.low == pytest.approx(wanted.low, abs=1e-9)
    assert found.high == pytest.approx(wanted.high, abs=1e-9)


def test_a_proportion_of_no_rows_is_null_with_a_reason() -> None:
    assert proportion(0, 0, "no row cites it") == Interval(None, None, None, None, "no row cites it")


def test_every_metric_has_an_interval_around_it() -> None:
    sample = draw(200, seed=1)
    found = intervals(
        sample.positive, [Judged(sample.probability, sample.probability >= 0.5)], resamples=2000
    )
    assert set(found[0]) == set(METRICS)
    for name, i in found[0].items():
        assert i.value is not None
        assert i.low is not None
        assert i.high is not None
        assert i.low < i.value < i.high, name
        assert i.method == ("wilson" if name in ("accuracy", "precision", "recall") else "bootstrap")


def test_proportions_of_grouped_rows_are_bootstrapped() -> None:
    sample = draw(200, seed=1)
    judged = [Judged(sample.probability, sample.probability >= 0.5)]
    found = intervals(sample.positive, judged, groups_of(200, 4), resamples=500)
    assert {i.method for i in found[0].values()} == {"bootstrap"}


def test_the_percentile_interval_equals_scipy() -> None:
    replicates = np.random.default_rng(2).gamma(2, size=999)
    found = percentile(1.9, replicates, "")
    assert (found.low, found.high) == pytest.approx(np.quantile(replicates, [0.025, 0.975]), abs=1e-12)


def test_undefined_resamples_are_counted_and_left_out() -> None:
    replicates = np.concatenate([np.full(40, math.nan), np.linspace(0, 1, 960)])
    found = percentile(0.5, replicates, "no row was predicted positive")
    assert found.undefined_resamples == 40
    assert found.low == pytest.approx(0.025)


def test_too_many_undefined_resamples_give_no_interval() -> None:
    replicates = np.concatenate([np.full(60, math.nan), np.linspace(0, 1, 940)])
    found = percentile(0.5, replicates, "no row was predicted positive")
    assert (found.value, found.low, found.high) == (0.5, None, None)
    assert found.note == "no interval: undefined in 60 of 1000 resamples (no row was predicted positive)"


def test_a_metric_of_one_class_is_null_with_a_reason() -> None:
    p = np.linspace(0, 1, 20)
    found = intervals(np.zeros(20, dtype=np.bool_), [Judged(p, p >= 0.5)], resamples=50)[0]
    assert found["auroc"].undefined == "the rows are of one class"
    assert found["recall"].undefined == "no row is positive"
    assert found["accuracy"].value == 0.5
    json.dumps({name: dataclasses.asdict(i) for name, i in found.items()}, allow_nan=False)


def test_without_rows_everything_is_null() -> None:
    empty = np.zeros(0)
    found = intervals(empty.astype(np.bool_), [Judged(empty, empty >= 0.5)], resamples=10)[0]
    assert all(i.value is None and i.undefined for i in found.values())


def test_missing_probabilities_are_null_with_the_given_reason() -> None:
    sample = draw(30, seed=3)
    found = intervals(sample.positive, [Judged(None, sample.positive, "it gives labels only")], resamples=20)[
        0
    ]
    assert found["auroc"].undefined == "it gives labels only"
    assert found["accuracy"].value == 1


def test_an_interval_without_width_has_a_note() -> None:
    positive = np.array([True] * 5 + [False] * 5)
    p = positive.astype(np.float64)
    found = intervals(positive, [Judged(p, positive)], resamples=100)[0]
    assert found["auroc"].note == SAME
    assert found["accuracy"].low == pytest.approx(0.7225, abs=1e-3)  # Wilson does not collapse at 10 of 10


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        # Newcombe 1998, Table II, method 10.
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_differences_have_the_hybrid_score_interval_of_newcombe(
    one: tuple[int, int], other: tuple[int, int], low: float, high: float
) -> None:
    found = difference(share(*one), share(*other))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_a_difference_with_an_empty_class_is_undefined_with_a_reason() -> None:
    assert share(0, 0).rate is None
    found = difference(share(1, 2), share(0, 0))
    assert (found.value, found.low, found.high, found.undefined) == (
        None,
        None,
        None,
        "a class without answers",
    )


def test_the_ends_of_extreme_shares_are_exactly_0_and_1() -> None:
    assert (share(0, 10).low, share(10, 10).high) == (0.0, 1.0)
    assert share(0, 0) == Share(0, 0, None, None, None)
    assert (share(3, 12).count, share(3, 12).total, share(3, 12).rate) == (3, 12, 0.25)
    assert proportion(0, 0).undefined == "no rows"


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0.1, 0.3, True), (-0.3, -0.1, True), (0.0, 0.3, False), (-0.3, 0.0, False), (-0.1, 0.1, False)],
)
def test_a_difference_is_shown_where_its_interval_excludes_0(low: float, high: float, shown: bool) -> None:
    assert Difference((low + high) / 2, low, high).shown is shown


def test_an_undefined_difference_is_not_shown() -> None:
    assert not difference(share(1, 2), share(0, 0)).shown
    assert not difference(share(0, 0), share(1, 2)).shown
    assert not Difference(0.2, 0.1, None).shown
    assert not Difference(0.2, None, 0.3).shown


def test_a_twentieth_of_the_resamples_may_be_undefined() -> None:
    at_most = np.concatenate([np.full(50, math.nan), np.linspace(0, 1, 950)])
    found = percentile(0.5, at_most, "why")
    assert found.low == pytest.approx(0.025)
    assert (found.undefined_resamples, found.method) == (50, "bootstrap")
    assert (found.undefined, found.note) == (None, None)
    more = np.concatenate([np.full(51, math.nan), np.linspace(0, 1, 949)])
    found = percentile(0.5, more, "why")
    assert (found.low, found.undefined_resamples, found.method) == (None, 51, None)
    assert found.undefined is None


def test_a_value_without_any_defined_resample_has_no_interval() -> None:
    assert percentile(0.5, np.full(9, math.nan), "why") == Interval(0.5, None, None, None, None, 9, TOO_FEW)
    assert percentile(math.nan, np.linspace(0, 1, 9), "why") == Interval(None, None, None, None, "why")
