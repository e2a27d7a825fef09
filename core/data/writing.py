"""Split files: CSV that survives a round trip to the byte, whatever a text contains."""

from __future__ import annotations

import csv
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import DataError
from core.labels import BINARY
from core.records import Example

_COLUMNS = ["id", "text", "label"]


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Write id, text, label and, if any example has one, group; UTF-8, lines end in CRLF.

    A collection is iterated twice; an iterator is first read into a list. The csv module quotes a carriage
    return only if it is part of the line's end.
    """
    if not isinstance(examples, Collection):
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
    """The examples of a split file. Raises DataError if this project did not write it."""
    return list(iter_examples(path))


def iter_examples(path: Path) -> Iterator[Example]:
    """The examples one at a time; a damaged row raises DataError when it is reached."""
    return (example for _, example in iter_placed(path))


def iter_placed(path: Path) -> Iterator[tuple[int, Example]]:
    """The examples one at a time, each with the line of the file on which it begins."""
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", newline="") as f:
        rows = csv.reader(f, strict=True)
        try:
            header = next(rows, [])
            if header not in (_COLUMNS, [*_COLUMNS, "group"]):
                columns = ", ".join(header) or "none"
                raise DataError(f"{path} is not a split file: its columns are {columns}")
            begins = rows.line_num + 1
            for row in rows:
                if len(row) not in (3, 4) or BINARY.index(row[2]) is None:
                    raise csv.Error
                group = row[3] if len(row) == 4 else None
                yield begins, Example(row[0], row[1], int(row[2]), group or None)
                begins = rows.line_num + 1
        except csv.Error:
            raise DataError(
                f"{path}:{rows.line_num}: the row is damaged; rebuild it with --refresh split"
            ) from None


def scan_examples(path: Path) -> Examples:
    """The examples, left in the file, which is read once to count and check them. Raises DataError."""
    return Examples(path, sum(1 for _ in iter_placed(path)))


@dataclass(frozen=True, slots=True)
class Examples(Collection[Example]):
    """The `count` examples of a split file, read again by each iteration, none of them kept in memory.

    Any number of iterations may be open at once. Access by index is not supported, since it would read the
    file from its start.
    """

    path: Path
    count: int

    def __iter__(self) -> Iterator[Example]:
        return iter_examples(self.path)

    def __len__(self) -> int:
        return self.count

    def __contains__(self, example: object) -> bool:
        """Reads the file until the example is found."""
        return any(each == example for each in self)
