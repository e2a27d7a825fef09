"""Losses, sums over positions of `weight * term`: cross-entropy, and the policy gradients of Tinker.

A term depends on the target's current log-probability and, for a policy gradient, on its log-probability
when it was sampled and on its advantage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

LossName = Literal["cross_entropy", "importance_sampling", "ppo", "cispo"]


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss by name. `clip_low` and `clip_high` bound the ratio p/q of ppo and cispo, so they lie around 1.

    importance_sampling: -(p/q) A, whose gradient is the off-policy policy gradient.
    ppo: -min((p/q) A, clip(p/q) A) (Schulman et al. 2017).
    cispo: -clip(p/q) A log p, with the clipped ratio as a constant (Chen et al. 2025, MiniMax-M1).
    """

    name: LossName
    clip_low: float = 0.0
    clip_high: float = math.inf

    @property
    def is_policy(self) -> bool:
        """Whether data need advantages and the sampler's log-probabilities."""
        return self.name != "cross_entropy"

    @property
    def clips(self) -> bool:
        """Whether the bounds are used."""
        return self.name in ("ppo", "cispo")

    def term(self, logprob: float, sampled: float = 0.0, advantage: float = 0.0) -> float:
        """Return the term of one position, for weight 1. Log-probabilities are in nats."""
        if self.name == "cross_entropy":
            return -logprob
        ratio = math.exp(logprob - sampled)
        clipped = min(max(ratio, self.clip_low), self.clip_high)
        if self.name == "cispo":
            return -clipped * advantage * logprob
        if self.name == "ppo":
            return -min(ratio * advantage, clipped * advantage)
        return -ratio * advantage


CROSS_ENTROPY = Loss("cross_entropy")
ALL_LOSSES: frozenset[str] = frozenset(get_args(LossName))
