"""From cleaned rows to train, val and test: given, or made here, within the limits of the config.

Splits made here are stratified by label and never separate a unit: rows of one group, one family of
near-duplicates, or one text. Rows are ordered by sha256 of seed and id, whatever their order in the file.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from core.config import DataConfig, NearDuplicates, SplitSizes
from core.data.duplicates import Cleaned, families, join_families
from core.data.labeled_rows import TableRow
from core.errors import DataError
from core.progress import Progress, Silent
from core.records import BINARY, SPLITS, Example, LabelSet, SplitName

Splits = dict[SplitName, list[TableRow]]
Table = list[list[int]]
"""Numbers of rows by split (train, val, test, left over) and by label."""
_LARGE = 4
"""A unit that would fill more than 1/4 of what a split still needs of a label is large for it."""


@dataclass(frozen=True, slots=True)
class Giant:
    """A family or unit so large that it decides what a split is like."""

    kind: str
    rows: int
    share: float
    example_id: str


@dataclass(frozen=True, slots=True)
class SplitUnits:
    """The unit number of each row, and how many families and units have more than one row.

    `giants` have more than the configured share of all rows.
    """

    of_row: list[int]
    families: int | None
    rows_in_families: int
    several: int
    giants: tuple[Giant, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """Three splits, `whole` before and `used` after `max_*_examples`.

    `units` is None if the splits were given. `not_needed` counts the rows that fixed sizes leave over.
    """

    whole: Splits
    used: Splits
    how: str
    units: SplitUnits | None
    not_needed: int


@dataclass(frozen=True, slots=True)
class _Unit:
    """The indices of rows that stay together, and their number by label."""

    key: bytes
    members: list[int]
    counts: list[int]


def split(cleaned: Cleaned, config: DataConfig, seed: int, progress: Progress | None = None) -> Split:
    """Return the three splits. Raises DataError if one is empty or train has a single class."""
    units, left_over = None, 0
    if None in cleaned.parts:
        rows = cleaned.parts[None]
        units = find_units(rows, config.near_duplicates, progress or Silent())
        assigned = assign(rows, units.of_row, config, seed)
        placed = list(zip(rows, assigned, strict=True))
        whole = {name: [row for row, at in placed if at == i] for i, name in enumerate(SPLITS)}
        left_over = assigned.count(3)
        how = "made: stratified by label, in the order of sha256 of seed and id"
    else:
        whole = {name: cleaned.parts.get(name, []) for name in SPLITS}
        file, column = config.split_file, config.split_column
        how = f"given: {'split file' if file else 'split column' if column else 'three files'}"
    whole = _with_unique_ids(whole)
    used = {}
    for name, rows in whole.items():
        kept = subset([row.example for row in rows], getattr(config, f"max_{name}_examples"), seed)
        used[name] = [rows[i] for i in kept]
    _refuse_unusable(used, config.labels, units)
    return Split(whole, used, how, units, left_over)


def find_units(rows: Sequence[TableRow], config: NearDuplicates, progress: Progress) -> SplitUnits:
    """Connected components of "same group", "same family" and "same stripped text"."""
    texts = [row.example.text for row in rows]
    found = families(texts, config.threshold, config.shingle, progress) if config.enabled else None
    stripped, groups = [text.strip() for text in texts], [row.example.group for row in rows]
    of_row = components(len(rows), [stripped, groups, *([found] if found else [])])
    giants = []
    for kind, numbers in (("family", found or []), ("unit", [] if found == of_row else of_row)):
        for first, n in Counter(numbers).most_common():
            if n > 1 and n > config.giant * len(rows):
                giants.append(Giant(kind, n, round(n / len(rows), 4), rows[first].example.id))
    in_families = [n for n in Counter(found or ()).values() if n > 1]
    several = sum(n > 1 for n in Counter(of_row).values())
    total = None if found is None else len(in_families)
    return SplitUnits(of_row, total, sum(in_families), several, tuple(giants))


def components(n: int, keys: Sequence[Iterable[Hashable | None]]) -> list[int]:
    """For each of `n` rows the first row that is connected to it by an equal key (None joins nothing)."""
    roots = np.arange(n)
    for column in keys:
        first: dict[Hashable, int] = {}
        joined = [(first.setdefault(key, i), i) for i, key in enumerate(column) if key is not None]
        roots = join_families(roots, *np.array(joined, np.int64).reshape(-1, 2).T)
    return roots.tolist()


def assign(rows: Sequence[TableRow], units: Sequence[int], config: DataConfig, seed: int) -> list[int]:
    """Return the split of each row: 0, 1, 2 for train, val, test, 3 for left over.

    `units` gives each row the number of its unit. Units of several rows are placed first, from the
    largest to the smallest, each where it is needed most; single rows then fill every label to its target
    exactly.
    Raises DataError if `data.sizes` asks for more rows than there are.
    """
    labels = range(len(config.labels))
    totals = Counter(row.example.label for row in rows)
    need = targets(config.sizes, [totals[label] for label in labels])
    members, found = defaultdict[int, list[int]](list), list[_Unit]()
    for i, number in enumerate(units):
        members[number].append(i)
    for indices in members.values():
        counts = Counter(rows[i].example.label for i in indices)
        key = min(_rank(seed, rows[i].example.id) for i in indices)
        found.append(_Unit(key, indices, [counts[label] for label in labels]))
    assigned = [3] * len(rows)
    for unit in sorted((u for u in found if len(u.members) > 1), key=lambda u: (-len(u.members), u.key)):
        best = _best_split(unit, need)
        for i in unit.members:
            assigned[i] = best
        need[best] = [n - count for n, count in zip(need[best], unit.counts, strict=True)]
    singles = [unit for unit in found if len(unit.members) == 1]
    for label in labels:
        ordered = sorted((unit.key, unit.members[0]) for unit in singles if unit.counts[label])
        lack = [max(row[label], 0) for row in need]
        quotas = lack if sum(lack) == len(ordered) else apportion(len(ordered), lack)
        order = iter(ordered)
        for split_number, quota in enumerate(quotas):
            for _, (_, i) in zip(range(quota), order, strict=False):
                assigned[i] = split_number
    return assigned


def subset(examples: Sequence[Example], limit: int, seed: int) -> list[int]:
    """Return the indices of at most `limit` examples (0: all), stratified by label, the first by hash."""
    if not 0 < limit < len(examples):
        return list(range(len(examples)))
    by_label: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
    for i, example in enumerate(examples):
        by_label[example.label].append((_rank(seed, example.id), i))
    ranked = [sorted(by_label[label]) for label in sorted(by_label)]
    quotas = apportion(limit, [len(of_label) for of_label in ranked])
    return sorted(i for of_label, n in zip(ranked, quotas, strict=True) for _, i in of_label[:n])


def targets(sizes: SplitSizes, labels: Sequence[int]) -> Table:
    """Return how many rows of each label each split should get; the fourth row is what is left over.

    `labels` are the numbers of rows of each label. Raises DataError if `sizes` asks for more rows.
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
    """Divide `total` into whole parts in proportion to `weights`, by largest remainder (Hamilton)."""
    whole = sum(weights)
    if not whole:
        return [0] * len(weights)
    exact = [Fraction(total) * weight / whole for weight in weights]
    parts = [int(part) for part in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: (parts[i] - exact[i], i))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def label_counts(rows: Sequence[TableRow], labels: LabelSet = BINARY) -> dict[str, int]:
    """Return the number of rows by the code of their label."""
    found = Counter(row.example.label for row in rows)
    return {labels.codes[label]: found[label] for label in labels}


