"""Exact tests: scipy's binomial test, Holm's steps, and the power that a formula promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from core.evaluation.significance import (
    ALPHA,
    POWER,
    Z_POWER,
    bootstrap_p,
    detectable,
    detectable_accuracy,
    holm,
    mcnemar,
)
from core.intervals import Z95


def rights(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return np.array(a, dtype=np.bool_), np.array(b, dtype=np.bool_)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5))
def test_mcnemar_is_scipys_exact_binomial_test(only_a: int, only_b: int, other: int) -> None:
    found = mcnemar(*rights(other, only_a, only_b, 1))
    assert (found.only_a, found.only_b, found.both, found.neither) == (only_a, only_b, other, 1)
    n = only_a + only_b
    wanted = stats.binomtest(only_a, n, 0.5).pvalue if n else 1.0
    assert found.p == pytest.approx(wanted, abs=1e-9)
    if n:
        observed = stats.binom.pmf(only_a, n, 0.5)
        beyond = [stats.binom.pmf(k, n, 0.5) for k in range(n + 1) if abs(k - n / 2) > abs(only_a - n / 2)]
        same = [k for k in range(n + 1) if abs(k - n / 2) == abs(only_a - n / 2)]
        assert found.mid_p == pytest.approx(sum(beyond) + observed * len(same) / 2, abs=1e-9)
        assert found.mid_p < found.p or only_a == only_b


def test_scorers_that_never_differ_have_a_p_of_one() -> None:
    found = mcnemar(*rights(10, 0, 0, 3))
    assert (found.p, found.mid_p, found.discordant) == (1.0, 1.0, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(100, 5000), st.floats(0.05, 0.5))
def test_the_detectable_difference_solves_its_equation(rows: int, share: float) -> None:
    discordant = round(rows * share)
    d = detectable_accuracy(discordant, rows)
    if d is None:
        return
    r = discordant / rows
    assert np.sqrt(rows) * d == pytest.approx(Z95 * np.sqrt(r) + Z_POWER * np.sqrt(r - d * d), abs=1e-9)


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    """Rows drawn with that difference, tested with the mid-p test, whose level is near to the nominal."""
    rows, share = 600, 0.2
    d = detectable_accuracy(round(rows * share), rows)
    assert d is not None
    rng = np.random.default_rng(1)
    a, b, _ = rng.multinomial(rows, [(share + d) / 2, (share - d) / 2, 1 - share], size=2000).T
    found = [mcnemar(*rights(0, int(x), int(y), 0)).mid_p < ALPHA for x, y in zip(a, b, strict=True)]
    assert np.mean(found) == pytest.approx(POWER, abs=0.04)


@pytest.mark.parametrize(("discordant", "rows"), [(0, 100), (3, 100), (0, 0)])
def test_too_few_discordant_rows_can_show_no_difference(discordant: int, rows: int) -> None:
    assert detectable_accuracy(discordant, rows) is None


def test_the_normal_quantiles_are_scipys() -> None:
    assert pytest.approx(stats.norm.ppf(1 - ALPHA / 2), abs=1e-12) == Z95
    assert pytest.approx(stats.norm.ppf(POWER), abs=1e-12) == Z_POWER


def test_what_does_not_vary_has_no_detectable_difference() -> None:
    assert detectable(np.zeros(100)) is None
    assert detectable(np.array([0.0, 2.0])) == pytest.approx((Z95 + Z_POWER) * np.sqrt(2))


def test_the_bootstraps_p_is_never_zero_and_one_where_nothing_differs() -> None:
    assert bootstrap_p(np.zeros(99)) == 1
    assert bootstrap_p(np.ones(99)) == pytest.approx(2 / 100)
    assert bootstrap_p(np.full(5, np.nan)) is None


def test_holms_steps_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.6]) == pytest.approx([1.0, None, 1.0])
    assert holm([]) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_stepping_down_rejects(ps: list[float]) -> None:
    adjusted = holm(ps)
    order = np.argsort(ps, kind="stable")
    rejected = set()
    for rank, i in enumerate(order):
        if ps[i] * (len(ps) - rank) >= ALPHA:
            break
        rejected.add(int(i))
    assert {i for i, p in enumerate(adjusted) if p is not None and p < ALPHA} == rejected
    assert all(p is not None and p >= raw for p, raw in zip(adjusted, ps, strict=True))


def test_differences_that_vary_in_their_last_bits_alone_do_not_vary() -> None:
    third = np.array([0.1 + 0.2, 0.3] * 50)
    assert third.std() > 0
    assert detectable(third) is None
