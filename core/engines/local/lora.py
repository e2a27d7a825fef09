"""A LoRA layer's forward and backward with as few passes over memory as it takes.

peft computes `base(x) + B(A(dropout(x))) * scale` as separate operations; on a CPU, reading and
writing their intermediate results costs a fifth of a training step. The formula is that of
Hu et al. 2021; peft keeps the weights, their names and their files.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn.functional import linear

from core.engines.local.adapter import ADAPTER_NAME


def speed_up(wrapped: Any, dtype: torch.dtype | None) -> None:
    """Let every LoRA layer of a wrapped model use the fused formula, in `dtype` if one is given.

    With bf16 the frozen matrices are kept in bf16: autocast would round them to the same values
    again in every pass.
    """
    for module in wrapped.modules():
        if isinstance(module, LoraLinear):
            if dtype is not None:
                _round_frozen(module.base_layer, dtype, wrapped)
            module.forward = functools.partial(_forward, module, dtype)


def _round_frozen(base: Any, dtype: torch.dtype, wrapped: Any) -> None:
    if base.weight is not wrapped.get_input_embeddings().weight:
        base.weight = nn.Parameter(base.weight.data.to(dtype), requires_grad=False)
    if base.bias is not None:
        base.bias = nn.Parameter(base.bias.data.to(dtype), requires_grad=False)


def _forward(layer: Any, dtype: torch.dtype | None, x: Tensor) -> Tensor:
    down, up = layer.lora_A[ADAPTER_NAME].weight, layer.lora_B[ADAPTER_NAME].weight
    base, scale = layer.base_layer, layer.scaling[ADAPTER_NAME]
    kept = _kept(layer.lora_dropout[ADAPTER_NAME], x)
    if dtype is not None:
        x, kept = x.to(dtype), None if kept is None else kept.to(dtype)
    return _Fused.apply(x, base.weight, base.bias, down, up, scale, kept)


def _kept(dropout: Any, x: Tensor) -> Tensor | None:
    """Dropout's factors: 0 or 1 / (1 - p) for each input; None where nothing is dropped."""
    if not (dropout.training and getattr(dropout, "p", 0.0)):
        return None
    return dropout(torch.ones_like(x))


class _Fused(torch.autograd.Function):  # type: ignore[misc]
    """x (…, in), frozen weight (out, in), down (rank, in), up (out, rank) -> (…, out)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
        kept: Tensor | None,
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        weight, down, up = weight.to(x.dtype), down.to(x.dtype), up.to(x.dtype)
        low = linear(flat if kept is None else flat * kept.reshape(flat.shape), down)
        out = linear(flat, weight, bias)
        out.addmm_(low, up.t(), alpha=scale)
        ctx.save_for_backward(flat, low, weight, down, up, *(() if kept is None else (kept,)))
        ctx.scale = scale
        return out.reshape(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        flat, low, weight, down, up, *rest = ctx.saved_tensors
        grad = grads[0].reshape(-1, weight.shape[0])
        kept = rest[0].reshape(flat.shape) if rest else None
        grad_low = (grad @ up).mul_(ctx.scale)
        grad_up = (grad.t() @ low).mul_(ctx.scale).float()
        grad_down = (grad_low.t() @ (flat if kept is None else flat * kept)).float()
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ weight
            if kept is None:
                grad_x.addmm_(grad_low, down)
            else:
                grad_x.addcmul_(grad_low @ down, kept)
            grad_x = grad_x.reshape(*grads[0].shape[:-1], -1)
        return grad_x, None, None, grad_down, grad_up, None, None
