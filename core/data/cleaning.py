"""Duplicates, texts with both labels, and texts shared between given splits: counted, and handled as set.

Texts are compared stripped. Duplicates and conflicts are searched within one split (or within the table, if
the splits are still to be made); a text that two splits share is a leak, whatever its labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from core.config.data import DataConfig
from core.data.reading import SHOWN, TableRow, listed
from core.errors import DataError
from core.records import SPLITS, SplitName

Parts = dict[SplitName | None, list[TableRow]]
"""Rows by split; under None if the splits are still to be made."""
_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Finding:
    """Texts of one kind: how many, in how many rows, what was done, and the places of the first few."""

    texts: int
    rows: int
    action: str
    dropped_rows: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The remaining rows, and what was found. `shared` counts leaking texts by pair of splits."""

    parts: Parts
    duplicates: Finding
    conflicts: Finding
    leaks: Finding
    shared: dict[str, int]


def clean(rows: Iterable[TableRow], config: DataConfig) -> Cleaned:
    """Handle conflicts, then duplicates, then leaks, by the actions of the config.

    Raises DataError if the action is "error" and there are any.
    """
    parts: Parts = dict(_grouped(rows, lambda row: row.split))
    texts = [same for part in parts.values() for same in _grouped(part, _text).values()]
    found = [same for same in texts if len({row.example.label for row in same}) > 1]
    dropped = [row for same in found for row in same]
    parts, conflicts = _handle(parts, found, dropped, config, "conflicts", "with both labels")
    found = []
    for part in parts.values():
        copies = _grouped(part, lambda row: (_text(row), row.example.label)).values()
        found += sorted((same for same in copies if len(same) > 1), key=lambda same: same[1].line)
    dropped = [row for same in found for row in same[1:]]
    parts, duplicates = _handle(parts, found, dropped, config, "duplicates", "that occur more than once")
    found, dropped, shared = _leaks(parts)
    counts = ", ".join(f"{pair} {n}" for pair, n in shared.items() if n)
    parts, leaks = _handle(parts, found, dropped, config, "leaks", f"shared between splits ({counts})")
    return Cleaned(parts, duplicates, conflicts, leaks, shared)


def _text(row: TableRow) -> str:
    return row.example.text.strip()


def _grouped(rows: Iterable[TableRow], key: Callable[[TableRow], _Key]) -> dict[_Key, list[TableRow]]:
    found = defaultdict[_Key, list[TableRow]](list)
    for row in rows:
        found[key(row)].append(row)
    return found


def _leaks(parts: Parts) -> tuple[list[list[TableRow]], list[TableRow], dict[str, int]]:
    """The rows of each text that splits share, those of the earlier split, and counts by pair of splits."""
    given = [split for split in SPLITS if split in parts]
    texts = {split: _grouped(parts[split], _text) for split in given}
    shared: dict[str, int] = {}
    found: dict[str, None] = {}
    dropped: list[TableRow] = []
    for early, late in combinations(given, 2):
        common = [text for text in texts[early] if text in texts[late]]
        shared[f"{early}+{late}"] = len(common)
        found.update(dict.fromkeys(common))
        dropped += [row for text in common for row in texts[early][text]]
    leaking = [[row for split in given for row in texts[split].get(text, ())] for text in found]
    return leaking, dropped, shared


def _handle(
    parts: Parts,
    found: list[list[TableRow]],
    dropped: list[TableRow],
    config: DataConfig,
    key: str,
    what: str,
) -> tuple[Parts, Finding]:
    """Drop rows, keep them, or raise DataError, by the config; `found` are the rows of each text."""

    def places(same: list[TableRow]) -> str:
        return f"{same[0].example.id}: {', '.join(row.at for row in same[:3])}"

    action: str = getattr(config, key)
    if found and action == "error":
        remedy = f"fix them, or set data.{key}: drop (or keep)"
        raise DataError(f"texts {what}: {len(found)}; {remedy}:{listed(found, places)}")
    gone = {id(row) for row in dropped} if action == "drop" else set()
    if gone:
        parts = {split: [row for row in rows if id(row) not in gone] for split, rows in parts.items()}
    examples = tuple(places(same) for same in found[:SHOWN])
    return parts, Finding(len(found), sum(map(len, found)), action, len(gone), examples)
