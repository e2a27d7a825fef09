"""Which rows go together through the model: a shared prefix first, then packs of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

# A shorter prefix is not worth a pass of its own.
_WORTH = 8
# Each row of a pack also holds the prefix's keys in attention: this many count as one token.
_KEYS_PER_TOKEN = 16


def shared_prefix(rows: Sequence[Sequence[int]], limit: int) -> int:
    """Length of the longest common prefix, at most `limit`; 0 where a pass of its own would not pay."""
    if len(rows) < 2:
        return 0
    low, high = min(map(tuple, rows)), max(map(tuple, rows))
    length = next(
        (i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high))
    )
    length = min(length, limit)
    return length if length >= _WORTH else 0


def packs(lengths: Sequence[int], budget: int, *, prefix: int = 0) -> Iterator[list[int]]:
    """Split rows, given by length, into packs of about `budget` tokens; yields indices, longest first.

    A row longer than the budget is a pack of its own.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    pack: list[int] = []
    cost = 0
    for i in order:
        price = lengths[i] + prefix // _KEYS_PER_TOKEN
        if pack and cost + price > budget:
            yield pack
            pack, cost = [], 0
        pack.append(i)
        cost += price
    if pack:
        yield pack
