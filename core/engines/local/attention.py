"""Attention over packed rows: all other layers process one long sequence without padding.

A prompt prefix that many rows share is computed once; its keys and values are kept in a `PrefixMemory`, and
every row of a pack attends to them and, causally, to itself. Rows are padded only inside attention, within
groups of similar length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "understudy_packed"

# Rows are grouped while padding them to the longest adds at most this share.
_WASTE = 0.25
# Keys that one group may hold; beyond it, groups are split to bound memory.
_GROUP_KEYS = 65536


class Unsupported(Exception):
    """The architecture needs something of its attention that packing does not implement."""


@dataclass(frozen=True, slots=True)
class Call:
    """One layer's attention, as transformers calls it."""

    layer: int
    query: Tensor
    """(1, heads, n, d)."""
    key: Tensor
    """(1, kv heads, n, d), as `value`."""
    value: Tensor
    scale: float | None
    window: int | None
    """How many tokens back a query sees, itself counted; None without limit."""


class Plan(Protocol):
    """Passed by a forward pass to every layer's attention."""

    def attend(self, call: Call) -> Tensor:
        """Return attention's output for one layer, (1, heads, n, d)."""


@dataclass(slots=True)
class PrefixMemory:
    """Keys and values of a shared prefix, by layer, each (1, kv heads, length, d)."""

    length: int = 0
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    windows: dict[int, int | None] = field(default_factory=dict)
    """How far back each layer sees."""

    def leaves(self) -> PrefixMemory:
        """Return the same values, detached from their graph, so that several packs add up one gradient."""
        cut = {
            i: (k.detach().requires_grad_(), v.detach().requires_grad_()) for i, (k, v) in self.layers.items()
        }
        return PrefixMemory(self.length, cut, self.windows)

    def backward(self, leaves: PrefixMemory) -> None:
        """Propagate the gradient that all packs added to `leaves` into the weights."""
        pairs = [
            (root, leaf.grad)
            for layer, pair in self.layers.items()
            for root, leaf in zip(pair, leaves.layers[layer], strict=True)
            if leaf.grad is not None and root.requires_grad
        ]
        if pairs:
            torch.autograd.backward([root for root, _ in pairs], [grad for _, grad in pairs])


@dataclass(frozen=True, slots=True)
class Group:
    """Adjacent rows of a pack that one attention call serves."""

    start: int
    rows: int
    longest: int
    real: Tensor | None
    """Flat positions of the real tokens in the padded (rows, longest) grid; None without padding."""
    tokens: int
    """Real ones."""


