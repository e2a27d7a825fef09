"""Records of a CSV or TSV, read so that a stray quote costs its own row and no other.

A quote at the start of a field opens it, and the field continues until a quote closes it, across line ends
too, so a stray quote may swallow every row up to the next quote. A record that runs to the end of the file or
over more than `MAX_LINES` lines, has text after a closing quote, or has several lines that look like rows of
this very file, is one bad row at the line where that field opened; reading continues on the next line.

The lines of a quoted text and rows between two stray quotes are the same bytes, so what counts is evidence. A
line looks like a row if, without its quotes, it has as many fields as the header and its fields resemble
those of the rows of one line nearby: a column of few values has one of them, a column of few shapes (numbers,
words, dates) one of these, and none begins with a space where none did (the text's only in a table of two
columns, where a comma in prose would otherwise make a row of a line). The comma in 20,000 separates nothing.
A record is taken for several rows if

- half of its lines are rows, among them its first and last unless there are `MANY`; or
- its own fields do not fit the header or resemble those of other rows, and half of its lines, or the first,
  are rows; or
- no column but the text's has few values or shapes, and there are `MANY` lines, nearly all of them rows; or
- the table has one column, and there are `MANY_OF_ONE_COLUMN` lines, none with a separator.

The lines of prose are not rows by these rules, because the fields before the text are on its first line and
those after it on its last. A text that is itself such a table is taken for rows, and reported; JSON lines and
Parquet hold any text.
"""

from __future__ import annotations

import csv
import re
import sys
from bisect import bisect_right
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Literal

from core.data.sources import TextFormat, TextLines

