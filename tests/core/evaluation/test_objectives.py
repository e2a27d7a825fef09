"""Threshold objectives: equal to trying every candidate with fractions, or none with the reason."""

from __future__ import annotations

import itertools
import json
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from core.config.measure import ThresholdConfig
from core.evaluation.metrics import compute
from core.evaluation.threshold import Choice, choose
from tests.core.evaluation.scored import ROWS, Scored, as_rows, draw, has_both

LEVELS = st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.6, 0.75, 0.9, 1.0])
CONFIGS = st.one_of(
    st.sampled_from([ThresholdConfig(), ThresholdConfig(objective="f1")]),
    st.sampled_from([0.1, 0.3, 1.0, 2.5, 7.0]).map(lambda c: ThresholdConfig(objective="cost", cost_ratio=c)),
    LEVELS.map(lambda p: ThresholdConfig(objective="recall_at_precision", precision=p)),
    LEVELS.map(lambda r: ThresholdConfig(objective="precision_at_recall", recall=r)),
    LEVELS.map(lambda s: ThresholdConfig(objective="share_flagged", share=s)),
)


def chosen(scored: Scored, config: ThresholdConfig) -> Choice:
    c = as_rows(scored)
    return choose(c.positive, c.probability, config)


def table(scored: Scored, t: float) -> tuple[int, int, int, int]:
    said = [(gold, int(p is not None and p >= t)) for gold, p in scored]
    tp, fp, fn, tn = (said.count(pair) for pair in ((1, 1), (0, 1), (1, 0), (0, 0)))
    return tp, fp, fn, tn


def rank(scored: Scored, t: float, config: ThresholdConfig) -> tuple[Fraction | float, ...] | None:
    """Larger is better; None where the threshold is not allowed. In fractions, whatever the size."""
    tp, fp, fn, tn = table(scored, t)
    near = (-abs(t - 0.5), -t)
    precision = Fraction(tp, tp + fp) if tp + fp else None
    recall = Fraction(tp, tp + fn) if tp + fn else Fraction(0)
    number = Fraction(str(config.number))
    match config.objective:
        case "f1":
            return Fraction(2 * tp, 2 * tp + fp + fn), Fraction(tp + tn), *near
        case "macro_f1":
            both = Fraction(2 * tp, 2 * tp + fp + fn) + Fraction(2 * tn, 2 * tn + fp + fn)
            return both, Fraction(tp + tn), *near
        case "cost":
            return -(number * fn + fp), Fraction(tp + tn), *near
        case "recall_at_precision":
            return None if precision is None or precision < number else (recall, precision, *near)
        case "precision_at_recall":
            return None if precision is None or recall < number else (precision, recall, *near)
        case "share_flagged":
            allowed = 0 < tp + fp <= number * len(scored)
            return (Fraction(tp + fp), *near) if allowed else None


def by_brute_force(scored: Scored, config: ThresholdConfig) -> float | None:
    distinct = sorted({p for _, p in scored if p is not None})
    middles = [low + (high - low) / 2 for low, high in itertools.pairwise(distinct)]
    between = [
        m if m > low else high for m, (low, high) in zip(middles, itertools.pairwise(distinct), strict=True)
    ]
    ranked = {t: r for t in (0.0, *between, 1.0) if (r := rank(scored, t, config)) is not None}
    return max(ranked, key=lambda t: ranked[t]) if ranked else None


def is_defined(scored: Scored) -> bool:
    return has_both(scored) and any(p is not None for _, p in scored)


@settings(max_examples=400, deadline=None)
@given(ROWS.filter(is_defined), CONFIGS)
def test_the_threshold_is_the_one_that_trying_all_finds(scored: Scored, config: ThresholdConfig) -> None:
    found = chosen(scored, config)
    assert found.value == by_brute_force(scored, config)
    if found.value is None:
        assert found.reason.startswith("no threshold ")
        assert found.reached is None
        return
    m = compute(as_rows(scored), found.value)
    assert found.accuracy == m["accuracy"]
    assert found.precision == m["precision"]
    assert found.recall == pytest.approx(m["recall"], abs=1e-12)
    assert m.confusion is not None
    assert found.share_flagged == (m.confusion.tp + m.confusion.fp) / m.rows