@dataclass(slots=True)
class PackedPlan:
    """Attention for rows laid end to end, longest first, behind an optional shared prefix."""

    groups: tuple[Group, ...]
    prefix: PrefixMemory | None = None
    record: PrefixMemory | None = None
    """Receives the keys and values of this pass, if given."""
    _masks: dict[tuple[int, int | None], Tensor] = field(default_factory=dict)

    def attend(self, call: Call) -> Tensor:
        if self.record is not None:
            self.record.layers[call.layer] = (call.key, call.value)
            self.record.windows[call.layer] = call.window
        # One split, since its gradient is one concatenation; a slice's would be a zero-filled copy.
        sizes = [group.tokens for group in self.groups]
        parts = zip(*(part.split(sizes, dim=2) for part in (call.query, call.key, call.value)), strict=True)
        groups = zip(self.groups, parts, strict=True)
        return torch.cat([self._attend_group(group, call, *part) for group, part in groups], dim=2)

    def _attend_group(self, group: Group, call: Call, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (_rows(group, part) for part in (query, key, value))
        if self.prefix is not None:
            old_k, old_v = self.prefix.layers[call.layer]
            k = torch.cat([old_k.expand(group.rows, -1, -1, -1), k], dim=2)
            v = torch.cat([old_v.expand(group.rows, -1, -1, -1), v], dim=2)
        # Query heads that share a key head are stacked along the sequence, so keys are never copied.
        heads, kv_heads, width = q.shape[1], k.shape[1], q.shape[3]
        q = q.reshape(group.rows, kv_heads, heads // kv_heads * group.longest, width)
        # True where a query sees, (share * longest, prefix + longest); layers share it.
        kind = (group.start, call.window)
        if kind not in self._masks:
            before = k.shape[2] - group.longest
            mask = torch.ones(group.longest, k.shape[2], dtype=torch.bool, device=q.device).tril(before)
            if call.window is not None:
                mask = mask.triu(before - call.window + 1)
            self._masks[kind] = mask.repeat(heads // kv_heads, 1)
        out = scaled_dot_product_attention(q, k, v, attn_mask=self._masks[kind], scale=call.scale)
        # (rows, heads, longest, d) -> (1, heads, real tokens, d)
        out = out.reshape(group.rows, heads, group.longest, -1).transpose(1, 2)
        flat = out.reshape(group.rows * group.longest, heads, out.shape[3])
        flat = flat if group.real is None else _Gather.apply(flat, group.real)
        return flat.transpose(0, 1)[None]


def packed_plan(
    lengths: Sequence[int], device: Any, prefix: PrefixMemory | None, record: PrefixMemory | None
) -> PackedPlan:
    """Group rows of these lengths, longest first, behind `prefix`."""
    before = prefix.length if prefix is not None else 0
    groups, start, first = [], 0, 0
    while first < len(lengths):
        longest, tokens, rows = lengths[first], 0, 0
        for length in lengths[first:]:
            padded, real = longest * (rows + 1), tokens + length
            if rows and (padded > (1 + _WASTE) * real or (rows + 1) * (before + longest) > _GROUP_KEYS):
                break
            tokens, rows = real, rows + 1
        places = None
        if tokens < rows * longest:
            ends = torch.tensor(lengths[first : first + rows])
            grid = torch.arange(longest)[None, :] < ends[:, None]
            places = grid.flatten().nonzero().squeeze(1).to(device)
        groups.append(Group(start, rows, longest, places, tokens))
        start, first = start + tokens, first + rows
    return PackedPlan(tuple(groups), prefix, record)


def _rows(group: Group, part: Tensor) -> Tensor:
    """(1, heads, real tokens, d) -> (rows, heads, longest, d), with zeros where a row is shorter."""
    flat = part[0].transpose(0, 1)
    if group.real is not None:
        flat = _Spread.apply(flat, group.real, group.rows * group.longest)
    return flat.reshape(group.rows, group.longest, *flat.shape[1:]).transpose(1, 2)


class _Spread(torch.autograd.Function):  # type: ignore[misc]
    """Put rows at their (distinct) places among zeros; the gradient is _Gather."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, places: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(places)
        return flat.new_zeros(size, *flat.shape[1:]).index_copy_(0, places, flat)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0].index_select(0, ctx.saved_tensors[0]), None, None


class _Gather(torch.autograd.Function):  # type: ignore[misc]
    """Take rows at distinct places. index_select's own gradient adds row by row, many times slower."""

    @staticmethod
    def forward(ctx: Any, spread: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.size = spread.shape[0]
        return spread.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0]
        return grad.new_zeros(ctx.size, *grad.shape[1:]).index_copy_(0, ctx.saved_tensors[0], grad), None


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    plan: Plan | None = kwargs.pop("plan", None)
    if plan is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]
    for name in ("softcap", "position_bias", "s_aux"):
        if kwargs.get(name) is not None:
            raise Unsupported(name)
    if kwargs.get("dropout"):
        raise Unsupported("dropout inside attention")
    call = Call(module.layer_idx, query, key, value, kwargs.get("scaling"), kwargs.get("sliding_window"))
    out = plan.attend(call)
    return out.transpose(1, 2).contiguous(), None


def register() -> None:
    """Register this attention with transformers under NAME; without a plan it is plain sdpa."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
