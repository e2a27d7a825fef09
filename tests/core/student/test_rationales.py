"""Shuffled rationales: each text has another text's rationale of the same label, fixed by the seed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from core.records import AcceptedSample
from core.student.encode_stage import shuffled

TEXTS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), max_size=40)


def samples(texts: list[tuple[int, int]]) -> list[AcceptedSample]:
    """Samples of numbered texts; a text has the first label of its number."""
    label_of: dict[int, int] = {}
    out = []
    for i, (number, label) in enumerate(texts):
        label = label_of.setdefault(number, label)
        out.append(AcceptedSample(f"s{i}", f"e{number}", f"text {number}", label, f"because {i}"))
    return out


def own(before: list[AcceptedSample], whose: list[AcceptedSample]) -> int:
    return sum(b.text == w.text for b, w in zip(before, whose, strict=True))


@given(TEXTS, st.integers(0, 5))
def test_every_rationale_is_learned_once_with_its_own_label(texts: list[tuple[int, int]], seed: int) -> None:
    before = samples(texts)
    whose = shuffled(before, seed)
    assert [w.label for w in whose] == [b.label for b in before]
    assert sorted(w.sample_id for w in whose) == sorted(b.sample_id for b in before)


@given(TEXTS, st.integers(0, 5))
def test_no_text_keeps_its_own_rationale_unless_it_has_most_of_its_label(
    texts: list[tuple[int, int]], seed: int
) -> None:
    before = samples(texts)
    least = 0
    for label in (0, 1):
        counts = Counter(s.text for s in before if s.label == label)
        largest = max(counts.values(), default=0)
        least += max(0, 2 * largest - counts.total())
    assert own(before, shuffled(before, seed)) == least


def test_the_only_text_of_a_label_keeps_its_own_rationale() -> None:
    before = samples([(0, 1), (1, 0), (2, 0)])
    whose = shuffled(before, 1)
    assert [b.text == w.text for b, w in zip(before, whose, strict=True)] == [True, False, False]


def test_shuffling_depends_on_the_seed_not_on_the_order_of_samples() -> None:
    before = samples([(i, i % 2) for i in range(30)])
    given = {b.sample_id: w.sample_id for b, w in zip(before, shuffled(before, 3), strict=True)}
    turned = list(reversed(before))
    again = {b.sample_id: w.sample_id for b, w in zip(turned, shuffled(turned, 3), strict=True)}
    assert again == given
    assert [w.sample_id for w in shuffled(before, 4)] != [w.sample_id for w in shuffled(before, 3)]
