"""Attention over packed rows: every other layer sees one long sequence without padding.

A prompt prefix that many rows share is computed once; its keys and values are kept in a
`PrefixMemory` and every row of a pack attends to them and, causally, to itself. Rows are padded
only inside attention, within groups of similar length.
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
    """The architecture asks its attention for something that packing does not do."""


class Plan(Protocol):
    """What a forward pass hands to every layer's attention."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """(1, heads, n, d) and twice (1, kv heads, n, d) -> (1, heads, n, d)."""


@dataclass(slots=True)
class PrefixMemory:
    """Keys and values of a shared prefix, by layer, each (1, kv heads, length, d)."""

    length: int = 0
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def leaves(self) -> PrefixMemory:
        """The same values cut from their graph, so that several packs add up one gradient."""
        cut = {
            i: (k.detach().requires_grad_(), v.detach().requires_grad_()) for i, (k, v) in self.layers.items()
        }
        return PrefixMemory(self.length, cut)


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring rows of a pack that one attention call serves."""

    start: int
    rows: int
    longest: int
    real: Tensor | None
    """Flat places of the real tokens in the padded (rows, longest) grid; None without padding."""
    mask: Tensor
    """(longest, prefix + longest): True where a query may look."""

    @property
    def tokens(self) -> int:
        return self.rows * self.longest if self.real is None else int(self.real.numel())


@dataclass(slots=True)
class PackedPlan:
    """Attention for rows laid end to end, longest first, behind an optional shared prefix."""

    groups: tuple[Group, ...]
    prefix: PrefixMemory | None = None
    record: PrefixMemory | None = None
    """Where this pass leaves its own keys and values, if anybody wants them."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        if self.record is not None:
            self.record.layers[layer] = (key, value)
        before = self.prefix.layers[layer] if self.prefix is not None else None
        return torch.cat(
            [_attend_group(group, before, query, key, value, scale) for group in self.groups], dim=2
        )


def packed_plan(
    lengths: Sequence[int],
    *,
    prefix: PrefixMemory | None = None,
    record: PrefixMemory | None = None,
    device: Any = "cpu",
    window: int | None = None,
) -> PackedPlan:
    """Group rows of these lengths (longest first); `window` is the reach of sliding attention."""
    before = prefix.length if prefix is not None else 0
    groups, start, row = [], 0, 0
    while row < len(lengths):
        taken = _together(lengths[row:], before)
        groups.append(_group(start, taken, before, device, window))
        start, row = start + sum(taken), row + len(taken)
    return PackedPlan(tuple(groups), prefix, record)


def _together(lengths: Sequence[int], before: int) -> list[int]:
    longest, real = lengths[0], 0
    for count, length in enumerate(lengths, start=1):
        real += length
        if count > 1 and (longest * count > (1 + _WASTE) * real or count * (before + longest) > _GROUP_KEYS):
            return list(lengths[: count - 1])
    return list(lengths)


def _group(start: int, lengths: list[int], before: int, device: Any, window: int | None) -> Group:
    longest = lengths[0]
    mask = torch.ones(longest, before + longest, dtype=torch.bool, device=device).tril(before)
    if window is not None:
        mask = mask.triu(before - window + 1)
    real = None
    if lengths[-1] != longest:
        grid = torch.arange(longest)[None, :] < torch.tensor(lengths)[:, None]
        real = grid.flatten().nonzero().squeeze(1).to(device)
    return Group(start, len(lengths), longest, real, mask)


def _attend_group(
    group: Group,
    before: tuple[Tensor, Tensor] | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float | None,
) -> Tensor:
    q, k, v = (_rows(group, part) for part in (query, key, value))
    if before is not None:
        k, v = (
            torch.cat([old.expand(group.rows, -1, -1, -1), new], dim=2)
            for old, new in zip(before, (k, v), strict=True)
        )
    # Query heads that share a key head are stacked along the sequence, so keys are never copied.
    heads, kv_heads, width = q.shape[1], k.shape[1], q.shape[3]
    share = heads // kv_heads
    q = q.reshape(group.rows, kv_heads, share * group.longest, width)
    mask = group.mask.repeat(share, 1) if share > 1 else group.mask
    out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return _flat(group, out.reshape(group.rows, heads, group.longest, -1))


def _rows(group: Group, part: Tensor) -> Tensor:
    """(1, heads, n, d) -> (rows, heads, longest, d), with zeros where a row is shorter."""
    flat = part[0, :, group.start : group.start + group.tokens].transpose(0, 1)
    if group.real is not None:
        padded = flat.new_zeros(group.rows * group.longest, *flat.shape[1:])
        flat = padded.index_copy(0, group.real, flat)
    return flat.reshape(group.rows, group.longest, *flat.shape[1:]).transpose(1, 2)


def _flat(group: Group, out: Tensor) -> Tensor:
    """(rows, heads, longest, d) -> (1, heads, real tokens, d)."""
    flat = out.transpose(1, 2).reshape(group.rows * group.longest, out.shape[1], out.shape[3])
    if group.real is not None:
        flat = flat.index_select(0, group.real)
    return flat.transpose(0, 1)[None]


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
    out = plan.attend(module.layer_idx, query, key, value, kwargs.get("scaling"))
    return out.transpose(1, 2).contiguous(), None


def register() -> None:
    """Make this attention known to transformers under NAME; without a plan it is plain sdpa."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
