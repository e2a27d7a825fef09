"""Exact tests, and comparisons whose interval, p-value and verdict agree."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from core.config import METRICS
from core.evaluation.bootstrap import Judged, bootstrap
from core.evaluation.comparison import Comparison, compare
from core.evaluation.predictions import Bools
from core.intervals import (
    ALPHA,
    POWER,
    Z95,
    Z_POWER,
    Family,
    bootstrap_p,
    detectable,
    detectable_accuracy,
    exact_interval,
    holm,
    least_rows,
    mcnemar,
    share,
    sign_flip_p,
)
from tests.core.evaluation.scored import draw


def rights(both: int, only_a: int, only_b: int, neither: int) -> tuple[Bools, Bools]:
    """Which rows A and B have right."""
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return np.array(a, dtype=np.bool_), np.array(b, dtype=np.bool_)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5))
def test_mcnemar_equals_the_exact_binomial_test_of_scipy(only_a: int, only_b: int, other: int) -> None:
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


def test_scorers_that_never_differ_have_a_p_value_of_one() -> None:
    found = mcnemar(*rights(10, 0, 0, 3))
    assert (found.p, found.mid_p, found.discordant) == (1.0, 1.0, 0)


@given(st.integers(100, 5000), st.floats(0.05, 0.5))
def test_the_detectable_difference_solves_its_equation(rows: int, share: float) -> None:
    discordant = round(rows * share)
    d = detectable_accuracy(discordant, rows)
    if d is None:
        return
    r = discordant / rows
    assert np.sqrt(rows) * d == pytest.approx(Z95 * np.sqrt(r) + Z_POWER * np.sqrt(r - d * d), abs=1e-9)


def test_the_detectable_difference_has_80_percent_power() -> None:
    """Draw rows with that difference; the level of the mid-p test is close to the nominal one."""
    rows, share = 600, 0.2
    d = detectable_accuracy(round(rows * share), rows)
    assert d is not None
    rng = np.random.default_rng(1)
    a, b, _ = rng.multinomial(rows, [(share + d) / 2, (share - d) / 2, 1 - share], size=2000).T
    found = [mcnemar(*rights(0, int(x), int(y), 0)).mid_p < ALPHA for x, y in zip(a, b, strict=True)]
    assert np.mean(found) == pytest.approx(POWER, abs=0.04)


@pytest.mark.parametrize(("discordant", "rows"), [(0, 100), (3, 100), (0, 0)])
def test_few_discordant_rows_have_no_detectable_difference(discordant: int, rows: int) -> None:
    assert detectable_accuracy(discordant, rows) is None


def test_normal_quantiles_equal_scipy() -> None:
    assert pytest.approx(stats.norm.ppf(1 - ALPHA / 2), abs=1e-12) == Z95
    assert pytest.approx(stats.norm.ppf(POWER), abs=1e-12) == Z_POWER


def test_constant_differences_have_no_detectable_difference() -> None:
    assert detectable(np.zeros(100)) is None
    assert detectable(np.array([0.0, 2.0])) == pytest.approx((Z95 + Z_POWER) * np.sqrt(2))


def test_the_bootstrap_p_value_is_never_zero_and_one_for_equal_scorers() -> None:
    assert bootstrap_p(np.zeros(99)) == 1
    assert bootstrap_p(np.ones(99)) == pytest.approx(2 / 100)
    assert bootstrap_p(np.full(5, np.nan)) is None


def test_holm_adjusts_as_computed_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.6]) == pytest.approx([1.0, None, 1.0])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_the_same_as_stepping_down(ps: list[float]) -> None:
    adjusted = holm(ps)
    order = np.argsort(ps, kind="stable")
    rejected = set()
    for rank, i in enumerate(order):
        if ps[i] * (len(ps) - rank) >= ALPHA:
            break
        rejected.add(int(i))
    assert {i for i, p in enumerate(adjusted) if p is not None and p < ALPHA} == rejected
    assert all(p is not None and p >= raw for p, raw in zip(adjusted, ps, strict=True))


def test_rounding_errors_do_not_count_as_variation() -> None:
    third = np.array([0.1 + 0.2, 0.3] * 50)
    assert third.std() > 0
    assert detectable(third) is None


SHOWN = re.compile(r"95 % interval ([-+]\d+\.\d+) to ([-+]\d+\.\d+)")


def compared(
    seed: int,
    *,
    rows: int = 80,
    others: int = 1,
    resamples: int = 400,
    share: float = 0.3,
    steps: int = 0,
    group: int = 0,
) -> list[Comparison]:
    """Compare a scorer with others that are worse, equal or better, each at its own threshold."""
    rng = np.random.default_rng(seed)
    sample = draw(rows, seed=seed, share=share, apart=0.35, steps=steps)
    if share == 0:
        sample.positive[:] = False
    judged = [Judged(sample.probability, sample.probability >= 0.5)]
    for _ in range(others):
        noise = rng.normal(rng.uniform(-0.1, 0.1), rng.uniform(0, 0.3), rows)
        p = np.clip(sample.probability + noise, 0.001, 0.999)
        judged.append(Judged(p, p >= rng.uniform(0.4, 0.6)))
    groups = [f"g{i // group}" for i in range(rows)] if group else None
    found = bootstrap(sample.positive, judged, groups, resamples=resamples, seed=seed)
    return compare(sample.positive, [f"S{k}" for k in range(others + 1)], judged, found)


@given(
    seed=st.integers(0, 10**6),
    rows=st.sampled_from([1, 2, 5, 12, 40, 120]),
    others=st.sampled_from([1, 2, 5, 9]),
    resamples=st.sampled_from([60, 199, 399, 1000]),
    share=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    steps=st.sampled_from([0, 4]),
    group=st.sampled_from([0, 0, 3]),
)
def test_verdict_interval_and_p_value_agree(
    seed: int, rows: int, others: int, resamples: int, share: float, steps: int, group: int
) -> None:
    made = compared(
        seed, rows=rows, others=others, resamples=resamples, share=share, steps=steps, group=group
    )
    for d in (d for c in made for d in c.differences.values()):
        if d.value is None:
            assert "not compared" in d.verdict
            continue
        even = d.verdict.startswith("no difference shown")
        assert even is not d.shown
        assert (d.p_adjusted is not None and d.p_adjusted <= ALPHA + 1e-9) is d.shown
        assert (d.low is None) is (d.high is None)
        if d.low is None or d.high is None:
            assert even
            assert d.untested
        else:
            assert even is (d.low <= 0 <= d.high)
            low, high = map(float, SHOWN.search(d.verdict).groups())  # type: ignore[union-attr]
            assert even is (low <= 0 <= high)


def test_simultaneous_intervals_cover_all_differences_at_once() -> None:
    """All five intervals contain their true differences in about 95 % of data sets."""
    rng = np.random.default_rng(5)
    truth = np.array([0.0, 0.05, 0.1, 0.1, 0.2])
    alone = together = 0
    for _ in range(150):
        shared = rng.normal(0, 1, 120)
        rows = truth[:, None] + shared + rng.normal(0, 1, (5, 120))
        weights = rng.multinomial(120, [1 / 120] * 120, size=399) / 120
        drawn = [weights @ of for of in rows]
        of_all = Family.of(drawn)
        inside = [_holds(of_all.interval(d), t) for d, t in zip(drawn, truth, strict=True)]
        single = [_holds(Family.of([d]).interval(d), t) for d, t in zip(drawn, truth, strict=True)]
        together += all(inside)
        alone += all(single)
    assert together / 150 > 0.91
    assert alone / 150 < 0.91


def _holds(interval: tuple[float, float] | None, value: float) -> bool:
    return interval is not None and interval[0] <= value <= interval[1]


@given(st.integers(0, 10**6), st.integers(1, 8), st.sampled_from([0.0, 0.5, 0.95]))
def test_simultaneous_intervals_are_between_single_and_bonferroni_intervals(
    seed: int, many: int, alike: float
) -> None:
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 1, 999)
    drawn = [alike * shared + (1 - alike) * rng.normal(0.5, 1, 999) for _ in range(many)]
    together = Family.of(drawn)
    assert int(1000 * 0.025 / many) <= together.rank <= 25
    for of in drawn:
        low, high = together.interval(of) or (0.0, 0.0)
        one = Family.of([of]).interval(of)
        assert one is not None
        assert low <= one[0] <= one[1] <= high
        assert (together.p_value(of) <= 0.05) is (not low <= 0 <= high)


def test_one_comparison_has_the_percentile_interval() -> None:
    drawn = np.random.default_rng(1).normal(0.1, 1, 9999)
    low, high = Family.of([drawn]).interval(drawn) or (0.0, 0.0)
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=2e-3)


def test_too_few_resamples_for_the_comparisons_are_noted() -> None:
    rng = np.random.default_rng(2)
    drawn = [rng.normal(0, 1, 10_000) for _ in range(20)]
    assert Family.of(drawn).rank >= 10
    few = compared(1, others=9, resamples=60)
    assert {d.low for c in few for d in c.differences.values()} == {None}
    assert all(
        "60 resamples are too few for 9 comparisons" in (c.differences["auroc"].untested or "") for c in few
    )
    rough = compared(1, others=9, resamples=400)[0].differences["auroc"]
    assert rough.low is not None
    assert "of 400 resamples" in (rough.note or "")


def test_interval_ends_near_zero_show_their_sign() -> None:
    positive = np.arange(400) % 2 == 0
    p = np.where(positive, 0.9, 0.1)
    near = np.where(positive, 0.8999, 0.1001)
    judged = [Judged(p, p >= 0.5), Judged(near, near >= 0.5)]
    found = bootstrap(positive, judged, resamples=400)
    verdict = compare(positive, ["A", "B"], judged, found)[0].differences["brier"].verdict
    assert verdict == "A is better than B by -0.00002 Brier score (95 % interval -0.00002 to -0.00002)."


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60))
def test_the_exact_interval_of_accuracy_inverts_mcnemar(only_a: int, only_b: int, same: int) -> None:
    test = mcnemar(*rights(same, only_a, only_b, 0))
    low, high = exact_interval(test)
    assert (test.p > ALPHA) is (low <= 0 <= high)
    rows = only_a + only_b + same
    if rows:
        assert low <= (only_a - only_b) / rows <= high


def of_one_class(rows: int, *, positive: bool, seed: int = 0) -> Comparison:
    """Compare two nearly constant scorers on rows of one class."""
    rng = np.random.default_rng(seed)
    gold = np.full(rows, positive)
    a, b = 0.3 + rng.uniform(0, 1e-3, rows), 0.6 + rng.uniform(0, 1e-3, rows)
    judged = [Judged(a, a >= 0.5), Judged(b, b >= 0.5)]
    return compare(gold, ["A", "B"], judged, bootstrap(gold, judged, resamples=999))[0]


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("rows", [9, 30, 400])
def test_rows_of_one_class_have_verdicts_except_for_rankings(rows: int, positive: bool) -> None:
    found = of_one_class(rows, positive=positive).differences
    winner = "B is better than A" if positive else "A is better than B"
    for name in ("log_loss", "brier", "accuracy"):
        assert found[name].verdict.startswith(winner)
        assert (found[name].p_adjusted or 1) < 0.05
    for name in ("auroc", "auprc"):
        assert (found[name].value, found[name].low, found[name].p) == (None, None, None)
        assert "not testable" in found[name].verdict
        assert "the rows are of one class" in found[name].verdict


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_few_rows_of_one_class_are_not_testable(rows: int) -> None:
    found = of_one_class(rows, positive=False).differences
    for name in ("log_loss", "brier"):
        assert f"not testable: their probabilities differ on {rows} row" in found[name].verdict
        assert found[name].verdict.startswith("no difference shown between A and B in ")
        assert "interval" not in found[name].verdict
        assert (found[name].low, found[name].high, found[name].detectable) == (None, None, None)


def test_constant_scorers_on_one_class_are_compared() -> None:
    gold = np.zeros(20, dtype=np.bool_)
    judged = [Judged(np.full(20, p), np.zeros(20, dtype=np.bool_)) for p in (0.3, 0.2, 0.3)]
    worse, same = compare(gold, ["A", "B", "C"], judged, bootstrap(gold, judged, resamples=999))
    assert worse.differences["log_loss"].verdict.startswith("B is better than A")
    assert same.differences["log_loss"].verdict.startswith("no difference shown between A and C")
    assert (same.differences["log_loss"].low, same.differences["log_loss"].high) == (0, 0)
    assert worse.differences["precision"].value is None


def test_one_positive_row_makes_only_rankings_untestable() -> None:
    """A ranking with one positive among 30 rows has 30 orders; log loss has 30 rows."""
    positive = np.arange(30) == 0
    a, b = np.where(positive, 0.9, 0.1), np.where(positive, 0.2, 0.8)
    judged = [Judged(a, a >= 0.5), Judged(b, b >= 0.5)]
    found = compare(positive, ["A", "B"], judged, bootstrap(positive, judged, resamples=999))[0].differences
    assert found["log_loss"].verdict.startswith("A is better than B")
    assert found["auroc"].p == pytest.approx(2 / 30)
    assert found["auroc"].verdict.startswith("no difference shown between A and B in AUROC: +1.000; not test")
    assert found["auroc"].low is None


def test_every_metric_has_a_sentence_for_any_rows() -> None:
    for positive in (0.0, 1.0, 0.3):
        for rows in (1, 3):
            (c,) = compared(3, rows=rows, share=positive)
            assert set(c.differences) == set(METRICS)
            assert all(d.verdict.endswith(".") for d in c.differences.values())


# Values, in addition to properties


@pytest.mark.parametrize(("only_a", "only_b"), [(9, 1), (1, 9), (5, 4), (10, 0), (0, 10)])
def test_the_exact_interval_multiplies_two_intervals(only_a: int, only_b: int) -> None:
    """Clopper and Pearson's of A's share of the differing rows, and Wilson's of the share of these."""
    found = exact_interval(mcnemar(*rights(60, only_a, only_b, 20)))
    n = only_a + only_b
    of_a = stats.binomtest(only_a, n).proportion_ci(0.95, method="exact")
    differing = share(n, n + 80)
    ends = (2 * of_a.low - 1, 2 * of_a.high - 1)
    wanted = [
        ends[0] * ((differing.high if ends[0] < 0 else differing.low) or 0.0),
        ends[1] * ((differing.high if ends[1] > 0 else differing.low) or 0.0),
    ]
    assert found == pytest.approx(wanted, abs=1e-12)


