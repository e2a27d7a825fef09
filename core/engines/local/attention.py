"""Attention over packed rows: all other layers process one long sequence without padding.

Rows are cut into packs, each of which is one pass. Every row attends to the keys and values of a shared
prefix, which is computed once, and causally to itself. Rows are padded only inside attention, within groups
of similar length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
# Each row of a pack also holds the prefix's keys: this many count as one token.
_KEYS_PER_TOKEN = 16
# A cache of new tokens grows by this many tokens at a time.
_BLOCK = 64


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

    rows: int
    longest: int
    tokens: int
    real: Tensor | None
    """Flat positions of the tokens in the padded (rows, longest) grid; None without padding."""


@dataclass(slots=True)
class PackedPlan:
    """Attention for rows laid end to end, longest first, behind a shared prefix, which may be empty."""

    groups: tuple[Group, ...]
    prefix: PrefixMemory
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
        if self.prefix.length:
            old_k, old_v = self.prefix.layers[call.layer]
            k = torch.cat([old_k.expand(group.rows, -1, -1, -1), k], dim=2)
            v = torch.cat([old_v.expand(group.rows, -1, -1, -1), v], dim=2)
        # Query heads that share a key head are stacked along the sequence, so keys are never copied.
        heads, kv_heads, width = q.shape[1], k.shape[1], q.shape[3]
        q = q.reshape(group.rows, kv_heads, heads // kv_heads * group.longest, width)
        # True where a query sees, (share * longest, prefix + longest); layers share it.
        kind = (group.longest, call.window)
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


def packs(lengths: Sequence[int], budget: int, *, prefix: int = 0) -> Iterator[list[int]]:
    """Split rows, given by length, into packs of at least one row and about `budget` tokens.

    Yields indices, longest first.
    """
    pack, cost = list[int](), 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        price = lengths[i] + prefix // _KEYS_PER_TOKEN
        if pack and cost + price > budget:
            yield pack
            pack, cost = [], 0
        pack.append(i)
        cost += price
    if pack:
        yield pack


def packed_plan(
    lengths: Sequence[int], device: Any, prefix: PrefixMemory, record: PrefixMemory | None
) -> PackedPlan:
    """Group rows of these lengths, longest first, behind `prefix`."""
    groups, first = list[Group](), 0
    while first < len(lengths):
        longest, tokens, rows = lengths[first], 0, 0
        for length in lengths[first:]:
            padded, keys = longest * (rows + 1), (prefix.length + longest) * (rows + 1)
            if rows and (padded > (1 + _WASTE) * (tokens + length) or keys > _GROUP_KEYS):
                break
            tokens, rows = tokens + length, rows + 1
        places = None
        if tokens < rows * longest:
            ends = torch.tensor(lengths[first : first + rows])
            grid = torch.arange(longest)[None, :] < ends[:, None]
            places = grid.flatten().nonzero().squeeze(1).to(device)
        groups.append(Group(rows, longest, tokens, places))
        first += rows
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


class DecodingPlan:
    """Attention for one new token per row, over a shared prefix and each row's own keys and values.

    The own columns are a row's prompt, padding up to the longest prompt, then one for each new token.
    """

    def __init__(self, prefix: PrefixMemory, record: PrefixMemory, lengths: Sequence[int]) -> None:
        self._prefix = prefix
        device = next(iter(record.layers.values()))[0].device
        self._lengths = torch.tensor(lengths, device=device)
        self._column = max(lengths) - 1
        self._first_new = max(lengths)
        self._real = torch.arange(max(lengths), device=device)[None, :] < self._lengths[:, None]
        self._own = {i: (self._grid(k), self._grid(v)) for i, (k, v) in record.layers.items()}
        self.places = prefix.length + self._lengths - 1

    def _grid(self, packed: Tensor) -> Tensor:
        """(1, kv heads, n, d) laid end to end -> (rows, kv heads, longest, d)."""
        flat = packed[0].transpose(0, 1)
        grid = flat.new_zeros(*self._real.shape, *flat.shape[1:])
        grid[self._real] = flat
        return grid.transpose(1, 2).contiguous()

    def advance(self) -> None:
        """Add a column for the next token of every row."""
        self._column += 1
        self.places = self.places + 1
        if self._column == self._real.shape[1]:
            self._real = _wider(self._real, 1)
            self._own = {i: (_wider(k, 2), _wider(v, 2)) for i, (k, v) in self._own.items()}
        self._real[:, self._column] = True

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows."""
        self._real, self.places, self._lengths = self._real[rows], self.places[rows], self._lengths[rows]
        self._own = {i: (k[rows], v[rows]) for i, (k, v) in self._own.items()}

    def attend(self, call: Call) -> Tensor:
        keys, values = self._own[call.layer]
        keys[:, :, self._column] = call.key[0].transpose(0, 1)
        values[:, :, self._column] = call.value[0].transpose(0, 1)
        upto = self._column + 1
        rows, kv_heads, width = keys.shape[0], keys.shape[1], keys.shape[3]
        scale = call.scale if call.scale is not None else width**-0.5
        q = call.query[0].transpose(0, 1).reshape(rows, kv_heads, -1, width) * scale
        visible = self._real[:, :upto]
        if call.window is not None:
            columns = torch.arange(upto, device=keys.device)[None, :]
            gap = (self._first_new - self._lengths)[:, None]
            place = self._prefix.length + columns - torch.where(columns >= self._first_new, gap, 0)
            visible = visible & (self.places[:, None] - place < call.window)
        scores = q @ keys[:, :, :upto].transpose(2, 3)
        scores = scores.masked_fill(~visible[:, None, None], float("-inf"))
        if not self._prefix.length:
            return _joined(scores.softmax(3) @ values[:, :, :upto])
        old_keys, old_values = self._prefix.layers[call.layer]
        old = _over_prefix(q, old_keys.transpose(2, 3))
        if call.window is not None:
            columns = torch.arange(self._prefix.length, device=self.places.device)[None, :]
            visible = self.places[:, None] - columns < call.window
            old = old.masked_fill(~visible[:, None, None], float("-inf"))
        shares = torch.cat([old, scores], dim=3).softmax(3)
        before, own = shares.split([self._prefix.length, upto], dim=3)
        return _joined(_over_prefix(before, old_values) + own @ values[:, :, :upto])


