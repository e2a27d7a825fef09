"""Texts are paired by example id; what cannot be is named and left out."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import DataError, MissingInputError
from core.store import Store
from core.summary.run_comparison import RunComparison, compare_runs, read_predictions
from tests.core.summary.predicting import GOLD, predicted, write

ON_DISK = pytest.mark.parametrize("root", ["disk"], indirect=True)
A = {"t1": 1, "t2": 0, "t3": 0, "t4": 1, "t5": 0}
B = {"t5": 0, "t1": 1, "t2": 1, "t3": 1, "t4": 0}


def paired(store: Store) -> RunComparison:
    return compare_runs(read_predictions(store, "a", "test"), read_predictions(store, "b", "test"))


def test_every_text_has_one_outcome_whatever_the_order(store: Store) -> None:
    write(store, "a", predicted(A))
    write(store, "b", predicted(B))
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
def test_what_is_not_the_same_in_both_is_left_out_with_its_reason(store: Store) -> None:
    write(store, "a", predicted({"t1": 1, "t2": 0, "t3": 0, "t4": None, "x": 1}, {**GOLD, "x": 1}))
    other_gold = {**GOLD, "t3": 0, "y": 0}
    decisions = {"t1": 1, "t2": 1, "t3": 1, "t4": 1, "y": 1}
    rows = predicted(decisions, other_gold, {"t2": "another text"})
    write(store, "b", [*rows, rows[0]], dataset="data2")
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
def test_without_a_metrics_file_the_data_are_not_known_to_be_the_same(store: Store) -> None:
    for run in ("a", "b"):
        write(store, run, predicted(A))
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
def test_broken_predictions_are_an_error_with_file_record_and_remedy(
    store: Store, rows: Any, why: str
) -> None:
    write(store, "a", rows)
    with pytest.raises(DataError) as e:
        read_predictions(store, "a", "test")
    assert f"{store.where('runs/a/student_phase/test.json')}: {why}" in str(e.value)
    assert "the command that made run a writes it again" in str(e.value)


@ON_DISK
def test_a_run_or_split_that_is_not_there_is_an_error_that_says_which(store: Store) -> None:
    with pytest.raises(MissingInputError, match=r"run b does not exist under .*; existing runs: none"):
        read_predictions(store, "b", "test")
    write(store, "a", predicted(A))
    with pytest.raises(MissingInputError, match=r"run b does not exist under .*; existing runs: a"):
        read_predictions(store, "b", "test")
    with pytest.raises(MissingInputError, match=r"run a has no .*/val.json; its export was off"):
        read_predictions(store, "a", "val")