def test_without_rows_the_exact_interval_is_everything() -> None:
    assert exact_interval(mcnemar(*rights(0, 0, 0, 0))) == (-1.0, 1.0)
    assert exact_interval(mcnemar(*rights(4, 0, 0, 1))) == pytest.approx((-0.434482, 0.434482), abs=1e-6)


def test_of_three_rows_that_all_differ_the_detectable_difference_is_positive() -> None:
    assert detectable_accuracy(3, 3) == pytest.approx(Z95 * np.sqrt(3) / (3 + Z_POWER**2))


def test_a_stricter_level_needs_a_larger_difference() -> None:
    drawn = np.array([0.0, 2.0, np.nan])
    for level in (0.05, 0.01, 0.001):
        quantile = stats.norm.ppf(1 - level / 2) + Z_POWER
        assert detectable(drawn, level) == pytest.approx(quantile * np.sqrt(2))
    assert detectable(np.array([0.3])) is None
    assert detectable(np.array([0.3, np.nan])) is None


def test_a_clean_sweep_has_the_p_of_fair_coins() -> None:
    assert [sign_flip_p(rows) for rows in (0, 1, 2, 6)] == [1.0, 1.0, 0.5, 2 / 64]
    for comparisons in (0, 1, 2, 9, 30):
        least, many = least_rows(comparisons), max(1, comparisons)
        assert many * sign_flip_p(least) <= ALPHA < many * sign_flip_p(least - 1)


