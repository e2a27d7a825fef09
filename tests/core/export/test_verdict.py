"""The verdict: whoever wins is named, baselines and ties included."""

from __future__ import annotations

import pytest

from core.evaluation.metrics import compute
from core.export.inputs import Entry, Kind
from core.export.verdict import sentences, winner
from core.records import ScoredExample


def at(title: str, kind: Kind, right: int) -> Entry:
    """`right` of 100 rows, half of them positive, are right, so that macro-F1 grows with it."""
    rows = []
    for i in range(100):
        gold = i % 2
        rows.append(ScoredExample(f"r{i}", gold, 0.9 if gold == (i < right) else 0.1, 0.0, valid=True))
    return Entry(title, kind, compute(rows, 0.5))


def said(*entries: Entry) -> str:
    sentence = winner(entries, "accuracy", "test")
    assert sentence is not None
    return sentence


WORDS, CHARS = at("TF-IDF words", "baseline", 90), at("TF-IDF characters", "baseline", 96)


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        (
            98,
            "By accuracy on test, Student has the best value, 0.9800. "
            "The student wins, above every baseline.",
        ),
        (
            96,
            "By accuracy on test, TF-IDF characters and Student share the best value, 0.9600. "
            "The student is no better than the best baseline.",
        ),
        (
            94,
            "By accuracy on test, TF-IDF characters has the best value, 0.9600. "
            "A baseline beats the student, which has 0.9400: TF-IDF characters.",
        ),
        (
            80,
            "By accuracy on test, TF-IDF characters has the best value, 0.9600. "
            "2 baselines beat the student, which has 0.8000: TF-IDF characters and TF-IDF words.",
        ),
    ],
)
def test_the_winner_is_named_whoever_it_is(right: int, expected: str) -> None:
    assert said(WORDS, CHARS, at("Student", "student", right)) == expected


def test_without_baselines_no_baseline_is_claimed_to_be_beaten() -> None:
    assert said(at("Student", "student", 90)).endswith("The student wins; no baseline was measured.")


def test_another_mode_of_the_student_may_be_better_than_itself() -> None:
    sentence = said(WORDS, at("Student", "student", 94), at("Label only", "label_only", 96))
    assert sentence.startswith("By accuracy on test, Label only has the best value, 0.9600.")
    assert sentence.endswith("The student has 0.9400, above every baseline.")


def test_for_log_loss_the_smallest_is_best() -> None:
    sentence = winner([WORDS, CHARS], "log_loss", "test")
    assert sentence is not None
    assert sentence.startswith("By log loss on test, TF-IDF characters has the best value")


def test_the_last_steps_model_never_wins() -> None:
    found = sentences([at("Student", "student", 90), at("Last step", "final", 99)], "test")
    assert "Last step" not in " ".join(found)


def test_a_student_below_the_untrained_model_is_said_so() -> None:
    found = sentences([at("Untrained", "untrained", 90), at("Student", "student", 80)], "test")
    assert found[-1].endswith("beat the untrained model on test: macro-F1 0.8000 against 0.9000.")
    found = sentences([at("Untrained", "untrained", 80), at("Student", "student", 90)], "test")
    assert found[-1] == "Training took macro-F1 on test from 0.8000 (untrained) to 0.9000."


def test_a_metric_nobody_has_says_nothing() -> None:
    one_class = compute([ScoredExample("a", 0, 0.1, 0.0, valid=True)], 0.5)
    assert winner([Entry("Student", "student", one_class)], "auroc", "test") is None
