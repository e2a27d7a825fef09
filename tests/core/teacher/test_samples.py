"""The next attempt depends only on the answers so far; answers are counted."""

from __future__ import annotations

import pytest

from core.records import Example, TeacherAnswer
from core.teacher.samples import Answered, Attempt, AttemptPolicy, Tally

CASES: list[tuple[AttemptPolicy, tuple[int | None, ...], Attempt | None]] = [
    (AttemptPolicy(3, 1, 0.7), (), Attempt(0, 0.0)),
    (AttemptPolicy(3, 1, 0.7), (0,), Attempt(1, 0.7)),
    (AttemptPolicy(3, 1, 0.7), (None, 0), Attempt(2, 0.7)),
    (AttemptPolicy(3, 1, 0.7), (0, 0, 0), None),
    (AttemptPolicy(3, 1, 0.7), (0, 1), None),
    (AttemptPolicy(3, 2, 0.7), (1,), Attempt(1, 0.7)),
    (AttemptPolicy(3, 2, 0.7), (1, 0), Attempt(2, 0.7)),
    (AttemptPolicy(3, 2, 0.7), (1, 1), None),
    (AttemptPolicy(2, 1, 0.7, hint=True), (0, 0), Attempt(2, 0.7, hinted=True)),
    (AttemptPolicy(2, 1, 0.7, hint=True), (0, 0, 0), None),
    (AttemptPolicy(2, 1, 0.7, hint=True), (0, 1), None),
    (AttemptPolicy(2, 2, 0.7, hint=True), (0, 1), None),
]


@pytest.mark.parametrize(("policy", "labels", "expected"), CASES)
def test_the_next_attempt_follows_from_the_answers_to_a_positive_text(
    policy: AttemptPolicy, labels: tuple[int | None, ...], expected: Attempt | None
) -> None:
    assert policy.next(1, labels) == expected


def answered(gold: int, *labels: int | None, hinted_last: bool = False) -> Answered:
    answers = [
        TeacherAnswer("t", n, "m", "", label is not None, "json", label, "", hinted=False)
        for n, label in enumerate(labels)
    ]
    if hinted_last:
        last = answers[-1]
        answers[-1] = TeacherAnswer("t", last.sample, "m", "", True, "json", last.label, "", hinted=True)
    return Answered(Example("t", "text", gold), tuple(answers))


def test_majority_and_agreement_count_texts_with_several_answers() -> None:
    tally = Tally()
    for one in (
        answered(1, 1),  # one answer agrees with nobody
        answered(1, 0, 1, 1),
        answered(0, 1, 1, 0),
        answered(0, 0, 0),
        answered(1, 1, 0),
        answered(1, None, 0, 0),
    ):
        tally.add(one)
    found = tally.agreement.summary(until_right=False).to_json()
    assert found == {
        "texts_with_several_answers": 5,
        "unanimous": 2,
        "tied": 1,
        "majority_right": 2,
        "majority_wrong": 2,
        "observed_agreement": pytest.approx((1 + 1 + 1 + 0 + 1) / (3 + 3 + 1 + 1 + 1)),
        "only_texts_whose_first_answer_failed": False,
    }


def test_hinted_answer_is_not_a_vote() -> None:
    tally = Tally()
    tally.add(answered(1, 0, 1, hinted_last=True))
    assert tally.agreement.texts == 0
    assert tally.agreement.summary(until_right=True).observed_agreement is None


def test_first_answers_are_compared_with_gold() -> None:
    tally = Tally()
    for one in (
        answered(1, 1),
        answered(1, 0, 1),
        answered(0, 1),
        answered(0, 0),
        answered(0, None),
        answered(1),
    ):
        tally.add(one)
    assert tally.first_answers().to_json() == {"tp": 1, "fn": 1, "fp": 1, "tn": 1, "unread": 1}
    assert (tally.examples, tally.answers, dict(tally.missing)) == (6, 6, {1: 1})