@settings(max_examples=100, deadline=None)
@given(ROWS.filter(is_defined), LEVELS)
def test_what_is_asked_for_is_kept_or_refused_and_never_nearly(scored: Scored, level: float) -> None:
    precise = chosen(scored, ThresholdConfig(objective="recall_at_precision", precision=level))
    found = chosen(scored, ThresholdConfig(objective="precision_at_recall", recall=level))
    few = chosen(scored, ThresholdConfig(objective="share_flagged", share=level))
    assert precise.precision is None or precise.precision >= level
    assert found.recall is None or found.recall >= level
    assert few.share_flagged is None or 0 < few.share_flagged <= level


@settings(max_examples=50, deadline=None)
@given(ROWS.filter(is_defined), CONFIGS, st.randoms())
def test_the_order_of_rows_does_not_matter(scored: Scored, config: ThresholdConfig, random: object) -> None:
    shuffled = list(scored)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert chosen(shuffled, config) == chosen(scored, config)


@pytest.mark.parametrize(
    ("scored", "config", "reason"),
    [
        ([], {"objective": "f1"}, "there are no rows"),
        (
            [(1, 0.3), (1, 0.4)],
            {"objective": "cost", "cost_ratio": 5},
            "all 2 rows are of one class, so the objective cost does not tell thresholds apart",
        ),
        (
            [(0, None), (1, None)],
            {"objective": "share_flagged", "share": 0.5},
            "none of 2 rows has a probability",
        ),
        (
            [(0, 0.9), (1, 0.8), (0, 0.1)],
            {"objective": "recall_at_precision", "precision": 0.9},
            "no threshold has a precision of 0.9; the highest is 0.5000",
        ),
        (
            [(1, None), (1, 0.8), (0, 0.1)],
            {"objective": "precision_at_recall", "recall": 0.9},
            "no threshold has a recall of 0.9; the highest is 0.5000",
        ),
        (
            [(1, 0.8), (0, 0.8), (0, 0.1)],
            {"objective": "share_flagged", "share": 0.5},
            "no threshold flags any row and at most 0.5 of all: the 2 rows of highest probability, "
            "0.6667 of all, come together",
        ),
    ],
)
def test_an_objective_out_of_reach_is_null_with_the_reason(
    scored: Scored, config: dict[str, object], reason: str
) -> None:
    found = chosen(scored, ThresholdConfig.model_validate(config))
    assert (found.value, found.reached, found.reason) == (None, None, reason)
    json.dumps(found.to_json(), allow_nan=False)


def test_share_flagged_needs_no_positive() -> None:
    found = chosen([(0, 0.9), (0, 0.5), (0, 0.1)], ThresholdConfig(objective="share_flagged", share=0.4))
    assert found.value == pytest.approx(0.7)
    assert found.reached == pytest.approx(1 / 3)


def test_macro_f1_out_of_reach_is_the_default_as_for_every_checkpoint() -> None:
    assert chosen([(0, 0.9), (0, 0.5)], ThresholdConfig()).value == 0.5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"objective": "cost"}, "objective cost needs cost_ratio"),
        ({"precision": 0.9}, "precision belongs to objective recall_at_precision"),
        ({"objective": "share_flagged", "share": 0.1, "recall": 0.5}, "recall belongs to"),
        ({"objective": "cost", "cost_ratio": 0}, "greater than 0"),
    ],
)
def test_a_number_without_its_objective_is_refused_and_the_other_way_round(
    given: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        ThresholdConfig.model_validate(given)


def test_a_hundred_thousand_ties_are_settled_without_trying_each() -> None:
    """All negatives between two positives tie in recall, all candidates in cost: still one pass."""
    sample = draw(100_000, seed=1, share=0.001)
    started = time.perf_counter()
    for config in (
        ThresholdConfig(objective="recall_at_precision", precision=0.001),
        ThresholdConfig(objective="cost", cost_ratio=1),
    ):
        assert choose(sample.positive, sample.probability, config).value is not None
    assert time.perf_counter() - started < 5


def test_a_million_rows_keep_whole_numbers_whole() -> None:
    positive = np.arange(1_000_000) % 2 == 0
    p = np.linspace(0, 1, 1_000_000)
    found = choose(positive, p, ThresholdConfig(objective="cost", cost_ratio=1e6))
    assert found.value is not None
    assert found.recall == 1
    assert found.candidates == 1_000_001
