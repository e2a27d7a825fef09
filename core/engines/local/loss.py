"""Weighted cross-entropy at the positions that bear loss, without keeping their logits.

A position's logits over 150,000 words are 600 kB in fp32, and torch would keep three copies. The
output layer is frozen, so the gradient at its input is taken chunk by chunk while the logits are
at hand (as in Liger Kernel, Hsu et al. 2024), and only that is kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from core.engines.local.backbone import Backbone

# 256 positions over 49,152 words are 50 MB of logits.
_CHUNK = 256


def weighted_loss(backbone: Backbone, features: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Sum of weights times negative log-likelihood (nats, fp32) of targets by features (n, width)."""
    head = backbone.model.get_output_embeddings()
    if not backbone.shortcuts.head or type(head) is not nn.Linear:
        return (cross_entropy(backbone.logits(features), targets, reduction="none") * weights).sum()
    dtype = backbone.autocast or torch.float32
    bias = None if head.bias is None else head.bias.to(dtype)
    return _HeadLoss.apply(features, head.weight.to(dtype), bias, targets, weights)


class _HeadLoss(torch.autograd.Function):  # type: ignore[misc]
    """features (n, width), frozen head (vocabulary, width) -> loss ()."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, head: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor
    ) -> Tensor:
        grad = torch.empty_like(features)
        total = torch.zeros((), device=features.device)
        with torch.autocast(features.device.type, enabled=False):
            for at in torch.arange(len(targets), device=features.device).split(_CHUNK):
                logits = linear(features[at].to(head.dtype), head, bias).float()
                norm, weight = logits.logsumexp(1, keepdim=True), weights[at, None]
                said = targets[at, None]
                total += ((norm - logits.gather(1, said)) * weight).sum()
                # d nll / d logits = softmax - one-hot
                slope = logits.sub_(norm).exp_().mul_(weight).scatter_add_(1, said, -weight)
                grad[at] = (slope.to(head.dtype) @ head).to(grad.dtype)
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.saved_tensors[0] * grads[0], None, None, None, None
