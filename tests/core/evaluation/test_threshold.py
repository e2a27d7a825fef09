"""The threshold equals that of brute force with fractions; its spread over resamples."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.config import ThresholdConfig
from core.evaluation.bootstrap import units_of, weights
from core.evaluation.metrics import compute
from core.evaluation.threshold import Choice, ResampledRows, choose, describe, pick, rule, spread
from tests.core.evaluation.scored import PROBABILITY, Scored, as_rows, counts, draw, groups_of, has_both

MACRO = ThresholdConfig()
EVERY = (
    MACRO,
    ThresholdConfig(objective="f1"),
    ThresholdConfig(objective="cost", cost_ratio=3),
    ThresholdConfig(objective="recall_at_precision", precision=0.7),
    ThresholdConfig(objective="precision_at_recall", recall=0.6),
    ThresholdConfig(objective="share_flagged", share=0.3),
)
NEIGHBORS = st.integers(0, 3).map(lambda k: 0.3 + k * math.ulp(0.3))
"""Probabilities with no number between them."""
ROWS = st.lists(st.tuples(st.integers(0, 1), PROBABILITY | NEIGHBORS), min_size=2, max_size=40)
LEVELS = st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.6, 0.75, 0.9, 1.0])
CONFIGS = st.one_of(
    st.sampled_from([ThresholdConfig(), ThresholdConfig(objective="f1")]),
    st.sampled_from([0.1, 0.3, 1.0, 2.5, 7.0]).map(lambda c: ThresholdConfig(objective="cost", cost_ratio=c)),
    LEVELS.map(lambda p: ThresholdConfig(objective="recall_at_precision", precision=p)),
    LEVELS.map(lambda r: ThresholdConfig(objective="precision_at_recall", recall=r)),
    LEVELS.map(lambda s: ThresholdConfig(objective="share_flagged", share=s)),
)


def chosen(scored: Scored, config: ThresholdConfig = MACRO) -> Choice:
    c = as_rows(scored)
    return choose(c.positive, c.probability, config)


def table(scored: Scored, t: float) -> tuple[int, int, int, int]:
    said = [(gold, int(p is not None and p >= t)) for gold, p in scored]
    tp, fp, fn, tn = (said.count(pair) for pair in ((1, 1), (0, 1), (1, 0), (0, 0)))
    return tp, fp, fn, tn


def rank(scored: Scored, t: float, config: ThresholdConfig) -> tuple[Fraction | float, ...] | None:
    """The exact rank of a threshold, larger is better; None if it is not allowed."""
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


@given(ROWS.filter(is_defined), CONFIGS)
@example([(1, 0.3), (0, 0.3 + math.ulp(0.3))], MACRO)
@example([(0, 0.0), (1, 1.0)], MACRO)
@example([(0, 1.0), (1, 0.0)], MACRO)
@example([(1, 0.25), (0, 0.5), (1, 0.75), (0, None)], MACRO)
def test_the_threshold_equals_that_of_brute_force(scored: Scored, config: ThresholdConfig) -> None:
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
    tp, fp, fn, tn = (k or 0 for k in counts(m))
    assert found.share_flagged == (tp + fp) / (tp + fp + fn + tn)


@given(ROWS.filter(is_defined))
def test_no_other_threshold_has_a_larger_macro_f1(scored: Scored) -> None:
    best = rank(scored, chosen(scored).value or 0.0, MACRO) or (Fraction(0),)
    observed = [p for _, p in scored if p is not None]
    for t in [*observed, *(math.nextafter(p, 1) for p in observed), 0.5]:
        assert best[0] >= (rank(scored, t, MACRO) or (Fraction(0),))[0]


@given(ROWS.filter(is_defined), LEVELS)
def test_constraints_hold_exactly_or_there_is_no_threshold(scored: Scored, level: float) -> None:
    precise = chosen(scored, ThresholdConfig(objective="recall_at_precision", precision=level))
    found = chosen(scored, ThresholdConfig(objective="precision_at_recall", recall=level))
    few = chosen(scored, ThresholdConfig(objective="share_flagged", share=level))
    assert precise.precision is None or precise.precision >= level
    assert found.recall is None or found.recall >= level
    assert few.share_flagged is None or 0 < few.share_flagged <= level


@given(ROWS.filter(is_defined), CONFIGS, st.randoms())
def test_the_threshold_ignores_row_order(scored: Scored, config: ThresholdConfig, random: object) -> None:
    shuffled = list(scored)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert chosen(shuffled, config) == chosen(scored, config)


@pytest.mark.parametrize(
    ("scored", "config", "reason"),
    [
        ([], {"objective": "f1"}, "no rows were given"),
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
def test_an_unreachable_objective_is_null_with_a_reason(
    scored: Scored, config: dict[str, object], reason: str
) -> None:
    found = chosen(scored, ThresholdConfig.model_validate(config))
    assert (found.value, found.reached, found.reason) == (None, None, reason)
    json.dumps(dataclasses.asdict(found), allow_nan=False)


def test_share_flagged_works_without_positives() -> None:
    found = chosen([(0, 0.9), (0, 0.5), (0, 0.1)], ThresholdConfig(objective="share_flagged", share=0.4))
    assert found.value == pytest.approx(0.7)
    assert found.reached == pytest.approx(1 / 3)


def test_macro_f1_of_one_class_uses_the_default_threshold() -> None:
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
def test_objectives_and_their_numbers_must_match(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ThresholdConfig.model_validate(given)


def test_100_000_ties_are_resolved_in_one_pass() -> None:
    """All negatives between two positives tie in recall, and all candidates in cost."""
    sample = draw(100_000, seed=1, share=0.001)
    started = time.perf_counter()
    for config in (
        ThresholdConfig(objective="recall_at_precision", precision=0.001),
        ThresholdConfig(objective="cost", cost_ratio=1),
    ):
        assert choose(sample.positive, sample.probability, config).value is not None
    assert time.perf_counter() - started < 5


def test_costs_of_a_million_rows_are_exact() -> None:
    positive = np.arange(1_000_000) % 2 == 0
    p = np.linspace(0, 1, 1_000_000)
    found = choose(positive, p, ThresholdConfig(objective="cost", cost_ratio=1e6))
    assert found.value is not None
    assert found.recall == 1
    assert found.candidates == 1_000_001


def test_separable_classes_get_the_middle_of_the_gap() -> None:
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
        ([], "the default 0.5: no rows were given"),
        ([(0, 0.2), (0, 0.9)], "the default 0.5: all 2 rows are of one class"),
        ([(0, None), (1, None)], "the default 0.5: none of 2 rows has a probability"),
    ],
)
def test_the_default_threshold_has_a_reason(scored: Scored, reason: str) -> None:
    found = chosen(scored)
    assert found.value == 0.5
    assert found.reached is None
    assert found.reason.startswith(reason)


def test_the_threshold_of_100_000_rows_is_optimal() -> None:
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


@given(ROWS, st.data())
def test_weights_equal_repeated_rows(scored: Scored, data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(0, 3), min_size=len(scored), max_size=len(scored)))
    repeated = [row for row, k in zip(scored, weights, strict=True) for _ in range(k)]
    if not has_both(repeated) or all(p is None for _, p in repeated):
        return
    c, other = as_rows(scored), as_rows(repeated)
    drawn = np.array([weights, weights], dtype=np.int32)
    found = ResampledRows(c.positive, c.probability).candidates(drawn[:, c.positive], drawn[:, ~c.positive])
    for config in EVERY:
        at = [float(found.at[row, i]) if i >= 0 else None for row, i in enumerate(pick(found, config))]
        assert at == [choose(other.positive, other.probability, config).value] * 2, config


@pytest.mark.parametrize("config", EVERY, ids=lambda config: config.objective)
@pytest.mark.parametrize("says", [np.nan, 0.0, 0.4, 1.0])
def test_constant_and_missing_probabilities_have_a_spread(config: ThresholdConfig, says: float) -> None:
    positive = np.arange(12) % 3 == 0
    found = spread(positive, np.full(12, says), 0.5, config, resamples=20)
    out_of_reach = {"recall_at_precision", "share_flagged"} | (
        {"precision_at_recall"} if np.isnan(says) else set()
    )
    assert found.unreached == (20 if config.objective in out_of_reach else 0)


def test_more_rows_narrow_the_range_of_thresholds() -> None:
    widths = []
    for n in (100, 2500):
        sample = draw(n, seed=1)
        at = choose(sample.positive, sample.probability, MACRO).value
        assert at is not None
        found = spread(sample.positive, sample.probability, at, MACRO, resamples=300)
        assert found.low is not None
        assert found.high is not None
        assert found.low <= at <= found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 1.5


def test_optimism_is_positive_on_fitted_rows() -> None:
    sample = draw(80, seed=2)
    for config, sign in ((MACRO, 1), (ThresholdConfig(objective="cost", cost_ratio=4), 1)):
        at = choose(sample.positive, sample.probability, config).value
        assert at is not None
        found = spread(sample.positive, sample.probability, at, config, resamples=300)
        assert found.optimism is not None
        assert found.optimism * sign > 0
        assert found.objective.low is not None
        assert found.objective.value is not None
        assert found.objective.low < found.objective.value
        json.dumps(dataclasses.asdict(found), allow_nan=False)


def test_resamples_without_a_threshold_are_counted() -> None:
    sample = draw(60, seed=3, apart=0.1)
    config = ThresholdConfig(objective="recall_at_precision", precision=0.95)
    at = choose(sample.positive, sample.probability, config).value or 1.0
    found = spread(sample.positive, sample.probability, at, config, groups_of(60, 3), resamples=200)
    assert 0 < found.unreached < 200


def test_the_spread_depends_on_the_seed() -> None:
    sample = draw(60, seed=4)
    one, other, third = (
        spread(sample.positive, sample.probability, 0.5, MACRO, resamples=100, seed=seed)
        for seed in (1, 1, 2)
    )
    assert one == other
    assert one != third


def test_the_objective_of_the_spread_is_that_of_all_rows() -> None:
    sample = draw(60, seed=5)
    found = spread(sample.positive, sample.probability, 0.4, ThresholdConfig(objective="f1"), resamples=50)
    said = sample.probability >= 0.4
    tp = int((said & sample.positive).sum())
    assert found.objective.value == pytest.approx(2 * tp / (said.sum() + sample.positive.sum()), abs=1e-12)


def test_files_and_reports_name_every_objective() -> None:
    assert [rule(config) for config in EVERY] == [
        "val_max_macro_f1",
        "val_max_f1",
        "val_min_cost_3",
        "val_recall_at_precision_0.7",
        "val_precision_at_recall_0.6",
        "val_share_flagged_0.3",
    ]
    assert rule() == "val_max_macro_f1"
    assert [describe(config) for config in EVERY] == [
        "largest macro-F1",
        "largest F1",
        "least cost, a missed positive counting 3.0 wrongly flagged negatives",
        "largest recall at a precision of at least 0.7",
        "largest precision at a recall of at least 0.6",
        "most rows flagged, at most 0.3 of all",
    ]


@pytest.mark.parametrize("config", EVERY, ids=lambda config: config.objective)
def test_what_is_reached_is_the_objective_of_the_rows(config: ThresholdConfig) -> None:
    sample = draw(80, seed=6)
    found = choose(sample.positive, sample.probability, config)
    assert found.value is not None
    m = compute(sample.rows(), found.value)
    tp, fp, fn, tn = (k or 0 for k in counts(m))
    wanted = {
        "macro_f1": m["macro_f1"],
        "f1": m["f1"],
        "cost": (3 * fn + fp) / 80,
        "recall_at_precision": m["recall"],
        "precision_at_recall": m["precision"],
        "share_flagged": (tp + fp) / 80,
    }
    assert found.reached == pytest.approx(wanted[config.objective], abs=1e-12)
    assert (found.objective, tp + fp + fn + tn) == (config.objective, 80)
    of_rows = spread(sample.positive, sample.probability, found.value, config, resamples=40)
    assert of_rows.objective.value == pytest.approx(found.reached, abs=1e-12)
    assert (of_rows.resamples, of_rows.low is not None, of_rows.high is not None) == (40, True, True)


@pytest.mark.parametrize("config", EVERY, ids=lambda config: config.objective)
def test_the_spread_is_that_of_choosing_on_the_rows_of_each_resample(config: ThresholdConfig) -> None:
    """By repeating each row as often as it was drawn, and choosing on these rows from nothing."""
    sample = draw(30, seed=7, steps=10)
    positive, p = sample.positive, sample.probability
    at = choose(positive, p, config).value or 0.5
    found = spread(positive, p, at, config, resamples=60, seed=3)
    chosen_at, gains, frozen = [], [], []
    for _, up, down in weights(units_of(positive, None), 60, 3):
        for ups, downs in zip(up, down, strict=True):
            often = np.empty(30, dtype=int)
            often[positive], often[~positive] = ups, downs
            rows = np.repeat(np.arange(30), often)
            choice = choose(positive[rows], p[rows], config)
            frozen.append(reached(positive[rows], p[rows], at, config))
            if choice.value is not None:
                chosen_at.append(choice.value)
                gain = (choice.reached or 0.0) - reached(positive, p, choice.value, config)
                gains.append(-gain if config.objective == "cost" else gain)
    ends = np.quantile(chosen_at, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(ends, abs=1e-12)
    assert found.unreached == 60 - len(chosen_at)
    assert found.optimism == pytest.approx(np.nanmean(gains), abs=1e-12)
    defined = np.array(frozen)[~np.isnan(frozen)]
    assert (found.objective.low, found.objective.high) == pytest.approx(
        np.quantile(defined, [0.025, 0.975]), abs=1e-12
    )
    assert found.objective.undefined_resamples == 60 - len(defined)


def reached(positive: np.ndarray, p: np.ndarray, t: float, config: ThresholdConfig) -> float:
    """The objective's value at a threshold; NaN where it is undefined."""
    said = p >= t
    tp, fp = int((said & positive).sum()), int((said & ~positive).sum())
    fn, tn = int(positive.sum()) - tp, int((~positive).sum()) - fp
    match config.objective:
        case "macro_f1":
            return (tp / (2 * tp + fp + fn) * 2 + tn / (2 * tn + fp + fn) * 2) / 2
        case "f1":
            return 2 * tp / (2 * tp + fp + fn)
        case "cost":
            return (config.number * fn + fp) / len(p)
        case "recall_at_precision":
            return tp / (tp + fn)
        case "precision_at_recall":
            return tp / (tp + fp) if tp + fp else math.nan
        case "share_flagged":
            return (tp + fp) / len(p)


def test_the_objective_is_undefined_where_the_threshold_flags_nothing() -> None:
    sample = draw(30, seed=8)
    config = ThresholdConfig(objective="precision_at_recall", recall=0.6)
    found = spread(sample.positive, sample.probability, 1.0, config, resamples=20)
    assert found.objective.value is None
    assert found.objective.undefined == "the objective is undefined at this threshold"


@pytest.mark.parametrize("gold", [True, False])
def test_rows_of_one_class_choose_no_threshold_except_by_share(gold: bool) -> None:
    positive, p = np.full(12, gold), np.linspace(0.9, 0.1, 12)
    for config in EVERY:
        found = spread(positive, p, 0.5, config, resamples=20, seed=2)
        by_share = config.objective == "share_flagged"
        assert found.unreached == (0 if by_share else 20), config.objective
        assert (found.low is not None, found.optimism is not None) == (by_share, by_share)
        assert found.resamples == 20
