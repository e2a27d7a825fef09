"""Duplicates, texts with both labels, and texts shared between given splits: counted, and handled as set.

Texts are compared stripped. Duplicates and conflicts are searched within one split (or within the table, if
the splits are still to be made); a text that two splits share is a leak, whatever its labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from core.config.data import DataConfig
from core.data.reading import SHOWN, Row, listed
from core.errors import DataError
from core.records import SPLITS, SplitName

Parts = dict[SplitName | None, list[Row]]
"""Rows by split; under None if the splits are still to be made."""


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


def clean(rows: Iterable[Row], config: DataConfig) -> Cleaned:
    """Handle conflicts, then duplicates, then leaks, by the actions of the config.

    Raises DataError if the action is "error" and there are any.
    """
    parts: Parts = {}
    for row in rows:
        parts.setdefault(row.split, []).append(row)
    found = [same for part in parts.values() for same in _conflicts(part)]
    dropped = [row for same in found for row in same]
    parts, conflicts = _handle(parts, found, dropped, config, "conflicts", "with both labels")
    found = [same for part in parts.values() for same in _duplicates(part)]
    dropped = [row for same in found for row in same[1:]]
    parts, duplicates = _handle(parts, found, dropped, config, "duplicates", "that occur more than once")
    found, dropped, shared = _leaks(parts)
    counts = ", ".join(f"{pair} {n}" for pair, n in shared.items() if n)
    parts, leaks = _handle(parts, found, dropped, config, "leaks", f"shared between splits ({counts})")
    return Cleaned(parts, duplicates, conflicts, leaks, shared)


def _text_and_label(row: Row) -> tuple[str, int]:
    return row.example.text.strip(), row.example.label


def _by_text(rows: Iterable[Row]) -> dict[str, list[Row]]:
    texts: dict[str, list[Row]] = {}
    for row in rows:
        texts.setdefault(row.example.text.strip(), []).append(row)
    return texts


def _conflicts(rows: list[Row]) -> list[list[Row]]:
    """The rows of each text that has both labels."""
    labels: dict[str, int] = {}
    mixed = {t for t, label in map(_text_and_label, rows) if labels.setdefault(t, label) != label}
    if not mixed:
        return []
    return list(_by_text(row for row in rows if row.example.text.strip() in mixed).values())


def _duplicates(rows: list[Row]) -> list[list[Row]]:
    """The rows of each text that occurs more than once with one label."""
    first: dict[tuple[str, int], Row] = {}
    more: dict[tuple[str, int], list[Row]] = {}
    for key, row in zip(map(_text_and_label, rows), rows, strict=True):
        if first.setdefault(key, row) is not row:
            more.setdefault(key, [first[key]]).append(row)
    return list(more.values())


def _leaks(parts: Parts) -> tuple[list[list[Row]], list[Row], dict[str, int]]:
    """The rows of each text that splits share, those of the earlier split, and counts by pair of splits."""
    given = [split for split in SPLITS if split in parts]
    texts = {split: _by_text(parts[split]) for split in given}
    shared: dict[str, int] = {}
    found: dict[str, None] = {}
    dropped: list[Row] = []
    for early, late in combinations(given, 2):
        common = [text for text in texts[early] if text in texts[late]]
        shared[f"{early}+{late}"] = len(common)
        found.update(dict.fromkeys(common))
        dropped += [row for text in common for row in texts[early][text]]
    leaking = [[row for split in given for row in texts[split].get(text, ())] for text in found]
    return leaking, dropped, shared


def _handle(
    parts: Parts, found: list[list[Row]], dropped: list[Row], config: DataConfig, key: str, what: str
) -> tuple[Parts, Finding]:
    """Drop rows, keep them, or raise DataError, by the config; `found` are the rows of each text."""

    def places(same: list[Row]) -> str:
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
