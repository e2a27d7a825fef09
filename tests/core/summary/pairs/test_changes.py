"""The numbers of a comparison, against scikit-learn, statsmodels' definition, and by hand."""

from __future__ import annotations

import math
import random

import pytest
from sklearn.metrics import accuracy_score, f1_score

from core.summary.pairs.changes import Changes, changes, mcnemar, to_json
from core.summary.pairs.pairing import pair
from core.summary.pairs.predictions import Predicted, Predictions


def run(name: str, gold: list[int], said: list[int]) -> Predictions:
    rows = [
        Predicted(f"t{i}", f"text {i}", g, s, 0.5, None)
        for i, (g, s) in enumerate(zip(gold, said, strict=True))
    ]
    return Predictions(name, "test", "d", rows)


def compared(gold: list[int], a: list[int], b: list[int]) -> Changes:
    return changes(pair(run("a", gold, a), run("b", gold, b)))


def test_accuracy_and_macro_f1_agree_with_scikit_learn() -> None:
    rng = random.Random(7)
    gold, a, b = ([rng.randrange(2) for _ in range(200)] for _ in range(3))
    found = compared(gold, a, b)
    for name, of in {
        "accuracy": accuracy_score,
        "macro_f1": lambda g, p: f1_score(g, p, average="macro"),
    }.items():
        both = (of(gold, a), of(gold, b))
        metric = found.metrics[name]
        assert (metric.a, metric.b) == pytest.approx(both, abs=1e-12)
        assert metric.difference == pytest.approx(both[1] - both[0], abs=1e-12)


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (5, 5), (1, 9), (12, 2), (0, 6), (400, 460)])
def test_the_test_is_the_exact_binomial_one(fixed: int, broken: int) -> None:
    n, k = fixed + broken, min(fixed, broken)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    assert mcnemar(fixed, broken) == pytest.approx(min(1.0, 2 * tail), abs=1e-12)


@pytest.mark.parametrize(
    ("fixed", "broken", "verdict"),
    [
        (6, 0, "B is right more often (McNemar's exact test, p = 0.0312)"),
        (1, 9, "A is right more often (McNemar's exact test, p = 0.0215)"),
        (5, 0, "no difference shown (McNemar's exact test, p = 0.0625)"),
        (0, 0, "no difference shown (McNemar's exact test, p = 1)"),
    ],
)
def test_the_verdict_says_no_more_than_the_test_shows(fixed: int, broken: int, verdict: str) -> None:
    rest = 5
    gold = [1] * (fixed + broken + rest)
    a = [0] * fixed + [1] * broken + [1] * rest
    b = [1] * fixed + [0] * broken + [1] * rest
    assert compared(gold, a, b).verdict == verdict


def test_nothing_in_common_is_no_finding() -> None:
    found = compared([], [], [])
    assert found.verdict == "nothing to compare: no text is in both"
    assert found.metrics["accuracy"].difference is None


def test_an_undefined_metric_is_null_in_the_file() -> None:
    paired = pair(run("a", [1, 1], [1, 1]), run("b", [1, 1], [1, 0]))
    found = to_json(paired, changes(paired))
    assert found["metrics"]["macro_f1"] == {"a": None, "b": pytest.approx(1 / 3), "difference": None}
    assert found["broken"] == 1
    assert found["dataset_fingerprint"] == {"a": "d", "b": "d", "same": True}
