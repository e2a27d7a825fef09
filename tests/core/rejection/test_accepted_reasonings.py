"""Accepted reasonings are counted as a Counter of their plain forms would."""

from __future__ import annotations

from collections import Counter
from contextlib import closing

from hypothesis import given, settings
from hypothesis import strategies as st

from core.rejection.cited import plain
from core.rejection.stage import AcceptedReasonings

REASONINGS = st.lists(st.sampled_from(["a", " A ", "a  b", "A\tb", "ß", "ss", ""]) | st.text(max_size=3))


@given(REASONINGS)
@settings(deadline=None)
def test_a_reasoning_was_accepted_as_often_as_its_plain_form_was(reasonings: list[str]) -> None:
    seen = Counter[str]()
    with closing(AcceptedReasonings()) as remembered:
        for reasoning in reasonings:
            assert remembered.times(reasoning) == seen[plain(reasoning)]
            remembered.add(reasoning)
            seen[plain(reasoning)] += 1


def test_more_than_is_held_in_memory_is_still_remembered() -> None:
    with closing(AcceptedReasonings(cache_kb=100)) as remembered:
        for n in range(20_000):
            remembered.add(f"reason {n}")
        assert all(remembered.times(f"Reason {n}") == 1 for n in range(0, 20_000, 7))
        assert remembered.times("reason 20000") == 0
