"""Paired comparisons: equal scorers show no difference, better ones are named, and false alarms are rare."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from core.config import METRICS
from core.evaluation.bootstrap import Judged, bootstrap
from core.evaluation.comparison import (
    CLUSTERED,
    Comparison,
    MetricDifference,
    compare,
    signed_end,
    with_verdict,
)
from core.evaluation.predictions import Bools, Floats
from core.intervals import Family, bootstrap_p, detectable, detectable_accuracy
from tests.core.evaluation.scored import draw, groups_of


def at_half(p: Floats) -> Judged:
    return Judged(p, p >= 0.5)


def compared(
    positive: Bools, judged: dict[str, Judged], grouped: int = 0, resamples: int = 2000
) -> list[Comparison]:
    groups = groups_of(len(positive), grouped) if grouped else None
    found = bootstrap(positive, list(judged.values()), groups, resamples=resamples)
    return compare(positive, list(judged), list(judged.values()), found)


def test_equal_scorers_show_no_difference_in_any_metric() -> None:
    sample = draw(400, seed=1)
    both = {"A": at_half(sample.probability), "B": at_half(sample.probability.copy())}
    for d in compared(sample.positive, both)[0].differences.values():
        assert (d.value, d.low, d.high, d.p_holm, d.detectable) == (0, 0, 0, 1, None)
        assert d.verdict.startswith("no difference shown between A and B in ")


def test_the_better_scorer_is_named_with_its_interval_in_either_order() -> None:
    sample = draw(600, seed=2, apart=0.5)
    worse = draw(600, seed=2, apart=0.1).probability
    judged = {"student": at_half(sample.probability), "untrained": at_half(worse)}
    for order in (judged, dict(reversed(judged.items()))):
        c = compared(sample.positive, order)[0]
        for name in ("auroc", "log_loss", "macro_f1"):
            assert c.differences[name].verdict.startswith("student is better than untrained by "), name
            number = r"[+-]\d\.\d{3}"
            span = rf" by {number} {METRICS.get(name).title} \(95 % interval {number} to {number}\)\."
            assert re.search(rf"{span}$", c.differences[name].verdict)
    assert c.differences["auroc"].value is not None
    assert c.differences["auroc"].value < 0
    assert "by +" in c.differences["auroc"].verdict


def test_noisy_copies_of_a_scorer_rarely_differ() -> None:
    """The verdict has a level of about 5 % for equally good scorers."""
    shown = dict.fromkeys(("auroc", "macro_f1", "log_loss"), 0)
    rng = np.random.default_rng(3)
    for seed in range(100):
        sample = draw(250, seed=seed)
        a, b = (np.clip(sample.probability + rng.normal(0, 0.1, 250), 0.01, 0.99) for _ in range(2))
        c = compared(sample.positive, {"A": at_half(a), "B": at_half(b)}, resamples=400)[0]
        for name in shown:
            shown[name] += c.differences[name].verdict.startswith(("A is", "B is"))
    assert all(count <= 12 for count in shown.values()), shown


def test_few_differing_rows_show_no_difference() -> None:
    positive = np.arange(200) % 2 == 0
    perfect = np.where(positive, 0.9, 0.1)
    for wrong, shown in ((5, False), (12, True)):
        worse = perfect.copy()
        worse[:wrong] = 1 - worse[:wrong]
        c = compared(positive, {"A": at_half(perfect), "B": at_half(worse)})[0]
        assert c.differing == wrong
        assert c.differences["accuracy"].verdict.startswith("A is better") is shown
    assert c.mcnemar is not None
    assert c.mcnemar.only_a == 12


def test_a_ranking_of_four_rows_shows_no_difference() -> None:
    positive = np.array([True, True, False, False])
    right, wrong = np.array([0.9, 0.8, 0.2, 0.1]), np.array([0.1, 0.2, 0.8, 0.9])
    c = compared(positive, {"A": at_half(right), "B": at_half(wrong)})[0]
    for name, least in {"auroc": 1 / 3, "auprc": 1 / 3, "log_loss": 1 / 8, "brier": 1 / 8}.items():
        assert c.differences[name].p == pytest.approx(least)
        assert c.differences[name].verdict.startswith("no difference shown between A and B")
        assert "not testable" in c.differences[name].verdict


def test_p_values_are_adjusted_per_metric() -> None:
    sample = draw(300, seed=4)
    others = {f"B{k}": at_half(draw(300, seed=4, apart=0.25 - 0.02 * k).probability) for k in range(4)}
    made = compared(sample.positive, {"A": at_half(sample.probability), **others})
    for name in METRICS:
        ps = [c.differences[name].p for c in made]
        adjusted = [c.differences[name].p_holm for c in made]
        lowest = min(p for p in ps if p is not None)
        assert min(p for p in adjusted if p is not None) == pytest.approx(min(1, 4 * lowest))


def test_a_scorer_without_probabilities_is_compared_by_its_labels() -> None:
    sample = draw(100, seed=5)
    teacher = Judged(None, sample.positive, "teacher gives no probabilities")
    c = compared(sample.positive, {"A": at_half(sample.probability), "teacher": teacher})[0]
    assert c.differences["auroc"].verdict == "AUROC: not compared, teacher gives no probabilities."
    assert c.differences["accuracy"].verdict.startswith("teacher is better than A by +")


def test_a_scorer_without_a_threshold_is_compared_by_its_probabilities() -> None:
    sample = draw(100, seed=6)
    bare = Judged(sample.probability, None, "no threshold reaches it")
    c = compared(sample.positive, {"A": at_half(sample.probability), "B": bare})[0]
    assert (c.mcnemar, c.differing, c.detectable_accuracy) == (None, None, None)
    assert c.differences["f1"].undefined == "no threshold reaches it"
    assert c.differences["auroc"].value == 0


def test_groups_add_a_note_to_mcnemars_test() -> None:
    sample, other = draw(600, seed=7), draw(600, seed=7, apart=0.2)
    judged = {"A": at_half(sample.probability), "B": at_half(other.probability)}
    c = compared(sample.positive, judged, grouped=5)[0]
    assert c.note == CLUSTERED
    json.dumps(dataclasses.asdict(c), allow_nan=False)


def test_the_detectable_difference_shrinks_with_the_root_of_the_rows() -> None:
    found = []
    for n in (200, 3200):
        sample, other = draw(n, seed=8), draw(n, seed=9)
        p = np.where(sample.positive == other.positive, other.probability, 0.5)
        c = compared(sample.positive, {"A": at_half(sample.probability), "B": at_half(p)})[0]
        found.append(c.differences["auroc"].detectable or 0)
    assert found[0] / found[1] == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "+0.000"),
        (-0.0, "+0.000"),
        (0.1234, "+0.123"),
        (-0.5, "-0.500"),
        (0.0006, "+0.001"),
        (0.0004, "+0.0004"),
        (-0.00002, "-0.00002"),
        (4e-11, "+0.00000000004"),
        (4e-13, "+0.000"),
    ],
)
def test_a_difference_has_the_decimals_that_show_its_side(value: float, shown: str) -> None:
    assert signed_end(value) == shown


def test_a_sentence_states_the_winner_the_interval_and_every_limit() -> None:
    def verdict(**fields: object) -> str:
        return with_verdict(MetricDifference(**fields), "A", "B").verdict  # type: ignore[arg-type]

    auroc = {"metric": "auroc", "value": 0.2, "low": 0.1, "high": 0.3}
    span = "+0.200 AUROC (95 % interval +0.100 to +0.300)"
    assert verdict(**auroc) == f"A is better than B by {span}."
    assert verdict(**auroc, note="few") == f"A is better than B by {span}; few."
    assert verdict(**{**auroc, "metric": "log_loss"}) == (
        "B is better than A by -0.200 log loss (95 % interval -0.300 to -0.100)."
    )
    assert verdict(metric="brier", value=-0.2, low=-0.3, high=-0.1) == (
        "A is better than B by -0.200 Brier score (95 % interval -0.300 to -0.100)."
    )
    assert verdict(metric="f1", value=-0.2, low=-0.3, high=-0.1) == (
        "B is better than A by +0.200 F1 (95 % interval +0.100 to +0.300)."
    )
    even = "no difference shown between A and B in AUROC: +0.200"
    assert verdict(**{**auroc, "low": -0.1}) == f"{even} (95 % interval -0.100 to +0.300)."
    assert verdict(metric="auroc", value=0.2, untested="too few") == f"{even}; too few."
    assert verdict(**auroc, untested="few", note="rough") == (
        f"{even} (95 % interval +0.100 to +0.300); few; rough."
    )
    assert verdict(metric="auroc", value=None, undefined="no rows") == "AUROC: not compared, no rows."


def test_a_comparison_counts_the_rows_of_its_two_scorers() -> None:
    sample = draw(100, seed=10)
    judged = {
        "A": at_half(sample.probability),
        **{f"B{k}": at_half(draw(100, seed=k).probability) for k in (11, 12)},
    }
    found = compared(sample.positive, judged)
    assert [(c.a, c.b, c.rows, c.note) for c in found] == [("A", "B11", 100, None), ("A", "B12", 100, None)]
    for c in found:
        assert c.mcnemar is not None
        a, b = (np.equal(np.asarray(judged[name].predicted), sample.positive) for name in (c.a, c.b))
        assert (c.mcnemar.only_a, c.mcnemar.only_b) == (int((a & ~b).sum()), int((b & ~a).sum()))
        assert c.differing == c.mcnemar.discordant == int((a ^ b).sum())
        assert c.detectable_accuracy == detectable_accuracy(c.differing, 100)
        assert {d.comparisons for d in c.differences.values()} == {2}
        assert c.differences["accuracy"].value == pytest.approx((c.mcnemar.only_a - c.mcnemar.only_b) / 100)
        assert c.differences["accuracy"].undefined_resamples == 0


def test_p_values_are_those_of_the_bootstrap_unless_a_clean_sweep_is_less_sure() -> None:
    sample, other = draw(200, seed=13), draw(200, seed=13, apart=0.1)
    judged = [at_half(sample.probability), at_half(other.probability)]
    found = bootstrap(sample.positive, judged, resamples=400)
    (c,) = compare(sample.positive, ["A", "B"], judged, found)
    for name in ("auroc", "brier", "accuracy", "mcc"):
        drawn = found.of(0, name) - found.of(1, name)
        d = c.differences[name]
        assert d.p == bootstrap_p(drawn)
        assert d.p_adjusted == Family.of([drawn]).p_value(drawn)
        assert (d.low, d.high) == Family.of([drawn]).interval(drawn)
        assert d.detectable == detectable(drawn)
        assert (d.untested, d.undefined) == (None, None)


def test_few_groups_bound_every_metric() -> None:
    """A clean sweep of six groups has a p of 2 / 2^6, which is not significant among three comparisons."""
    sample = draw(60, seed=14, apart=0.6)
    groups = [f"g{i % 6}" for i in range(60)]
    worse = [at_half(1 - sample.probability)] * 3
    judged = [at_half(sample.probability), *worse]
    found = bootstrap(sample.positive, judged, groups, resamples=999)
    for d in compare(sample.positive, ["A", "B", "C", "D"], judged, found)[0].differences.values():
        assert d.p == pytest.approx(2 / 64)
        assert d.p_adjusted == pytest.approx(6 / 64)
        assert d.untested == "not testable: there are 6 groups, and fewer than 7 show nothing"
        assert (d.low, d.shown) == (None, False)
    alone = bootstrap(sample.positive, judged[:2], groups, resamples=999)
    (c,) = compare(sample.positive, ["A", "B"], judged[:2], alone)
    assert c.differences["auroc"].shown
    assert c.note == CLUSTERED


def test_labels_that_differ_on_few_rows_are_named_and_their_interval_is_kept_where_it_holds_0() -> None:
    positive = np.arange(100) % 2 == 0
    p = np.where(positive, 0.9, 0.1)
    worse = p.copy()
    worse[:3] = 1 - worse[:3]
    (c,) = compared(positive, {"A": at_half(p), "B": at_half(worse)})
    d = c.differences["accuracy"]
    assert d.untested == "their labels differ on 3 rows, and fewer than 6 show nothing"
    assert d.p == pytest.approx(0.25)
    assert d.detectable is not None
    assert d.low == 0
    worse = p.copy()
    worse[0] = 1 - worse[0]
    (c,) = compared(positive, {"A": at_half(p), "B": at_half(worse)})
    assert c.differences["accuracy"].untested == "their labels differ on 1 row, and fewer than 6 show nothing"


def test_a_difference_that_is_often_undefined_is_not_tested() -> None:
    positive = np.arange(40) % 2 == 0
    p = np.where(positive, 0.6, 0.3)
    rare = np.zeros(40, dtype=np.bool_)
    rare[0] = True
    (c,) = compared(positive, {"A": at_half(p), "B": Judged(p, rare)})
    d = c.differences["precision"]
    assert (d.value, d.low, d.p, d.p_holm, d.p_adjusted) == (0, None, None, None, None)
    assert d.undefined_resamples > 100
    assert d.untested == f"not testable: undefined in {d.undefined_resamples:,} of 2,000 resamples"
    assert (c.differences["accuracy"].comparisons, d.comparisons) == (1, 0)


def test_a_metric_that_one_of_two_lacks_is_undefined_for_its_reason() -> None:
    positive = np.arange(40) % 2 == 0
    p = np.where(positive, 0.6, 0.3)
    judged = {
        "A": at_half(p),
        "B": Judged(p, np.zeros(40, dtype=np.bool_)),
        "C": Judged(None, None, "it failed"),
    }
    none, failed = compared(positive, judged)
    assert none.differences["precision"].undefined == (
        "undefined for one of the two: no row was predicted positive"
    )
    assert {d.undefined for d in failed.differences.values()} == {"it failed"}
    assert failed.differences["auroc"].value is None
