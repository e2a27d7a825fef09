"""Replicates equal scikit-learn's metrics of the drawn rows; draws keep classes and groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from core.config import METRICS
from core.evaluation.bootstrap import Judged, bootstrap, intervals, intervals_of, units_of, weights
from core.evaluation.comparison import compare
from core.evaluation.metrics import compute
from core.evaluation.predictions import Bools, Floats
from core.intervals import TOO_FEW
from tests.core.evaluation.scored import ROWS, Sample, Scored, as_rows, draw, groups_of

TOLERANCE = 1e-9


def weights_of(positive: Bools, groups: Sequence[str | None] | None, resamples: int) -> Floats:
    """How often each row was drawn, by resample, in the order of rows."""
    out = np.zeros((resamples, len(positive)))
    for start, up, down in weights(units_of(positive, groups), resamples, seed=3):
        out[start : start + len(up), positive] = up
        out[start : start + len(up), ~positive] = down
    return out


def by_scikit_learn(sample: Sample, said: Bools, weight: Floats) -> dict[str, float]:
    gold, p = sample.positive, sample.probability
    of_labels = {"sample_weight": weight, "zero_division": np.nan}
    return {
        "accuracy": sk.accuracy_score(gold, said, sample_weight=weight),
        "balanced_accuracy": sk.balanced_accuracy_score(gold, said, sample_weight=weight),
        "macro_f1": sk.f1_score(gold, said, average="macro", **of_labels),
        "f1": sk.f1_score(gold, said, **of_labels),
        "mcc": sk.matthews_corrcoef(gold, said, sample_weight=weight),
        "precision": sk.precision_score(gold, said, **of_labels),
        "recall": sk.recall_score(gold, said, **of_labels),
        "auroc": sk.roc_auc_score(gold, p, sample_weight=weight),
        "auprc": sk.average_precision_score(gold, p, sample_weight=weight),
        "log_loss": sk.log_loss(gold, p, sample_weight=weight),
        "brier": sk.brier_score_loss(gold, p, sample_weight=weight),
    }


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("steps", [0, 5])
def test_replicates_equal_scikit_learn_on_weighted_rows(grouped: bool, steps: int) -> None:
    drawn = draw(120, seed=1, steps=steps)
    # Where 1 - p is 1e-12, scikit-learn's own rounding shows in the sixth digit of a logarithm.
    sample = Sample(drawn.positive, 0.01 + 0.98 * drawn.probability)
    said = sample.probability >= 0.5
    groups = groups_of(120, 6) if grouped else None
    found = bootstrap(sample.positive, [Judged(sample.probability, said)], groups, resamples=15, seed=3)
    for k, weight in enumerate(weights_of(sample.positive, groups, 15)):
        for name, wanted in by_scikit_learn(sample, said, weight).items():
            assert found.of(0, name)[k] == pytest.approx(wanted, abs=TOLERANCE), (name, k)


@given(ROWS, st.floats(0, 1))
def test_points_are_the_metrics_of_the_rows(scored: Scored, threshold: float) -> None:
    c = as_rows(scored)
    found = bootstrap(c.positive, [Judged.of(c, threshold)], resamples=1)
    m = compute(as_rows(scored), threshold)
    for name in METRICS:
        wanted = m[name]
        point = found.point(0, name)
        assert np.isnan(point) if wanted is None else point == pytest.approx(wanted, abs=1e-12), name


@given(st.lists(st.booleans(), min_size=1, max_size=50), st.integers(1, 200))
def test_every_resample_keeps_the_class_sizes(golds: list[bool], resamples: int) -> None:
    positive = np.array(golds)
    drawn = weights_of(positive, None, resamples)
    assert (drawn[:, positive].sum(axis=1) == positive.sum()).all()
    assert (drawn[:, ~positive].sum(axis=1) == (~positive).sum()).all()


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["a", "b", "c", "d", None])), min_size=1))
def test_groups_are_drawn_whole_and_their_number_is_kept(rows: list[tuple[bool, str | None]]) -> None:
    positive = np.array([gold for gold, _ in rows])
    groups = [name for _, name in rows]
    drawn = weights_of(positive, groups, 30)
    first = {name: i for i, name in reversed(list(enumerate(groups))) if name is not None}
    for i, name in enumerate(groups):
        if name is not None:
            assert (drawn[:, i] == drawn[:, first[name]]).all()
    units = [i for i, name in enumerate(groups) if name is None or first[name] == i]
    assert (drawn[:, units].sum(axis=1) == len(units)).all()


def test_a_class_with_its_own_groups_is_in_every_resample() -> None:
    positive = np.array([True] * 2 + [False] * 40)
    groups = [f"g{i // 2}" for i in range(42)]
    assert (weights_of(positive, groups, 500)[:, positive].sum(axis=1) > 0).all()


def test_replicates_depend_on_the_seed_only() -> None:
    sample = draw(300, seed=2)
    judged = [Judged(sample.probability, sample.probability >= 0.5)]
    one, again, other = (bootstrap(sample.positive, judged, resamples=700, seed=s).values for s in (5, 5, 6))
    assert (one == again).all()
    assert (one != other).any()


def test_all_scorers_have_the_same_resamples() -> None:
    sample, other = draw(200, seed=3), draw(200, seed=4)
    a, b = (Judged(s.probability, s.probability >= 0.4) for s in (sample, other))
    both = bootstrap(sample.positive, [b, a], resamples=300).values
    assert (both[1] == bootstrap(sample.positive, [a], resamples=300).values[0]).all()


def test_metrics_of_missing_labels_or_probabilities_are_undefined() -> None:
    sample = draw(50, seed=5)
    labels = Judged(None, sample.probability >= 0.5, "it gives labels only")
    found = bootstrap(sample.positive, [labels, Judged(sample.probability, None)], resamples=20)
    undefined: Bools = np.asarray(np.isnan(found.values).all(axis=2))
    assert tuple(name for name, u in zip(METRICS, undefined[0], strict=True) if u) == tuple(METRICS)[7:]
    assert tuple(name for name, u in zip(METRICS, undefined[1], strict=True) if u) == tuple(METRICS)[:7]


def test_the_standard_deviation_of_accuracy_follows_the_closed_form() -> None:
    """The variance of accuracy within strata is the sum of both classes' binomial variances."""
    sample = draw(1000, seed=6)
    said = sample.probability >= 0.5
    found = bootstrap(sample.positive, [Judged(None, said)], resamples=20_000)
    right = np.equal(said, sample.positive).astype(np.float64)
    variance = sum(
        right[part].mean() * (1 - right[part].mean()) * part.sum()
        for part in (sample.positive, ~sample.positive)
    )
    assert found.of(0, "accuracy").std() == pytest.approx(np.sqrt(variance) / 1000, rel=0.02)


