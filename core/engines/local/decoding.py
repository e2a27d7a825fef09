"""Attention for one new token per row, over a shared prefix and each row's own past."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.engines.local.attention import Call, PrefixMemory

# Room for new tokens is made this many at a time.
_BLOCK = 64


class DecodingPlan:
    """A batch's own keys and values; the shared prefix's are kept once, not once a row.

    Own columns: a row's prompt from the left, nothing up to the longest prompt, then one column
    for each new token.
    """

    def __init__(self, prefix: PrefixMemory, record: PrefixMemory, lengths: Sequence[int]) -> None:
        self._prefix = prefix
        device = next(iter(record.layers.values()))[0].device
        self._lengths = torch.tensor(lengths, device=device)
        self._column = max(lengths) - 1
        self._first_new = max(lengths)
        grid = torch.arange(max(lengths), device=device)[None, :] < self._lengths[:, None]
        self._real = grid
        self._own = {i: (_grid(k, grid), _grid(v, grid)) for i, (k, v) in record.layers.items()}
        self.places = prefix.length + self._lengths - 1

    def advance(self) -> None:
        """Make room for the next token of every row."""
        self._column += 1
        self.places = self.places + 1
        if self._column == self._real.shape[1]:
            self._real = _wider(self._real, 1)
            self._own = {i: (_wider(k, 2), _wider(v, 2)) for i, (k, v) in self._own.items()}
        self._real[:, self._column] = True

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these."""
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
        scores = q @ keys[:, :, :upto].transpose(2, 3)
        scores = scores.masked_fill(~self._own_visible(call.window)[:, None, None], float("-inf"))
        if not self._prefix.length:
            return _joined(scores.softmax(3) @ values[:, :, :upto])
        old_keys, old_values = self._prefix.layers[call.layer]
        old = _over_prefix(q, old_keys.transpose(2, 3))
        if call.window is not None:
            old = old.masked_fill(~self._prefix_visible(call.window)[:, None, None], float("-inf"))
        shares = torch.cat([old, scores], dim=3).softmax(3)
        before, own = shares.split([self._prefix.length, upto], dim=3)
        return _joined(_over_prefix(before, old_values) + own @ values[:, :, :upto])

    def _own_visible(self, window: int | None) -> Tensor:
        """(rows, columns so far): which own columns each row's new token sees."""
        real = self._real[:, : self._column + 1]
        if window is None:
            return real
        columns = torch.arange(self._column + 1, device=real.device)[None, :]
        gap = (self._first_new - self._lengths)[:, None]
        place = self._prefix.length + columns - torch.where(columns >= self._first_new, gap, 0)
        return real & (self.places[:, None] - place < window)

    def _prefix_visible(self, window: int) -> Tensor:
        columns = torch.arange(self._prefix.length, device=self.places.device)[None, :]
        return self.places[:, None] - columns < window


def _over_prefix(rows: Tensor, shared: Tensor) -> Tensor:
    """(rows, kv heads, share, a) by one (1, kv heads, a, b) -> (rows, kv heads, share, b), one product."""
    count, kv_heads, share, _ = rows.shape
    out = rows.transpose(0, 1).reshape(kv_heads, count * share, -1) @ shared[0]
    return out.reshape(kv_heads, count, share, -1).transpose(0, 1)


def _joined(out: Tensor) -> Tensor:
    """(rows, kv heads, share, d) -> (1, heads, rows, d)."""
    return out.reshape(out.shape[0], -1, out.shape[3]).transpose(0, 1)[None]


def _grid(packed: Tensor, real: Tensor) -> Tensor:
    """(1, kv heads, n, d) laid end to end -> (rows, kv heads, longest, d)."""
    flat = packed[0].transpose(0, 1)
    grid = flat.new_zeros(*real.shape, *flat.shape[1:])
    grid[real] = flat
    return grid.transpose(1, 2).contiguous()


def _wider(tensor: Tensor, axis: int) -> Tensor:
    shape = list(tensor.shape)
    shape[axis] = _BLOCK
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=axis)
