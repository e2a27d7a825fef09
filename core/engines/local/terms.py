"""The terms of a loss on tensors, each with its slope: what core.engines.losses says of one position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.engines.base import Datum
from core.engines.losses import Loss
from core.errors import DataError


@dataclass(frozen=True, slots=True)
class Terms:
    """A loss at n positions. All tensors (n,); the last two are None for cross-entropy."""

    loss: Loss
    targets: Tensor
    weights: Tensor
    sampled: Tensor | None = None
    advantages: Tensor | None = None

    def to(self, device: torch.device) -> Terms:
        """The same on another device."""
        moved = (
            None if each is None else each.to(device)
            for each in (self.targets, self.weights, self.sampled, self.advantages)
        )
        return Terms(self.loss, *moved)

    def at(self, nll: Tensor, places: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Weighted terms at `places`, whose targets have these `nll` (nats), and their slopes by it."""
        weights = self.weights[places]
        if self.sampled is None or self.advantages is None:
            return nll * weights, weights
        advantages = self.advantages[places] * weights
        ratio = (-nll - self.sampled[places]).exp()
        if self.loss.name == "importance_sampling":
            return -ratio * advantages, ratio * advantages
        clipped = ratio.clamp(self.loss.clip_low, self.loss.clip_high)
        if self.loss.name == "cispo":
            return clipped * advantages * nll, clipped * advantages
        plain, bounded = ratio * advantages, clipped * advantages
        return -torch.minimum(plain, bounded), torch.where(plain <= bounded, plain, 0.0)


def pack_terms(data: Sequence[Datum], spans: Sequence[tuple[int, int]], loss: Loss) -> tuple[Tensor, Terms]:
    """Which positions of the spans, laid end to end, bear loss, and their terms."""
    ends = list(zip(data, spans, strict=True))
    weights = torch.tensor([w for datum, (a, b) in ends for w in datum.weights[a:b]])
    targets = torch.tensor([t for datum, (a, b) in ends for t in datum.targets[a:b]])
    assert len(weights) == len(targets) == sum(b - a for a, b in spans)
    places = weights.nonzero().squeeze(1)
    if not loss.is_policy:
        return places, Terms(loss, targets[places], weights[places])
    sampled = torch.tensor([q for datum, (a, b) in ends for q in datum.logprobs[a:b]])
    advantages = torch.tensor([x for datum, (a, b) in ends for x in datum.advantages[a:b]])
    if not len(sampled) == len(advantages) == len(weights):
        raise DataError(
            f"loss {loss.name} needs a log-probability and an advantage at each position, cross_entropy none"
        )
    return places, Terms(loss, targets[places], weights[places], sampled[places], advantages[places])
