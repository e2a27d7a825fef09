"""Comparisons of two runs: texts are paired by example id, and numbers agree with scikit-learn."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import accuracy_score, f1_score

from core.errors import DataError, MissingInputError
from core.store import Store
from core.summary.run_comparison import (
    Predicted,
    RunComparison,
    RunPredictions,
    compare_runs,
    read_predictions,
    write,
)
from tests.core.summary.making import GOLD, predicted, write_rows

ON_DISK = pytest.mark.parametrize("root", ["disk"], indirect=True)
A = {"t1": 1, "t2": 0, "t3": 0, "t4": 1, "t5": 0}
B = {"t5": 0, "t1": 1, "t2": 1, "t3": 1, "t4": 0}


def paired(store: Store) -> RunComparison:
    return compare_runs(read_predictions(store, "a", "test"), read_predictions(store, "b", "test"))


def test_every_text_has_one_outcome_in_any_order(store: Store) -> None:
    write_rows(store, "a", predicted(A))
    write_rows(store, "b", predicted(B))
    found = paired(store)
    assert {a.example_id: outcome for outcome, pairs in found.pairs.items() for a, _ in pairs} == {
        "t1": "both_right",
        "t2": "broken",
        "t3": "fixed",
        "t4": "fixed",
        "t5": "both_wrong",
    }
    assert all(a.example_id == b.example_id for pairs in found.pairs.values() for a, b in pairs)
    assert found.left_out == {}
    assert found.same_data is True


@ON_DISK
def test_texts_that_differ_are_left_out_with_a_reason(store: Store) -> None:
    write_rows(store, "a", predicted({"t1": 1, "t2": 0, "t3": 0, "t4": None, "x": 1}, {**GOLD, "x": 1}))
    other_gold = {**GOLD, "t3": 0, "y": 0}
    decisions = {"t1": 1, "t2": 1, "t3": 1, "t4": 1, "y": 1}
    rows = predicted(decisions, other_gold, {"t2": "another text"})
    write_rows(store, "b", [*rows, rows[0]], dataset="data2")
    found = paired(store)
    assert not any(found.pairs.values())
    assert found.left_out == {
        "t1": "B has it more than once",
        "t2": "the text differs",
        "t3": "the gold label differs",
        "t4": "A got no score from the server",
        "x": "only A has it",
        "y": "only B has it",
    }
    assert found.same_data is False


@ON_DISK
def test_same_data_is_unknown_without_a_metrics_file(store: Store) -> None:
    for run in ("a", "b"):
        write_rows(store, run, predicted(A))
    store.backend.write("runs/b/student_phase/metrics_test.json", b"{")
    assert paired(store).same_data is None
    store.backend.remove(["runs/b/student_phase/metrics_test.json"])
    assert paired(store).same_data is None


@ON_DISK
@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (b"[{", "not JSON"),
        ({}, "input should be a valid array"),
        ([[]], "record 1: input should be an object"),
        ([{"example_id": 5}], "record 1.example_id: input should be a valid string, found 5"),
        ([{"example_id": None}], "record 1.example_id: "),
        ([*predicted(A), {"example_id": "t9", "text": "x", "gold_label": 2}], "record 6.gold_label: "),
        ([{"example_id": "a", "text": "x", "gold_label": 1}], "record 1.predicted: field required"),
    ],
)
def test_invalid_predictions_are_an_error_with_file_record_and_remedy(
    store: Store, rows: Any, why: str
) -> None:
    write_rows(store, "a", rows)
    with pytest.raises(DataError) as e:
        read_predictions(store, "a", "test")
    assert f"{store.where('runs/a/student_phase/test.json')}: {why}" in str(e.value)
    assert "the command that made run a writes it again" in str(e.value)


@ON_DISK
def test_a_missing_run_or_split_is_named(store: Store) -> None:
    with pytest.raises(MissingInputError, match=r"run b does not exist under .*; existing runs: none"):
        read_predictions(store, "b", "test")
    write_rows(store, "a", predicted(A))
    with pytest.raises(MissingInputError, match=r"run b does not exist under .*; existing runs: a"):
        read_predictions(store, "b", "test")
    with pytest.raises(MissingInputError, match=r"run a has no .*/val.json; its export was off"):
        read_predictions(store, "a", "val")


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
def test_the_verdict_follows_mcnemars_test(fixed: int, broken: int, verdict: str, p: str) -> None:
    rest = 5
    gold = [1] * (fixed + broken + rest)
    a = [0] * fixed + [1] * broken + [1] * rest
    b = [1] * fixed + [0] * broken + [1] * rest
    found = compared(gold, a, b).verdict
    assert found.startswith(verdict)
    assert found.endswith(f"; McNemar's exact test, p = {p})")


def test_runs_without_common_texts_have_no_verdict() -> None:
    found = compared([], [], [])
    assert found.verdict == "nothing to compare: no text is in both"
    assert (found.metrics["accuracy"], found.comparison) == ((None, None), None)


def test_grouped_rows_widen_the_interval() -> None:
    """Ten groups of twenty equal rows have the information of ten rows."""
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