def _rank(seed: int, example_id: str) -> bytes:
    """The sort key of rows: sha256 of "<seed>:<id>", the same on every machine and version."""
    return hashlib.sha256(f"{seed}:{example_id}".encode()).digest()


def _best_split(unit: _Unit, need: Table) -> int:
    """The split that lacks most of the unit's rows; among equals at random, weighted by what they lack.

    If a unit is large for val or test, train comes first: such a split would have little else. The random
    number comes from the unit's hash, so it is the same everywhere.
    """
    lack = [[max(n, 0) for n in row] for row in need]
    covered = [sum(map(min, unit.counts, row)) for row in lack]
    best = [s for s in range(len(need)) if covered[s] == max(covered)]
    pairs = [(n, left) for s in best for n, left in zip(unit.counts, lack[s], strict=True)]
    large = any(n > 0 and n * _LARGE > left for n, left in pairs)
    weights = [sum(lack[s]) for s in best]
    if (0 in best and large) or not sum(weights):
        return 0
    # The order of units hardly depends on these bytes.
    point = (int.from_bytes(unit.key[-8:], "big") >> 11) / 2**53 * sum(weights)
    for number, weight in zip(best, weights, strict=True):
        point -= weight
        if point < 0:
            return number
    return best[-1]


def _with_unique_ids(splits: Splits) -> Splits:
    """Ids that name one row each: if copies of a row were kept, the second one gets "-2"."""
    met: Counter[str] = Counter()
    taken = {row.example.id for rows in splits.values() for row in rows}

    def unique(row: TableRow) -> TableRow:
        base = row.example.id
        met[base] += 1
        if met[base] == 1:
            return row
        while (name := f"{base}-{met[base]}") in taken:
            met[base] += 1
        taken.add(name)
        return replace(row, example=replace(row.example, id=name))

    return {name: [unique(row) for row in rows] for name, rows in splits.items()}


def _refuse_unusable(splits: Splits, labels: LabelSet, units: SplitUnits | None) -> None:
    counts = {name: label_counts(rows, labels) for name, rows in splits.items()}
    shown = "; ".join(
        f"{name} {', '.join(f'{n[labels.codes[label]]} {labels.title(label)}' for label in labels)}"
        for name, n in counts.items()
    )
    if empty := [name for name in SPLITS if not splits[name]]:
        remedy = "give more rows, other data.sizes, or another split"
        if units is not None and units.giants:
            giant = units.giants[0]
            remedy = (
                f"{giant.rows} rows ({giant.share:.1%}), among them {giant.example_id}, must stay in one "
                "split, since they share groups or near-duplicates: look at data.group_column and "
                "data.near_duplicates"
            )
        raise DataError(f"{' and '.join(empty)} would have no rows ({shown}); {remedy}")
    if not all(counts["train"].values()):
        raise DataError(
            f"train would have one class only ({shown}); check data.positive and data.negative, "
            f"or give train rows of both"
        )