def test_the_bootstraps_p_counts_the_smaller_tail_and_ties_with_0() -> None:
    assert bootstrap_p(np.array([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])) == pytest.approx(0.6)
    assert bootstrap_p(-np.array([-1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])) == pytest.approx(0.4)
    noise = np.array([1e-13, -1e-13, *[1.0] * 17, np.nan])
    assert bootstrap_p(noise) == pytest.approx(2 * 3 / 20)


def test_a_family_of_one_has_the_level_of_one_test_and_of_several_less() -> None:
    rng = np.random.default_rng(3)
    drawn = [rng.normal(0, 1, 999) for _ in range(3)]
    assert Family.of(drawn[:1]).level == ALPHA
    together = Family.of(drawn)
    assert together.level == 2 * together.rank / 1000 < ALPHA
    few = Family.of([np.arange(38.0)])
    assert (few.rank, few.level, few.interval(np.arange(38.0))) == (0, 0.0, None)
    assert Family.of([np.arange(39.0)]).rank == 1
    assert (Family.of([]).resamples, Family.of([]).rank) == (0, 0)


def test_a_familys_interval_runs_between_replicates_of_its_rank() -> None:
    drawn = np.random.default_rng(4).permutation(np.arange(1.0, 1000.0))
    family = Family.of([drawn])
    assert family.rank == 25
    assert family.interval(drawn) == (25.0, 975.0)
    assert family.interval(drawn - 26) == (-1.0, 949.0)
    assert family.p_value(drawn - 24.5) == pytest.approx(0.05)
    assert family.p_value(drawn - 25.5) == pytest.approx(0.052)


def test_undefined_replicates_are_in_no_tail() -> None:
    drawn = np.concatenate([np.full(10, np.nan), np.arange(1.0, 990.0)])
    family = Family.of([drawn, np.full(999, np.nan)])
    assert (family.resamples, int(family.shallowest[-1])) == (999, 999)
    low, high = family.interval(drawn) or (0.0, 0.0)
    assert (low, high) == (24.0, 966.0)
