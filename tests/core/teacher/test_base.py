"""How often a text is put to the teacher depends on its answers so far and on nothing else."""

from __future__ import annotations

import pytest

from core.teacher.base import Attempt, AttemptPolicy

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
