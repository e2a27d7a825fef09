"""Whole numbers that add up: how many rows of each label each split should have."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from core.config.data import SplitSizes
from core.errors import DataError

Table = list[list[int]]
"""Rows by split (train, val, test, left over) and by label."""


def targets(sizes: SplitSizes, labels: Sequence[int]) -> Table:
    """How many rows of each label each split should get; the fourth row is what counts leave over.

    `labels` are the numbers of rows of each label. Raises DataError for more than there are.
    """
    wanted = [sizes.train, sizes.val, sizes.test]
    total = sum(labels)
    if sizes.train < 1:
        counts = [*apportion(total, [Fraction(str(share)) for share in wanted]), 0]
    else:
        left = total - int(sum(wanted))
        if left < 0:
            raise DataError(
                f"data.sizes asks for {int(sum(wanted))} rows and {total} are there after cleaning; "
                f"lower the counts or give shares"
            )
        counts = [*map(int, wanted), left]
    _, *others = (apportion(n, counts) for n in labels)
    first = [n - sum(of_others) for n, *of_others in zip(counts, *others, strict=True)]
    return [list(row) for row in zip(first, *others, strict=True)]


def apportion(total: int, weights: Sequence[int | Fraction]) -> list[int]:
    """`total` in whole parts in proportion to `weights`, by largest remainder (Hamilton's method)."""
    whole = sum(weights)
    if not whole:
        return [0] * len(weights)
    exact = [Fraction(total) * weight / whole for weight in weights]
    parts = [int(part) for part in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: (parts[i] - exact[i], i))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts
