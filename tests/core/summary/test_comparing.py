"""The numbers of a comparison, against scikit-learn and by hand, and its words."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score, f1_score

from core.summary.run_comparison import Predicted, RunComparison, RunPredictions, compare_runs, write


def run(name: str, gold: list[int], said: list[int]) -> RunPredictions:
    rows = [
        Predicted.model_validate(
            {"example_id": f"t{i}", "text": f"text {i}", "gold_label": g, "predicted": s, "probability": 0.5}
        )
        for i, (g, s) in enumerate(zip(gold, said, strict=True))
    ]
    return RunPredictions(name, "test", "d", rows)


def compared(gold: list[int], a: list[int], b: list[int]) -> RunComparison:
    return compare_runs(run("a", gold, a), run("b", gold, b))


def test_accuracy_and_macro_f1_agree_with_scikit_learn() -> None:
    rng = random.Random(7)
    gold, a, b = ([rng.randrange(2) for _ in range(200)] for _ in range(3))
    found = compared(gold, a, b)
    for name, of in {
        "accuracy": accuracy_score,
        "macro_f1": lambda g, p: f1_score(g, p, average="macro"),
    }.items():
        both = (of(gold, a), of(gold, b))
        assert found.metrics[name] == pytest.approx(both, abs=1e-12)
        assert found.comparison is not None
        assert found.comparison.differences[name].value == pytest.approx(both[1] - both[0], abs=1e-12)


@pytest.mark.parametrize(
    ("fixed", "broken", "verdict", "p"),
    [
        (6, 0, "B is right more often: +0.545 (95 % interval ", "0.0312"),
        (1, 9, "A is right more often: -0.533 (95 % interval ", "0.0215"),
        (5, 0, "no difference shown between B and A in accuracy: +0.500 (95 % interval ", "0.0625"),
        (0, 0, "no difference shown between B and A in accuracy: +0.000 (95 % interval ", "1"),
    ],
)
def test_the_verdict_says_no_more_than_the_test_shows(fixed: int, broken: int, verdict: str, p: str) -> None:
    rest = 5
    gold = [1] * (fixed + broken + rest)
    a = [0] * fixed + [1] * broken + [1] * rest
    b = [1] * fixed + [0] * broken + [1] * rest
    found = compared(gold, a, b).verdict
    assert found.startswith(verdict)
    assert found.endswith(f"; McNemar's exact test, p = {p})")


def test_nothing_in_common_is_no_finding() -> None:
    found = compared([], [], [])
    assert found.verdict == "nothing to compare: no text is in both"
    assert (found.metrics["accuracy"], found.comparison) == ((None, None), None)


def test_rows_of_a_group_are_drawn_together_which_widens_the_interval() -> None:
    """Ten groups of twenty equal rows say no more than ten rows."""
    gold = [i // 20 % 2 for i in range(200)]
    a = [g if i // 20 % 3 else 1 - g for i, g in enumerate(gold)]
    widths = []
    for groups in ({}, {f"t{i}": str(i // 20) for i in range(200)}):
        one = replace(run("a", gold, a), groups=groups)
        comparison = compare_runs(one, run("b", gold, gold)).comparison
        assert comparison is not None
        found = comparison.differences["accuracy"]
        assert found.low is not None
        assert found.high is not None
        widths.append(found.high - found.low)
        assert (comparison.note is None) is (not groups)
    assert widths[1] > 3 * widths[0]


def test_an_undefined_metric_is_null_in_the_file(tmp_path: Path) -> None:
    file, *_ = write(tmp_path, compare_runs(run("a", [1, 1], [1, 1]), run("b", [1, 1], [1, 0])))
    found = json.loads(file.read_text(), parse_constant=pytest.fail)
    assert found["metrics"]["macro_f1"] == {"a": None, "b": pytest.approx(1 / 3)}
    assert found["comparison"]["differences"]["macro_f1"]["value"] is None
    assert found["comparison"]["mcnemar"]["p"] == 1
    assert found["broken"] == 1
    assert found["dataset_fingerprint"] == {"a": "d", "b": "d", "same": True}
