"""The threshold: equal to trying every candidate with exact arithmetic."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.evaluation.metrics import compute
from core.evaluation.threshold import Choice, choose
from tests.core.evaluation.scored import Scored, as_rows

TINY = math.ulp(0.3)
SCORES = st.one_of(
    st.none(),
    st.floats(0, 1),
    st.integers(0, 8).map(lambda k: k / 8),
    st.integers(0, 3).map(lambda k: 0.3 + k * TINY),  # neighbours with no number between them
)
ROWS = st.lists(st.tuples(st.integers(0, 1), SCORES), min_size=2, max_size=30)


def chosen(scored: Scored) -> Choice:
    rows = as_rows(scored)
    return choose(rows.positive, rows.probability)


def rank_at(scored: Scored, t: float) -> tuple[Fraction, int, float, float]:
    said = [(gold, int(p is not None and p >= t)) for gold, p in scored]
    tp, fp, fn, tn = (said.count(pair) for pair in ((1, 1), (0, 1), (1, 0), (0, 0)))
    f1 = Fraction(2 * tp, 2 * tp + fp + fn) + Fraction(2 * tn, 2 * tn + fp + fn)
    return -f1, -(tp + tn), abs(t - 0.5), t


def by_brute_force(scored: Scored) -> float:
    distinct = sorted({p for _, p in scored if p is not None})
    candidates = [0.0, 1.0]
    for low, high in itertools.pairwise(distinct):
        middle = low + (high - low) / 2
        candidates.append(middle if middle > low else high)
    return min(candidates, key=lambda t: rank_at(scored, t))


def is_defined(scored: Scored) -> bool:
    return len({g for g, _ in scored}) == 2 and any(p is not None for _, p in scored)


@settings(max_examples=200, deadline=None)
@given(ROWS.filter(is_defined))
@example([(1, 0.3), (0, 0.3 + TINY)])
@example([(0, 0.0), (1, 1.0)])
@example([(0, 1.0), (1, 0.0)])
@example([(1, 0.25), (0, 0.5), (1, 0.75), (0, None)])
def test_the_threshold_is_the_one_that_trying_all_finds(scored: Scored) -> None:
    found = chosen(scored)
    assert found.value == by_brute_force(scored)
    measured = compute(as_rows(scored), found.value)
    assert found.reached == pytest.approx(measured["macro_f1"], abs=1e-12)
    assert found.accuracy == measured["accuracy"]


@settings(max_examples=100, deadline=None)
@given(ROWS.filter(is_defined))
def test_no_threshold_from_0_to_1_does_better(scored: Scored) -> None:
    best = rank_at(scored, chosen(scored).value or 0.0)[0]
    observed = [p for _, p in scored if p is not None]
    for t in [*observed, *(math.nextafter(p, 1) for p in observed), 0.5]:
        assert best <= rank_at(scored, t)[0]


@settings(max_examples=30, deadline=None)
@given(ROWS.filter(is_defined), st.randoms())
def test_the_order_of_rows_does_not_matter(scored: Scored, random: object) -> None:
    shuffled = list(scored)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert chosen(shuffled) == chosen(scored)


def test_classes_that_part_cleanly_get_the_middle_of_the_gap() -> None:
    found = chosen([(0, 0.1), (0, 0.2), (1, 0.6), (1, 0.9)])
    assert found.value == pytest.approx(0.4)
    assert found.reached == found.accuracy == 1
    assert found.reason == "largest macro-F1 on 4 rows (2 positive), of 5 thresholds"


def test_rows_without_a_probability_are_negative_at_any_threshold() -> None:
    found = chosen([(1, None), (0, None), (1, 0.7), (0, 0.2)])
    assert found.value == pytest.approx(0.45)
    assert found.accuracy == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("scored", "reason"),
    [
        ([], "the default 0.5: there are no rows"),
        ([(0, 0.2), (0, 0.9)], "the default 0.5: all 2 rows are of one class"),
        ([(0, None), (1, None)], "the default 0.5: none of 2 rows has a probability"),
    ],
)
def test_the_default_says_why(scored: Scored, reason: str) -> None:
    found = chosen(scored)
    assert found.value == 0.5
    assert found.reached is None
    assert found.reason.startswith(reason)


def test_a_hundred_thousand_rows_are_as_exact_as_thirty() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(100_000) < 0.2
    p = np.clip(rng.normal(0.3 + 0.3 * positive, 0.15), 0, 1)
    found = choose(positive, p)
    grid = [choose_at(positive, p, t) for t in np.linspace(0, 1, 501)]
    assert found.reached is not None
    assert found.reached >= max(grid)
    assert found.reached == pytest.approx(choose_at(positive, p, found.value or 0.0), abs=1e-12)


def choose_at(positive: np.ndarray, p: np.ndarray, t: float) -> float:
    said = p >= t
    wrong = int((said != positive).sum())
    tp, tn = int((said & positive).sum()), int((~said & ~positive).sum())
    return tp / (2 * tp + wrong) + tn / (2 * tn + wrong)
