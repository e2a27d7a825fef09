"""The threshold's spread: resamples choose as rows would, and scarce rows are less sure."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config.measure import ThresholdConfig
from core.evaluation.threshold import ResampledRows, choose, pick, spread
from tests.core.evaluation.scored import ROWS, Scored, as_rows, draw, groups_of, has_both

MACRO = ThresholdConfig()
EVERY = (
    MACRO,
    ThresholdConfig(objective="f1"),
    ThresholdConfig(objective="cost", cost_ratio=3),
    ThresholdConfig(objective="recall_at_precision", precision=0.7),
    ThresholdConfig(objective="precision_at_recall", recall=0.6),
    ThresholdConfig(objective="share_flagged", share=0.3),
)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.data())
def test_weights_choose_what_rows_that_often_would(scored: Scored, data: st.DataObject) -> None:
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
def test_rows_that_all_say_the_same_or_nothing_have_a_spread_too(
    config: ThresholdConfig, says: float
) -> None:
    positive = np.arange(12) % 3 == 0
    found = spread(positive, np.full(12, says), 0.5, config, resamples=20)
    out_of_reach = {"recall_at_precision", "share_flagged"} | (
        {"precision_at_recall"} if np.isnan(says) else set()
    )
    assert found.unreached == (20 if config.objective in out_of_reach else 0)


def test_more_rows_make_the_threshold_surer() -> None:
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


def test_what_was_fitted_looks_better_than_it_is() -> None:
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
        json.dumps(found.to_json(), allow_nan=False)


def test_resamples_without_a_threshold_are_counted() -> None:
    sample = draw(60, seed=3, apart=0.1)
    config = ThresholdConfig(objective="recall_at_precision", precision=0.95)
    at = choose(sample.positive, sample.probability, config).value or 1.0
    found = spread(sample.positive, sample.probability, at, config, groups_of(60, 3), resamples=200)
    assert 0 < found.unreached < 200


def test_equal_seeds_give_equal_spreads() -> None:
    sample = draw(60, seed=4)
    one, other, third = (
        spread(sample.positive, sample.probability, 0.5, MACRO, resamples=100, seed=seed)
        for seed in (1, 1, 2)
    )
    assert one == other
    assert one != third


def test_the_frozen_thresholds_objective_is_that_of_the_rows() -> None:
    sample = draw(60, seed=5)
    found = spread(sample.positive, sample.probability, 0.4, ThresholdConfig(objective="f1"), resamples=50)
    said = sample.probability >= 0.4
    tp = int((said & sample.positive).sum())
    assert found.objective.value == pytest.approx(2 * tp / (said.sum() + sample.positive.sum()), abs=1e-12)