def test_grouping_repeated_rows_widens_intervals() -> None:
    sample = draw(100, seed=7)
    five = np.repeat(np.arange(100), 5)
    p = sample.probability[five]
    judged = [Judged(p, p >= 0.5)]
    alone = bootstrap(sample.positive[five], judged, resamples=2000)
    grouped = bootstrap(sample.positive[five], judged, [f"g{i}" for i in five], resamples=2000)
    for name in ("auroc", "macro_f1"):
        assert grouped.of(0, name).std() > 1.8 * alone.of(0, name).std()  # sqrt(5) in expectation


def test_groups_must_have_the_length_of_the_rows() -> None:
    with pytest.raises(ValueError, match="3 groups for 2 rows"):
        units_of(np.array([True, False]), ["a", "b", "c"])


@pytest.mark.parametrize(("groups", "drawn"), [(1, False), (5, False), (6, True)])
def test_fewer_than_six_groups_give_no_intervals_and_no_verdict(groups: int, drawn: bool) -> None:
    """One group is the same in every resample, which would give an interval of zero width."""
    sample = draw(60, seed=4)
    judged = [Judged(p, p >= 0.5) for p in (sample.probability, 1 - sample.probability)]
    found = bootstrap(sample.positive, judged, [f"g{i % groups}" for i in range(60)], resamples=200)
    assert np.isfinite(found.points).all()
    assert np.isfinite(found.of(0, "accuracy")).all() == drawn
    (c,) = compare(sample.positive, ["a", "b"], judged, found)
    difference = c.differences["auroc"]
    assert (difference.low is not None, difference.p is not None) == (drawn, drawn)
    if not drawn:
        assert difference.verdict.startswith("no difference shown between a and b in AUROC")
        (a, _) = (intervals_of(sample.positive, j, found, i) for i, j in enumerate(judged))
        assert {i.note for i in a.values()} == {TOO_FEW}


def test_a_scorer_is_judged_on_rankings_and_predictions_that_may_be_missing() -> None:
    rows = as_rows([(1, 0.9), (0, None), (1, 0.5), (0, 0.1)])
    both = Judged.of(rows, 0.5, "why")
    assert both.probability is not None
    assert both.predicted is not None
    assert (both.probability.tolist(), both.predicted.tolist()) == (
        [0.9, 0.5, 0.5, 0.1],
        [True, False, True, False],
    )
    assert both.basis("f1") is both.predicted
    assert both.basis("auroc") is both.basis("brier") is both.probability
    part = both.take(np.array([True, False, False, True]))
    assert part.probability is not None
    assert part.predicted is not None
    assert (part.probability.tolist(), part.predicted.tolist(), part.lacks) == (
        [0.9, 0.1],
        [True, False],
        "why",
    )
    none = Judged.of(rows, None, "no threshold")
    assert (none.predicted, none.lacks) == (None, "no threshold")
    assert none.take(np.array([True] * 4)).predicted is None
    assert Judged(None, both.predicted).take(np.array([True] * 4)).probability is None


