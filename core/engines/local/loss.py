"""A loss at the positions that bear it, without keeping their logits.

A position's logits over 150,000 words are 600 kB in fp32, and torch would keep three copies. The
output layer is frozen, so the gradient at its input is taken chunk by chunk while the logits are
at hand (as in Liger Kernel, Hsu et al. 2024), and only that is kept. A term of the loss hangs on its
own position alone, so its slope is known as soon as the target's log-probability is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from core.engines.local.backbone import Backbone
from core.engines.local.terms import Terms

# 256 positions over 49,152 words are 50 MB of logits.
_CHUNK = 256


def weighted_loss(backbone: Backbone, features: Tensor, terms: Terms) -> Tensor:
    """Sum of weighted terms (nats, fp32) of targets by features (n, width)."""
    head = backbone.model.get_output_embeddings()
    if not backbone.shortcuts.head or type(head) is not nn.Linear:
        nll = cross_entropy(backbone.logits(features), terms.targets, reduction="none")
        values, slopes = terms.at(nll.detach(), slice(None))
        # The slopes are constants here: this has the loss's gradient, and then its value.
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
                norm, said = logits.logsumexp(1, keepdim=True), terms.targets[at, None]
                values, slopes = terms.at((norm - logits.gather(1, said))[:, 0], at)
                total += values.sum()
                # d nll / d logits = softmax - one-hot
                steep = slopes[:, None]
                slope = logits.sub_(norm).exp_().mul_(steep).scatter_add_(1, said, -steep)
                grad[at] = (slope.to(head.dtype) @ head).to(grad.dtype)
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.saved_tensors[0] * grads[0], None, None, None
