"""The funnel counts answers and texts by reason and by gold label, with honest intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from core.intervals import difference, share
from core.rejection.funnel import Agreement, FunnelCounter


@given(total=st.integers(1, 500), data=st.data())
def test_shares_have_wilsons_interval(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    found, reference = share(count, total), binomtest(count, total).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=1e-12)


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        # Newcombe 1998, Table II, method 10.
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_differences_have_newcombes_hybrid_score_interval(
    one: tuple[int, int], other: tuple[int, int], low: float, high: float
) -> None:
    found = difference(share(*one), share(*other))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_a_share_of_none_is_undefined_and_says_so() -> None:
    assert share(0, 0).rate is None
    found = difference(share(1, 2), share(0, 0))
    assert (found.value, found.low, found.high, found.undefined) == (
        None,
        None,
        None,
        "a class without answers",
    )


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


def test_agreement_looks_at_texts_with_several_readable_answers() -> None:
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
    assert counter.funnel().agreement == Agreement(texts=4, unanimous=1, majority=3, majority_right=2)
