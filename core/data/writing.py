"""Split files: CSV that survives a round trip to the byte, whatever a text holds."""

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
    """Write id, text, label and, where any example has one, group; UTF-8, lines end in CRLF.

    A collection is gone over twice and not held; an iterator is. The csv module quotes a carriage
    return only where it is part of the line's end.
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
    """The examples of a file that this project wrote. Raises DataError for a file it did not write."""
    return list(iter_examples(path))


def iter_examples(path: Path) -> Iterator[Example]:
    """The same, one at a time; DataError comes when the damaged row does."""
    return (example for _, example in iter_placed(path))


def iter_placed(path: Path) -> Iterator[tuple[int, Example]]:
    """The same, each with the line of the file on which it begins."""
    return ((line, _example(row)) for line, row in _rows(path))


def scan_examples(path: Path) -> Examples:
    """The same, left in the file, which is read through once to count and check them.

    Raises DataError for a file that this project did not write.
    """
    return Examples(path, sum(1 for _ in _rows(path)))


@dataclass(frozen=True, slots=True)
class Examples(Collection[Example]):
    """The `count` examples of a split file, read anew each time they are gone over; none is held.

    Any number of iterations may be open at once. There is no access by place, since that would
    read the file from its start each time.
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


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", newline="") as f:
        rows = csv.reader(f, strict=True)
        try:
            header = next(rows, [])
            if header not in (_COLUMNS, [*_COLUMNS, "group"]):
                raise DataError(f"{path} is no split file: its columns are {', '.join(header) or 'none'}")
            begins = rows.line_num + 1
            for row in rows:
                if len(row) not in (3, 4) or BINARY.index(row[2]) is None:
                    raise _damaged(path, rows.line_num)
                yield begins, row
                begins = rows.line_num + 1
        except csv.Error:
            raise _damaged(path, rows.line_num) from None


def _damaged(path: Path, line: int) -> DataError:
    return DataError(f"{path}:{line}: the row is damaged; make the splits again with --refresh split")


def _example(row: list[str]) -> Example:
    group = row[3] if len(row) == 4 else None
    return Example(row[0], row[1], int(row[2]), group or None)
