"""Splits made from one table: stratified by label, with groups and families in one piece.

Rows are ordered by sha256 of seed and id, so that the same rows are split the same way on every
machine, whatever their order in the file.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from core.config.data import DataConfig, SplitSizes
from core.data.hashing import fraction, rank
from core.data.reading import Row
from core.errors import DataError
from core.labels import LabelSet
from core.records import Example

Table = list[list[int]]
"""Rows by split (train, val, test, left over) and by label."""
_LARGE = 4
"""A unit that would fill more than 1/4 of what a split still needs of a label is large for it."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows that stay together: `members` are their indices, `counts` the number of rows of each label."""

    key: bytes
    members: tuple[int, ...]
    counts: tuple[int, ...]


def make(rows: Sequence[Row], units: Sequence[int], config: DataConfig, seed: int) -> list[int]:
    """For each row its split: 0, 1, 2 for train, val, test, 3 for left over.

    `units` gives each row the number of its unit. Units of several rows go first, the largest before
    all, each where it is needed most; single rows then fill every label to its target exactly.
    Raises DataError where `data.sizes` asks for more rows than there are.
    """
    labels = config.labels
    need = targets(config.sizes, _counts(rows, labels))
    gathered = _gather(rows, units, labels, seed)
    placed = [3] * len(rows)
    for unit in sorted((u for u in gathered if len(u.members) > 1), key=lambda u: (-len(u.members), u.key)):
        split = _best(unit, need)
        for member in unit.members:
            placed[member] = split
        for label, count in enumerate(unit.counts):
            need[split][label] -= count
    _fill([u for u in gathered if len(u.members) == 1], need, placed)
    return placed


def subset(examples: Sequence[Example], limit: int, seed: int) -> list[int]:
    """Return the indices of at most `limit` examples (0: all), stratified by label, the first by hash."""
    if not 0 < limit < len(examples):
        return list(range(len(examples)))
    by_label: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
    for i, example in enumerate(examples):
        by_label[example.label].append((rank(seed, example.id), i))
    labels = sorted(by_label)
    quotas = apportion(limit, [len(by_label[label]) for label in labels])
    kept = (sorted(by_label[label])[:quota] for label, quota in zip(labels, quotas, strict=True))
    return sorted(i for of_label in kept for _, i in of_label)


def _counts(rows: Iterable[Row], labels: LabelSet) -> tuple[int, ...]:
    """The number of rows of each label."""
    found = Counter(row.example.label for row in rows)
    return tuple(found[label] for label in labels)


def _gather(rows: Sequence[Row], units: Sequence[int], labels: LabelSet, seed: int) -> list[Unit]:
    members: dict[int, list[int]] = defaultdict(list)
    for i, unit in enumerate(units):
        members[unit].append(i)
    return [
        Unit(
            key=min(rank(seed, rows[i].example.id) for i in places),
            members=tuple(places),
            counts=_counts((rows[i] for i in places), labels),
        )
        for places in members.values()
    ]


def _best(unit: Unit, need: Table) -> int:
    """The split that lacks most of the unit's rows; among equals by chance, weighted by what they lack.

    Where a unit is large for val or test, train comes first: such a split would hold little else.
    The chance is the hash's, so it is the same everywhere.
    """
    lack = [[max(n, 0) for n in row] for row in need]
    covered = [sum(map(min, unit.counts, row)) for row in lack]
    best = [s for s in range(len(need)) if covered[s] == max(covered)]
    if 0 in best and any(_large(unit, lack[s]) for s in best):
        return 0
    weights = [sum(lack[s]) for s in best]
    if not sum(weights):
        return 0
    point = fraction(unit.key) * sum(weights)
    for split, weight in zip(best, weights, strict=True):
        point -= weight
        if point < 0:
            return split
    return best[-1]


def _large(unit: Unit, lack: Sequence[int]) -> bool:
    return any(n * _LARGE > left for n, left in zip(unit.counts, lack, strict=True) if n)


def _fill(singles: Sequence[Unit], need: Table, placed: list[int]) -> None:
    for label in range(len(need[0])):
        ordered = sorted((u.key, u.members[0]) for u in singles if u.counts[label])
        lack = [max(row[label], 0) for row in need]
        quota = lack if sum(lack) == len(ordered) else apportion(len(ordered), lack)
        starts = [sum(quota[:s]) for s in range(len(quota) + 1)]
        for split in range(len(quota)):
            for _, place in ordered[starts[split] : starts[split + 1]]:
                placed[place] = split


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