MAX_LINES = 1_000
"""Lines that a quoted field may span."""
MANY = 10
"""Lines from which on counting fields, or half of the lines being rows, is evidence."""
MANY_OF_ONE_COLUMN = 100
"""The same for a table of one column."""
_BEFORE, _AHEAD = 200, 100
"""The rows before a record, and the lines after it, that show what rows are like there."""
_LEAST = 6
"""In a smaller sample the values of a column do not represent all its values."""
_THOUSANDS = re.compile(r"\d,\d{3}(?!\d)")
"""A comma in a number, not a separator although a number precedes it."""
_WORD = re.compile(r"\w+")
_QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*("?)')
"""A field from its opening quote up to, if there is one, its closing quote."""
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""The first line with which a file declares its separator to Excel."""


Record = tuple[int, list[str], str | None]
"""The line where a row starts, its fields, and why it cannot be used."""


class Records:
    """The records of `lines`, once; by default columns are separated by `default`.

    `expect` is called once the header is read.
    """

    def __init__(self, lines: TextLines, how: TextFormat, default: str) -> None:
        self._feed, self._unescape, self._how = _Feed(lines), lines.unescape, how
        declared = _SEPARATOR_LINE.fullmatch("".join(self._feed.peek(1)))
        self._skipped = len(list(islice(self._feed, 1))) if declared else 0
        self.separator = how.separator or (declared[1] if declared else default)
        self._width, self._text = -1, 0
        self._before = deque[list[str]](maxlen=_BEFORE)
        self._columns: list[_Column] = []
        self._stale = 0

    def expect(self, width: int, text: int) -> None:
        """Set how many fields the header has and which of them is the text."""
        self._width, self._text = width, text

    def __iter__(self) -> Iterator[Record]:
        csv.field_size_limit(sys.maxsize)
        reader, taken = self._reader(self._feed), self._feed.taken
        line = 1 + self._skipped
        while True:
            taken.clear()
            try:
                fields = next(reader)
            except StopIteration:
                return
            except _TooManyLines:
                line = yield from self._lost(line, f"a quoted field may span {MAX_LINES:,} lines")
                continue
            except csv.Error as e:
                reason = "the field runs to the end of the file" if self._feed.ended else str(e)
                line = yield from self._lost(line, reason)
                continue
            if len(taken) == 1:
                if len(fields) == self._width:
                    self._before.append(fields)
                    self._stale -= 1
                elif self._width > 0 and (rows := self._split_at_returns(taken[0])):
                    yield from ((line, row, None) for row in rows)
                    fields = []
            elif self._swallows(fields):
                line = yield from self._lost(line, f"lines in it that look like rows: {len(taken) - 1}")
                continue
            after = line + len(taken)
            if fields:
                yield line, self._unescape(fields), None
            line = after

    def _reader(self, lines: Iterable[str]) -> Iterator[list[str]]:
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self._how.quotes else csv.QUOTE_NONE
        return csv.reader(lines, delimiter=self.separator, quoting=quoting, strict=True)

    def _lost(self, line: int, reason: str) -> Generator[Record, None, int]:
        """Report the current record at the line of its stray quote, give the lines after it back, and return
        the next line."""
        taken, separator = self._feed.taken, self.separator
        text, starts = "".join(taken), [0, *accumulate(map(len, taken))]
        # Find the line where the field that fails opens (it does not close, or has text after its closing
        # quote), and the line of the first field of several lines; without a failure only the latter.
        at, last, first = 0, 0, None
        while at < len(text):
            if quoted := _QUOTED.match(text, at):
                last, at = bisect_right(starts, at) - 1, quoted.end()
                if first is None and at > starts[last + 1]:
                    first = last
                if not quoted[1] or text[at : at + 1] not in ("", "\r", "\n", separator):
                    break
            at = text.find(separator, at) + 1 or len(text)
        else:
            last = last if first is None else first
        opened = last if first is None else first
        if not any(map(self._is_row, taken[opened + 1 : last + 1])):
            opened = last
        remedy = f"fix them, or set {self._how.named('quotes', 'false')} if this file uses none"
        self._feed.give_back(taken[opened + 1 :])
        yield line + opened, [], f"quotes that do not close properly ({reason}); {remedy}"
        return line + opened + 1

    def _split_at_returns(self, line: str) -> list[list[str]]:
        """The rows of a line with too many fields, if carriage returns divide it into rows that all fit."""
        text = self._unescape([line])[0].rstrip("\r\n")
        if "\r" not in text:
            return []
        try:
            rows = list(self._reader(text.split("\r")))
        except csv.Error:
            return []
        return rows if all(len(row) == self._width for row in rows) else []

    def _swallows(self, fields: Sequence[str]) -> bool:
        """Whether the lines of the current record look like rows, by the criteria of the module docstring."""
        if self._width < 0:
            return False
        taken = self._feed.taken
        plausible, few = len(fields) == self._width, len(taken) < MANY
        if plausible and few:  # quickly: only the text has several lines, and its first or last is not a row
            others = "".join([*fields[: self._text], *fields[self._text + 1 :]])
            fewest = min(taken[0].count(self.separator), taken[-1].count(self.separator))
            if fewest < self._width - 1 and "\n" not in others and "\r" not in others:
                return False
        lines = [line for line in taken if line.strip()]
        rows = [self._is_row(line) for line in lines]
        half = 2 * sum(rows) >= len(rows)
        if plausible:
            columns = enumerate(zip(self._learned(), fields, strict=True))
            plausible = all(column.fits(field) for i, (column, field) in columns if i != self._text)
        if not plausible:
            # Where the text comes last, the first line is a row in any case.
            return half or (rows[0] and self._is_known() and self._text < self._width - 1)
        if self._width == 1:
            return len(rows) >= MANY_OF_ONE_COLUMN and all(rows)
        if self._is_known():
            return half and (rows[0] and rows[-1] if few else True)
        return not few and sum(rows) >= 0.95 * len(rows)

    def _is_row(self, line: str) -> bool:
        line = line.rstrip("\r\n").removeprefix("\ufeff")
        fields = line.replace('"', "").split(self.separator)
        if len(fields) > self._width and '"' in line:
            # Some quotes are not stray; what the last one opens is not closed on this line.
            *fields, last = next(csv.reader([line], delimiter=self.separator))
            fields += [last] if len(fields) + 1 == self._width else last.split(self.separator)
        if len(fields) != self._width or (self.separator == "," and _THOUSANDS.search(line)):
            return False
        return all(column.fits(field) for column, field in zip(self._learned(), fields, strict=True))

    def _is_known(self) -> bool:
        """Whether the values of any column differ from other text."""
        return any(column.values is not None or column.shapes is not None for column in self._learned())

    def _learned(self) -> list[_Column]:
        """What each column is like in the rows of one line nearby, updated every so many rows."""
        if self._stale > 0:
            return self._columns
        sample = list(self._before)
        reader = csv.reader(self._feed.peek(_AHEAD), delimiter=self.separator, strict=True)
        while True:
            before = reader.line_num
            try:
                row = next(reader)
            except StopIteration:
                break
            except csv.Error:
                continue
            if len(row) == self._width and reader.line_num == before + 1:
                sample.append(row)
        columns = zip(*sample, strict=True) if sample else [()] * self._width
        self._columns = [_Column.of(values) for values in columns]
        text = _Column(None, None, self._width > 2 or self._columns[self._text].indented)
        self._columns[self._text] = text
        self._stale = len(sample)
        return self._columns


@dataclass(frozen=True, slots=True)
class _Column:
    """What the values of a column have in common; None if they differ too much."""

    values: frozenset[str] | None
    shapes: frozenset[str] | None
    indented: bool

    @classmethod
    def of(cls, values: Sequence[str]) -> _Column:
        indented = not values or any(value.startswith(" ") for value in values)
        if not values:
            return cls(None, None, indented)
        distinct, shapes = frozenset(values), frozenset(map(_shape, values))
        if len(values) >= max(_LEAST, 3 * len(distinct)):
            return cls(distinct, None, indented)
        few = max(2, len(values) // 5)
        return cls(None, shapes if len(shapes) <= few else None, indented)

    def fits(self, value: str) -> bool:
        if value.startswith(" ") and not self.indented:
            return False
        if self.values is not None:
            return value in self.values
        return self.shapes is None or _shape(value) in self.shapes


def _shape(value: str) -> str:
    """The value with its words replaced by their kind: "r12, Ann" is "x, a"."""
    return _WORD.sub(lambda word: "9" if word[0].isdigit() else "a" if word[0].isalpha() else "x", value)


class _TooManyLines(Exception):
    """A record spans more lines than a quoted field may."""


class _Feed:
    """Lines for the csv module: `taken` are those of the current record, and lines can be given back.

    A byte order mark at the start of a record, which joining files leaves, is skipped. `ended` is set when
    the current record reaches the end of the file.
    """

    __slots__ = ("_back", "_lines", "ended", "taken")

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self._back = iter(lines), deque[str]()
        self.taken: list[str] = []
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        taken = self.taken
        if len(taken) >= MAX_LINES:
            raise _TooManyLines
        if self._back:
            line = self._back.popleft()
        else:
            try:
                line = next(self._lines)
            except StopIteration:
                self.ended = True
                raise
        if not taken and line[0] == "\ufeff":
            line = line[1:] or "\n"
        taken.append(line)
        return line

    def give_back(self, lines: Sequence[str]) -> None:
        """Give these lines again, before any other."""
        self._back.extendleft(reversed(lines))
        self.ended = False

    def peek(self, count: int) -> list[str]:
        """The next lines, without consuming them."""
        self._back.extend(islice(self._lines, max(0, count - len(self._back))))
        return list(islice(self._back, count))
