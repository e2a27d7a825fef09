"""Compute losses at the positions that have a weight, without keeping their logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from core.engines.base import Datum
from core.engines.local.backbone import Backbone
from core.engines.losses import Loss
from core.errors import DataError

# 256 positions over 49,152 words are 50 MB of logits.
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Terms:
    """A loss at n positions. All tensors (n,); the last two are None for cross-entropy."""

    loss: Loss
    targets: Tensor
    weights: Tensor
    sampled: Tensor | None = None
    advantages: Tensor | None = None

    def at(self, nll: Tensor, places: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return the weighted terms of targets with these `nll` (nats) at `places`, and their derivatives."""
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


def pack_terms(
    data: Sequence[Datum], spans: Sequence[tuple[int, int]], loss: Loss, device: torch.device
) -> tuple[Tensor, Terms]:
    """Return the weighted positions of the spans, laid end to end, and their terms."""
    ends = list(zip(data, spans, strict=True))
    weights = torch.tensor([w for datum, (a, b) in ends for w in datum.weights[a:b]])
    columns = [torch.tensor([t for datum, (a, b) in ends for t in datum.targets[a:b]]), weights]
    assert len(weights) == len(columns[0]) == sum(b - a for a, b in spans)
    if loss.is_policy:
        columns.append(torch.tensor([q for datum, (a, b) in ends for q in datum.logprobs[a:b]]))
        columns.append(torch.tensor([x for datum, (a, b) in ends for x in datum.advantages[a:b]]))
        if not len(columns[2]) == len(columns[3]) == len(weights):
            raise DataError(
                f"loss {loss.name} needs a log-probability and an advantage at each position, "
                f"cross_entropy none"
            )
    places = weights.nonzero().squeeze(1)
    return places.to(device), Terms(loss, *(column[places].to(device) for column in columns))


def weighted_loss(backbone: Backbone, features: Tensor, terms: Terms) -> Tensor:
    """Return the sum of weighted terms (nats, fp32) of targets by features (n, width)."""
    head = backbone.model.get_output_embeddings()
    if not backbone.shortcuts.head or type(head) is not nn.Linear:
        nll = cross_entropy(backbone.logits(features), terms.targets, reduction="none")
        values, slopes = terms.at(nll.detach(), slice(None))
        # The derivatives are constants here: this has the loss's gradient, then its value.
        linear_in_nll = (nll * slopes).sum()
        return linear_in_nll + (values.sum() - linear_in_nll).detach()
    dtype = backbone.autocast or torch.float32
    bias = None if head.bias is None else head.bias.to(dtype)
    return _HeadLoss.apply(features, head.weight.to(dtype), bias, terms)


class _HeadLoss(torch.autograd.Function):  # type: ignore[misc]
    """features (n, width), frozen head (vocabulary, width) -> loss ()."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, head: Tensor, bias: Tensor | None, terms: Terms) -> Tensor:
        grad = torch.empty_like(features)
        total = torch.zeros((), device=features.device)
        with torch.autocast(features.device.type, enabled=False):
            for at in torch.arange(len(terms.targets), device=features.device).split(_CHUNK):
                logits = linear(features[at].to(head.dtype), head, bias).float()
                norm, target = logits.logsumexp(1, keepdim=True), terms.targets[at, None]
                values, slopes = terms.at((norm - logits.gather(1, target))[:, 0], at)
                total += values.sum()
                # d nll / d logits = softmax - one-hot
                steep = slopes[:, None]
                slope = logits.sub_(norm).exp_().mul_(steep).scatter_add_(1, target, -steep)
                grad[at] = (slope.to(head.dtype) @ head).to(grad.dtype)
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.saved_tensors[0] * grads[0], None, None, None
