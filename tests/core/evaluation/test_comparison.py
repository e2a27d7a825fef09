"""Paired comparisons: equal scorers show no difference, better ones are named, and false alarms are rare."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from core.config import METRICS
from core.evaluation.bootstrap import Judged, bootstrap
from core.evaluation.comparison import CLUSTERED, Comparison, compare
from core.evaluation.predictions import Bools, Floats
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