def _over_prefix(rows: Tensor, shared: Tensor) -> Tensor:
    """(rows, kv heads, share, a) by one (1, kv heads, a, b) -> (rows, kv heads, share, b), one product."""
    count, kv_heads, share, _ = rows.shape
    out = rows.transpose(0, 1).reshape(kv_heads, count * share, -1) @ shared[0]
    return out.reshape(kv_heads, count, share, -1).transpose(0, 1)


def _joined(out: Tensor) -> Tensor:
    """(rows, kv heads, share, d) -> (1, heads, rows, d)."""
    return out.reshape(out.shape[0], -1, out.shape[3]).transpose(0, 1)[None]


def _wider(tensor: Tensor, axis: int) -> Tensor:
    shape = list(tensor.shape)
    shape[axis] = _BLOCK
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=axis)


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    plan: Plan | None = kwargs.pop("plan", None)
    if plan is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]
    for name in ("softcap", "position_bias", "s_aux"):
        if kwargs.get(name) is not None:
            raise NotImplementedError(name)
    if kwargs.get("dropout"):
        raise NotImplementedError("dropout inside attention")
    call = Call(module.layer_idx, query, key, value, kwargs.get("scaling"), kwargs.get("sliding_window"))
    out = plan.attend(call)
    return out.transpose(1, 2).contiguous(), None


def register() -> None:
    """Register this attention with transformers under NAME; without a plan it is plain sdpa."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
