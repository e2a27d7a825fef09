"""The rows that stages exchange, their labels, and the split files that hold labeled texts.

A label is an index everywhere in the code. Two labels are supported; parts that need a positive class, such
as thresholds, ask for `positive`. A split file is a CSV that survives a round trip to the byte.
"""

from __future__ import annotations

import csv
import hashlib
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

from core.errors import DataError

T = TypeVar("T")
SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
_COLUMNS = ["id", "text", "label"]


@dataclass(frozen=True)
class LabelSet:
    """The labels of a run, in the order of their indices.

    `values` are the values of each label in the data, the first of which predictions are written with.
    `codes` are what the student writes, each one token at the label's place, and the keys in files.
    `positive` is the index of the positive class, None without one.
    """

    values: tuple[tuple[str, ...], ...]
    codes: tuple[str, ...]
    positive: int | None

    @staticmethod
    def binary(positive: tuple[str, ...] = (), negative: tuple[str, ...] = ()) -> LabelSet:
        """Return the labels 0 and 1, the second of which is positive, with their values in the data."""
        return LabelSet((negative, positive), ("0", "1"), positive=1)

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def names(self, label: int) -> tuple[str, ...]:
        """Return all names of a label: its code, and its values in the data."""
        return (self.codes[label], *self.values[label])

    def written(self, label: int) -> str:
        """Return how predictions of a label are written: its first value in the data."""
        return next(iter(self.values[label]), self.codes[label])

    def title(self, label: int) -> str:
        """Return the name of a label in sentences: positive or negative if there is a positive class."""
        if self.positive is None:
            return self.written(label)
        return "positive" if label == self.positive else "negative"

    @property
    def negative(self) -> int:
        """The label that is not positive. Raises ValueError unless there are two, one of them positive."""
        if len(self) != 2 or self.positive is None:
            raise ValueError("only two labels, one of them positive, have a negative class")
        return 1 - self.positive

    def index(self, code: str) -> int | None:
        """Return the label with this code; None if there is none."""
        return self.codes.index(code) if code in self.codes else None

    @cached_property
    def pattern(self) -> str:
        """A regular expression that matches one code."""
        return "|".join(map(re.escape, self.codes))


BINARY = LabelSet.binary()
"""Two labels with their codes alone."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labeled text. `label` is 1 for the positive class; `group` keeps rows together."""

    id: str
    text: str
    label: int
    group: str | None = None


def text_id(text: str) -> str:
    """The id of a text without an id column: 16 hex digits of sha256 over the stripped text, UTF-8."""
    return hashlib.sha256(text.strip().encode("utf-8")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class TeacherAnswer:
    """One answer of the teacher to one text, raw and parsed.

    `label` and `reasoning` are None if the output could not be parsed; `error` is then the reason.
    `parse_source` names the way it was parsed ("json", "think_label", "pattern", "fields", ...).
    `reasoning_content` is the thinking of a thinking model before its answer. Token counts, of which
    `cached_tokens` are among `prompt_tokens`, and the latency in seconds are None if unknown.
    """

    example_id: str
    sample: int
    model: str
    raw_output: str
    parse_ok: bool
    parse_source: str | None
    label: int | None
    reasoning: str | None
    error: str | None = None
    finish_reason: str | None = None
    temperature: float | None = None
    hinted: bool = False
    reasoning_content: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one rejection rule for one answer."""

    rule: str
    rejected: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AcceptedSample:
    """An answer worth learning, with its text."""

    sample_id: str
    example_id: str
    text: str
    label: int
    reasoning: str


def batched(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` rows in order, as itertools.batched of Python 3.12; only one is held."""
    remaining = iter(rows)
    while batch := list(islice(remaining, size)):
        yield batch


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Write a split file: id, text, label and, if any example has one, group; UTF-8, lines end in CRLF.

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