def test_units_are_numbered_stratum_after_stratum() -> None:
    """Groups of positives first, then of negatives, then of both; a row without a group is its own."""
    positive = np.array([True, False, True, False, True, False])
    alone = units_of(positive, None)
    assert (alone.sizes, alone.clustered, alone.count, alone.too_few) == ((3, 3), False, 6, False)
    assert (alone.of_positive.tolist(), alone.of_negative.tolist()) == ([0, 1, 2], [3, 4, 5])
    assert units_of(positive, [None] * 6).clustered is False
    found = units_of(positive, ["both", "both", None, "down", "up", "down"])
    assert (found.sizes, found.clustered, found.count, found.too_few) == ((2, 1, 1), True, 4, True)
    assert (found.of_positive.tolist(), found.of_negative.tolist()) == ([3, 0, 1], [3, 2, 2])


def test_the_rows_that_a_seed_draws_never_change() -> None:
    """Intervals of earlier reports are reproduced to the bit; also where one block is not enough."""
    positive = np.arange(7) % 3 == 0
    ((start, up, down),) = weights(units_of(positive, None), 2, seed=5)
    assert (start, up.tolist(), down.tolist()) == (0, [[2, 0, 1], [1, 2, 0]], [[2, 1, 1, 0], [0, 2, 1, 1]])
    assert up.dtype == down.dtype == np.dtype(np.int32)
    many = np.arange(20_000) % 4 == 0
    blocks = list(weights(units_of(many, None), 7, seed=5))
    assert [(start, len(up)) for start, up, _ in blocks] == [(0, 3), (3, 3), (6, 1)]
    assert sum(int((up @ np.arange(5_000)).sum()) for _, up, _ in blocks) == 87_135_102
    groups = [f"g{i // 2}" for i in range(7)]
    ((_, up, down),) = weights(units_of(positive, groups), 2, seed=5)
    assert (up.tolist(), down.tolist()) == ([[1, 1, 1], [2, 0, 1]], [[1, 1, 1, 1], [2, 0, 1, 1]])


def test_without_rows_there_is_one_block_of_nothing() -> None:
    ((start, up, down),) = weights(units_of(np.zeros(0, dtype=np.bool_), None), 4, seed=1)
    assert (start, up.shape, down.shape) == (0, (4, 0), (4, 0))


def test_replicates_are_found_by_scorer_and_metric() -> None:
    sample, other = draw(40, seed=8), draw(40, seed=9)
    judged = [Judged(s.probability, s.probability >= 0.4) for s in (sample, other)]
    found = bootstrap(sample.positive, judged, resamples=30, seed=1)
    assert (found.metrics, found.resamples, found.units, found.clustered) == (tuple(METRICS), 30, 40, False)
    place = tuple(METRICS).index("mcc")
    assert (found.of(1, "mcc") == found.values[1, place]).all()
    assert found.point(1, "mcc") == found.points[1, place]
    assert found.point(1, "mcc") != found.point(0, "mcc")


def test_shares_of_independent_rows_have_wilsons_interval_of_the_right_counts() -> None:
    sample = draw(60, seed=10)
    said = sample.probability >= 0.4
    (found,) = intervals(sample.positive, [Judged(sample.probability, said)], resamples=30)
    for name, right, of in (
        ("accuracy", said == sample.positive, np.ones(60, dtype=np.bool_)),
        ("recall", said & sample.positive, sample.positive),
        ("precision", said & sample.positive, said),
    ):
        wanted = stats.binomtest(int(right.sum()), int(of.sum())).proportion_ci(0.95, method="wilson")
        assert (found[name].low, found[name].high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    (none,) = intervals(
        sample.positive, [Judged(None, np.zeros(60, dtype=np.bool_), "labels only")], resamples=30
    )
    assert none["precision"].undefined == "no row was predicted positive"
    assert none["log_loss"].undefined == "labels only"
    (bare,) = intervals(sample.positive, [Judged(sample.probability, None, "no threshold")], resamples=30)
    assert bare["accuracy"].undefined == "no threshold"
    assert bare["auroc"].method == "bootstrap"
