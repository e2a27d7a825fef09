"""Duplicates, texts with both labels, and texts shared between given splits: counted and handled.

A text is compared stripped. Duplicates and conflicts are a matter of one split (or of the table, where
the splits are still to be made); a text that two splits share is a leak, whatever its labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from core.config.data import DataConfig
from core.data.reading import Row
from core.errors import DataError
from core.records import SPLITS, SplitName

Parts = dict[SplitName | None, list[Row]]
"""Rows by split; under None where the splits are still to be made."""
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """Texts of one kind: how many, in how many rows, what was done, and where the first few stand."""

    texts: int
    rows: int
    action: str
    dropped_rows: int
    examples: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "texts": self.texts,
            "rows": self.rows,
            "action": self.action,
            "dropped_rows": self.dropped_rows,
            "examples": list(self.examples),
        }


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The rows that are left, and what was found. `shared` counts leaking texts by pair of splits."""

    parts: Parts
    duplicates: Finding
    conflicts: Finding
    leaks: Finding
    shared: dict[str, int]


def clean(rows: Iterable[Row], config: DataConfig) -> Cleaned:
    """Handle conflicts, then duplicates, then leaks, as the config says.

    Raises DataError where it says "error" and there are any.
    """
    parts = _by_split(rows)
    parts, conflicts = _conflicts(parts, config.conflicts)
    parts, duplicates = _duplicates(parts, config.duplicates)
    parts, leaks, shared = _leaks(parts, config.leaks)
    return Cleaned(parts, duplicates, conflicts, leaks, shared)


def _by_split(rows: Iterable[Row]) -> Parts:
    parts: Parts = {}
    for row in rows:
        parts.setdefault(row.split, []).append(row)
    return parts


def _text_and_label(row: Row) -> tuple[str, int]:
    return row.example.text.strip(), row.example.label


def _by_text(rows: Iterable[Row]) -> dict[str, list[Row]]:
    texts: dict[str, list[Row]] = {}
    for row in rows:
        texts.setdefault(row.example.text.strip(), []).append(row)
    return texts


def _conflicts(parts: Parts, action: str) -> tuple[Parts, Finding]:
    found: list[list[Row]] = []
    for rows in parts.values():
        labels: dict[str, int] = {}
        mixed = {t for t, label in map(_text_and_label, rows) if labels.setdefault(t, label) != label}
        found += _by_text(row for row in rows if row.example.text.strip() in mixed).values() if mixed else []
    if found and action == "error":
        raise DataError(_sentence("carry both labels", found, "data.conflicts"))
    gone = {id(row) for same in found for row in same} if action == "drop" else set()
    return _without(parts, gone), _finding(found, action, len(gone))


def _duplicates(parts: Parts, action: str) -> tuple[Parts, Finding]:
    found: list[list[Row]] = []
    for rows in parts.values():
        first: dict[tuple[str, int], Row] = {}
        more: dict[tuple[str, int], list[Row]] = {}
        for key, row in zip(map(_text_and_label, rows), rows, strict=True):
            if first.setdefault(key, row) is not row:
                more.setdefault(key, [first[key]]).append(row)
        found += more.values()
    if found and action == "error":
        raise DataError(_sentence("stand more than once", found, "data.duplicates"))
    gone = {id(row) for group in found for row in group[1:]} if action == "drop" else set()
    return _without(parts, gone), _finding(found, action, len(gone))


def _leaks(parts: Parts, action: str) -> tuple[Parts, Finding, dict[str, int]]:
    given = [split for split in SPLITS if split in parts]
    texts = {split: _by_text(parts[split]) for split in given}
    shared: dict[str, int] = {}
    found: dict[str, None] = {}
    gone: set[int] = set()
    for early, late in combinations(given, 2):
        common = [text for text in texts[early] if text in texts[late]]
        shared[f"{early}+{late}"] = len(common)
        found.update(dict.fromkeys(common))
        gone.update(id(row) for text in common for row in texts[early][text])
    leaking = [[row for split in given for row in texts[split].get(text, ())] for text in found]
    if leaking and action == "error":
        counts = ", ".join(f"{pair} {n}" for pair, n in shared.items() if n)
        raise DataError(_sentence(f"are shared between splits ({counts})", leaking, "data.leaks"))
    gone = gone if action == "drop" else set()
    return _without(parts, gone), _finding(leaking, action, len(gone)), shared


def _without(parts: Parts, gone: set[int]) -> Parts:
    if not gone:
        return parts
    return {split: [row for row in rows if id(row) not in gone] for split, rows in parts.items()}


def _finding(found: list[list[Row]], action: str, dropped: int) -> Finding:
    places = tuple(_places(same) for same in found[:_SHOWN])
    return Finding(len(found), sum(map(len, found)), action, dropped, places)


def _places(same: list[Row]) -> str:
    return f"{same[0].example.id}: {', '.join(row.at for row in same[:3])}"


def _sentence(what: str, found: list[list[Row]], key: str) -> str:
    lines = [f"\n  {_places(same)}" for same in found[:_SHOWN]]
    more = f"\n  and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"texts that {what}: {len(found)}; mend them, or set {key}: drop (or keep):{''.join(lines)}{more}"
