"""From cleaned rows to three splits, given or made, within their limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from core.config.data import DataConfig
from core.data.cleaning import Cleaned
from core.data.making import make, subset
from core.data.reading import Row
from core.data.units import Units, find_units
from core.errors import DataError
from core.labels import BINARY, LabelSet
from core.progress import Progress, Silent
from core.records import SPLITS, Example, SplitName

Splits = dict[SplitName, list[Row]]


@dataclass(frozen=True, slots=True)
class Split:
    """Three splits. `whole` are they before `max_*_examples`; `units` is None where they were given.

    `not_needed` counts rows that made splits of fixed counts leave over.
    """

    whole: Splits
    used: Splits
    how: str
    units: Units | None
    not_needed: int


def split(cleaned: Cleaned, config: DataConfig, seed: int, progress: Progress | None = None) -> Split:
    """The three splits. Raises DataError where one is empty or train holds a single class."""
    units, left = None, 0
    if None in cleaned.parts:
        rows = cleaned.parts[None]
        units = find_units(rows, config.near_duplicates, progress or Silent())
        placed = make(rows, units.of_row, config, seed)
        whole = {
            name: [r for r, p in zip(rows, placed, strict=True) if p == i] for i, name in enumerate(SPLITS)
        }
        left = placed.count(3)
    else:
        whole = {name: cleaned.parts.get(name, []) for name in SPLITS}
    whole = _with_own_ids(whole)
    used = {
        name: [
            rows[i] for i in subset([r.example for r in rows], getattr(config, f"max_{name}_examples"), seed)
        ]
        for name, rows in whole.items()
    }
    _refuse_unusable(used, config.labels, units)
    return Split(whole, used, _how(config), units, left)


def label_counts(rows: Sequence[Row], labels: LabelSet = BINARY) -> dict[str, int]:
    """Return the number of rows by the code of their label."""
    found = Counter(row.example.label for row in rows)
    return {labels.codes[label]: found[label] for label in labels}


def shared_groups(splits: Mapping[SplitName, Sequence[Row]]) -> dict[str, int]:
    """How many groups each pair of splits shares; none where they were made here."""
    groups = {name: {row.example.group for row in rows} - {None} for name, rows in splits.items()}
    return {f"{a}+{b}": len(groups[a] & groups[b]) for a, b in combinations(groups, 2)}


def _with_own_ids(splits: Splits) -> Splits:
    """Ids that name one row each: where copies of a row were kept, the second one gets "-2"."""
    met: Counter[str] = Counter()
    taken = {row.example.id for rows in splits.values() for row in rows}
    return {name: [_with_own_id(row, met, taken) for row in rows] for name, rows in splits.items()}


def _with_own_id(row: Row, met: Counter[str], taken: set[str]) -> Row:
    base = row.example.id
    met[base] += 1
    if met[base] == 1:
        return row
    while (name := f"{base}-{met[base]}") in taken:
        met[base] += 1
    taken.add(name)
    e = row.example
    return replace(row, example=Example(name, e.text, e.label, e.group))


def _refuse_unusable(splits: Splits, labels: LabelSet, units: Units | None) -> None:
    counts = {name: label_counts(rows, labels) for name, rows in splits.items()}
    shown = "; ".join(
        f"{name} {', '.join(f'{n[labels.codes[label]]} {labels.title(label)}' for label in labels)}"
        for name, n in counts.items()
    )
    empty = [name for name in SPLITS if not splits[name]]
    if empty:
        raise DataError(f"{' and '.join(empty)} would hold no rows ({shown}); {_remedy(units)}")
    if not all(counts["train"].values()):
        raise DataError(
            f"train would hold one class only ({shown}); check data.positive and data.negative, "
            f"or give train rows of both"
        )


def _remedy(units: Units | None) -> str:
    if units is None or not units.giants:
        return "give more rows, other data.sizes, or another split"
    giant = units.giants[0]
    return (
        f"{giant.rows} rows ({giant.share:.1%}), among them {giant.example_id}, must stay in one split, "
        f"since they share groups or near-duplicates: look at data.group_column and data.near_duplicates"
    )


def _how(config: DataConfig) -> str:
    if config.split_file is not None:
        return "given: split file"
    if config.split_column is not None:
        return "given: split column"
    if config.path is None:
        return "given: three files"
    return "made: stratified by label, in the order of sha256 of seed and id"
