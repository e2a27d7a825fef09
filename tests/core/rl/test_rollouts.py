"""Advantages compare an answer with its group; a group without variance has none."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rl.rewards import LEAST_DEVIATION, Way, group_advantages, less_kl, mean_of

REWARDS = st.lists(st.floats(-5, 5), min_size=2, max_size=12)


@given(REWARDS)
def test_normalized_advantages_have_mean_zero_and_deviation_one(rewards: list[float]) -> None:
    found = group_advantages(rewards, "normalised")
    if statistics.pstdev(rewards) < LEAST_DEVIATION:
        assert found is None
        return
    assert found is not None
    assert statistics.fmean(found) == pytest.approx(0, abs=1e-6)
    assert statistics.pstdev(found) == pytest.approx(1, rel=1e-6)


@given(REWARDS)
def test_centered_advantages_keep_the_differences(rewards: list[float]) -> None:
    found = group_advantages(rewards, "centred")
    if found is not None:
        assert statistics.fmean(found) == pytest.approx(0, abs=1e-6)
        assert found[0] - found[1] == pytest.approx(rewards[0] - rewards[1], abs=1e-9)


@pytest.mark.parametrize("way", ["normalised", "centred"])
@pytest.mark.parametrize("rewards", [[1.0] * 8, [0.1 + 0.2, 0.3], [], [2.0]])
def test_a_group_without_variance_has_no_advantages(way: Way, rewards: list[float]) -> None:
    assert group_advantages(rewards, way) is None


def test_the_penalty_lowers_drifting_tokens_and_sums_to_zero() -> None:
    before, drifts = [[1.0, 1.0], [-1.0]], [[0.5, 0.0], [-0.2]]
    found = less_kl(before, drifts, 2.0)
    moved = [[a - b for a, b in zip(new, old, strict=True)] for new, old in zip(found, before, strict=True)]
    assert mean_of(moved) == pytest.approx(0)
    assert moved[0][0] < moved[0][1] < moved[1][0]
    assert moved[0][0] == pytest.approx(2.0 * (0.1 - 0.5))
