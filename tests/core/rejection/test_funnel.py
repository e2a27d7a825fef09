"""The funnel counts answers and texts by reason and gold label, and names the class that loses more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import RULES
from core.rejection.funnel import Funnel, FunnelCounter, Votes, notices, skew

Counts = dict[str, tuple[int, int]]
"""By reason ("" is accepted, "missing" none at all): negative texts, positive texts."""


def test_texts_and_answers_are_counted_by_reason_and_by_gold_label() -> None:
    counter = FunnelCounter()
    counter.text(1, [0, 1], ["label_mismatch", None])
    counter.text(1, [0, None], ["label_mismatch", "unparsed"])
    counter.text(0, [0], [None])
    counter.text(0, [0, 0], [None, "surplus"])
    counter.text(0, [], [])
    funnel = counter.funnel()
    assert (funnel.answers.total, funnel.answers.accepted) == (7, 3)
    assert funnel.answers.by_reason == {
        "label_mismatch": {"0": 0, "1": 2}, "unparsed": {"0": 0, "1": 1}, "surplus": {"0": 1, "1": 0},
    }  # fmt: skip
    assert (funnel.texts.total, funnel.texts.accepted) == (4, 3)
    assert funnel.texts.by_reason == {"unparsed": {"0": 0, "1": 1}}
    assert (funnel.texts.by_label["1"].rate, funnel.texts.by_label["0"].rate) == (0.5, 1.0)
    assert funnel.texts.difference.value == -0.5
    assert funnel.missing == {"0": 1, "1": 0}
    assert (funnel.first_answer_right.count, funnel.first_answer_right.total) == (2, 4)


def test_agreement_counts_texts_with_several_readable_answers() -> None:
    counter = FunnelCounter()
    texts: list[tuple[int, list[int | None]]] = [
        (1, [1, 1, 0]),
        (1, [0, 0, 1]),
        (0, [0, 0]),
        (1, [1, 0]),
        (0, [0]),
        (0, [1, None]),
    ]
    for gold, labels in texts:
        counter.text(gold, labels, ["x"] * len(labels))
    assert counter.funnel().agreement == Votes(texts=4, unanimous=1, majority=3, majority_right=2)


def funnel(counts: Counts) -> Funnel:
    counter = FunnelCounter()
    for reason, by in counts.items():
        for gold, n in enumerate(by):
            for _ in range(n):
                counter.text(gold, [] if reason == "missing" else [gold], _reasons(reason))
    return counter.funnel()


def _reasons(reason: str) -> list[str | None]:
    return [] if reason == "missing" else [reason or None]


def test_skew_message_has_shares_interval_rule_and_remedy() -> None:
    found = skew(funnel({"": (300, 100), "label_mismatch": (10, 84), "too_short": (2, 6)}).texts, live=True)
    assert found is not None
    assert (found.label, found.rule, found.took) == ("1", "label_mismatch", {"0": 10, "1": 84})
    assert found.said == (
        "rejection takes more positive texts than negative ones: of the former 100 of 190 (52.6%) were "
        "accepted, of the latter 300 of 312 (96.2%); positive minus negative -0.435 (95 % interval -0.508 to "
        "-0.360). Most of it is label_mismatch, which took 84 of the former and 10 of the latter: read "
        "rejected_samples.jsonl, then give the teacher more tries (teacher.attempts), let a last one see the "
        "gold label (teacher.hint: true), correct the rules where they are misread, or set "
        "teacher.parse.labels if the teacher names the labels differently"
    )


def test_skew_names_the_rule_that_causes_the_difference() -> None:
    texts = funnel({"": (500, 30), "label_mismatch": (500, 50), "too_short": (0, 20)}).texts
    found = skew(texts, live=True)
    assert found is not None
    assert (found.rule, found.label) == ("too_short", "1")
    assert "lower min_chars of too_short" in found.remedy


def test_negative_class_can_lose_more() -> None:
    found = skew(funnel({"": (40, 100), "repeats": (60, 0)}).texts, live=True)
    assert found is not None
    assert found.label == "0"
    assert found.said.startswith(
        "rejection takes more negative texts than positive ones: of the former 40 of"
    )


@pytest.mark.parametrize(
    "counts",
    [
        {"": (90, 85), "label_mismatch": (10, 15)},
        {"": (10, 0)},
        {"": (0, 0)},
        {"label_mismatch": (10, 10)},
        {"": (100, 100)},
    ],
    ids=["chance explains it", "no positives", "no texts", "all rejected", "all accepted"],
)
def test_no_skew_if_the_interval_contains_0_or_is_undefined(counts: Counts) -> None:
    assert skew(funnel(counts).texts, live=True) is None
    assert list(notices(funnel(counts), live=True)) == []


def test_remedies_for_recorded_answers_do_not_ask_for_more_attempts() -> None:
    texts = funnel({"": (100, 40), "label_mismatch": (0, 60)}).texts
    remedies = [found.remedy for live in (True, False) if (found := skew(texts, live=live)) is not None]
    assert "teacher.attempts" in remedies[0]
    assert "teacher.attempts" not in remedies[1]
    assert remedies[1].startswith("record more answers to them")


@pytest.mark.parametrize("rule", tuple(RULES))
@pytest.mark.parametrize("live", [True, False])
def test_every_rule_has_a_remedy_of_its_own(rule: str, live: bool) -> None:
    found = skew(funnel({"": (100, 40), rule: (0, 60)}).texts, live=live)
    assert found is not None
    assert found.remedy != f"loosen {rule} in rejection.rules"
    assert "{" not in found.remedy


def test_texts_without_an_answer_count_as_a_loss() -> None:
    found = list(notices(funnel({"": (300, 80), "missing": (2, 20)}), live=True))
    assert found == [
        "more positive texts than negative ones have no answer, 20 of 100 (20.0%) against 2 of 302 (0.7%); "
        "positive minus negative +0.193 (95 % interval +0.125 to +0.282): see in the ledger's given_up why "
        "the endpoint does not answer them, and fix that or use another"
    ]
    assert list(notices(funnel({"": (300, 80), "missing": (2, 1)}), live=True)) == []


@given(st.dictionaries(st.sampled_from(["", *RULES]), st.tuples(st.integers(0, 60), st.integers(0, 60))))
def test_skew_is_reported_exactly_if_the_interval_excludes_0(counts: Counts) -> None:
    texts = funnel(counts).texts
    found, d = skew(texts, live=True), texts.difference
    shown = d.low is not None and d.high is not None and (d.low > 0 or d.high < 0)
    assert (found is not None) == shown
    if found is not None:
        assert found.took[found.label] > 0, "the rule named took texts of the class that loses"
