"""Advantages: how much better an answer is than its group (Shao et al. 2024, DeepSeekMath)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal

Way = Literal["normalised", "centred"]
LEAST_DEVIATION = 1e-6
"""A group whose rewards deviate less than this says nothing: what is left is rounding."""


def of_group(rewards: Sequence[float], way: Way) -> list[float] | None:
    """Each answer's advantage; None for a group without variance, which there is nothing to learn from.

    centred: less the mean; normalised: divided by the population's standard deviation too.
    """
    if len(rewards) < 2:
        return None
    mean, deviation = statistics.fmean(rewards), statistics.pstdev(rewards)
    if deviation < LEAST_DEVIATION:
        return None
    scale = deviation if way == "normalised" else 1.0
    return [(reward - mean) / scale for reward in rewards]


def less_kl(
    advantages: Sequence[Sequence[float]], drifts: Sequence[Sequence[float]], kl: float
) -> list[list[float]]:
    """Token advantages less a penalty on drift: how much likelier each token is than at the start (nats).

    Of the drift its mean over all tokens is taken off, so that the penalty pushes no batch as a whole.
    """
    mean = mean_of(drifts)
    return [
        [advantage + kl * (mean - drift) for advantage, drift in zip(row, of, strict=True)]
        for row, of in zip(advantages, drifts, strict=True)
    ]


def mean_of(rows: Sequence[Sequence[float]]) -> float:
    """The mean over all values of all rows; 0 where there is none."""
    count = sum(map(len, rows))
    return math.fsum(value for row in rows for value in row) / count if count else 0.0
