"""Split files: CSV that survives a round trip to the byte, whatever a text holds."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from pathlib import Path

from core.errors import DataError
from core.records import Example

_COLUMNS = ["id", "text", "label"]


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Write id, text, label and, where any example has one, group; UTF-8, lines end in CRLF.

    The csv module quotes a carriage return only where it is part of the line's end.
    """
    examples = list(examples)
    grouped = any(example.group is not None for example in examples)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f, lineterminator="\r\n")
        writer.writerow([*_COLUMNS, "group"] if grouped else _COLUMNS)
        for e in examples:
            row = [e.id, e.text, e.label]
            writer.writerow([*row, e.group or ""] if grouped else row)


def read_examples(path: Path) -> list[Example]:
    """The examples of a file that this project wrote. Raises DataError for a file it did not write."""
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", newline="") as f:
        rows = csv.reader(f, strict=True)
        header = next(rows, [])
        if header not in (_COLUMNS, [*_COLUMNS, "group"]):
            raise DataError(f"{path} is no split file: its columns are {', '.join(header) or 'none'}")
        return [_example(row, path, rows.line_num) for row in rows]


def _example(row: list[str], path: Path, line: int) -> Example:
    match row:
        case [name, text, ("0" | "1") as label]:
            return Example(name, text, int(label))
        case [name, text, ("0" | "1") as label, group]:
            return Example(name, text, int(label), group or None)
    raise DataError(f"{path}:{line}: the row is damaged; make the splits again with --refresh split")
