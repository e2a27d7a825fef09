"""Rows of CSV and TSV, by the csv module.

pandas would turn "645" into a number, "NA" into a missing value and a lone carriage return into a line
break.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from operator import itemgetter
from typing import Literal

from core.data.tables import RawRow, TextFormat, checked, decoded, no_column
from core.errors import DataError

_LONE_CR = re.compile(r"\r(?!\n)")


def rows(
    data: bytes, place: str, columns: Sequence[str], how: TextFormat, *, default: str = ","
) -> Iterator[RawRow]:
    """Rows of a CSV or TSV. Raises DataError for a file without header or without a column."""
    text, broken = decoded(data, place, how.encoding)
    stand_in = _stand_in(text)
    if stand_in:
        text = _LONE_CR.sub(stand_in, text)
    lines = iter(StringIO(text, newline="\n" if "\n" in text else ""))
    del text
    unescape = (lambda field: field.replace(stand_in, "\r")) if stand_in else None
    for raw in rows_of(lines, place, columns, how, default, unescape):
        yield checked(raw, how) if broken else raw


def rows_of(
    lines: Iterator[str],
    place: str,
    columns: Sequence[str],
    how: TextFormat,
    default: str,
    unescape: Callable[[str], str] | None,
) -> Iterator[RawRow]:
    """Rows of lines with their ends; `unescape` gives a field back what the csv module must not see."""
    separator = how.separator or default
    records = _records(lines, separator, how)
    layout = _Layout.of(_header(records, place), columns, place, separator, how)
    for line, row, problem in records:
        if problem is None and not row:
            continue
        if unescape is not None:
            row = [unescape(field) for field in row]
        yield layout.row(line, row, problem)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the columns asked for stand in a CSV, and where nothing should stand."""

    pick: Callable[[list[str]], tuple[str, ...]]
    needed: int
    width: int
    unnamed: tuple[int, ...]

    @classmethod
    def of(
        cls, header: list[str], columns: Sequence[str], place: str, separator: str, how: TextFormat
    ) -> _Layout:
        for name in columns:
            if name not in header:
                raise DataError(no_column(place, name, header, _sniffed(header, separator, how)))
            if header.count(name) > 1:
                raise DataError(f"{place} has {header.count(name)} columns {name!r}; rename all but one")
        wanted = tuple(header.index(name) for name in columns)
        unnamed = tuple(i for i, name in enumerate(header) if not name.strip())
        # Two columns at least are always asked for, so that this makes a tuple.
        return cls(itemgetter(wanted[0], wanted[1], *wanted[2:]), max(wanted) + 1, len(header), unnamed)

    def row(self, line: int, fields: list[str], problem: str | None) -> RawRow:
        if problem is None and len(fields) < self.needed:
            problem = f"{len(fields)} columns where at least {self.needed} are needed"
        if problem is not None:
            return RawRow(line, (), problem=problem)
        return RawRow(line, self.pick(fields), self._overflows(fields))

    def _overflows(self, fields: list[str]) -> bool:
        if len(fields) == self.width and not self.unnamed:
            return False
        return any(fields[self.width :]) or any(fields[i] for i in self.unnamed if i < len(fields))


def _records(
    lines: Iterator[str], separator: str, how: TextFormat
) -> Iterator[tuple[int, list[str], str | None]]:
    """(start line, fields, problem) of each record; strict, so that a stray quote cannot eat rows."""
    csv.field_size_limit(sys.maxsize)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if how.quotes else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=separator, quoting=quoting, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            yield start, next(reader), None
        except StopIteration:
            return
        except csv.Error as e:
            remedy = f"mend them, or set {how.named('quotes', 'false')} if this file uses none"
            yield start, [], f"quotes that do not close properly ({e}); {remedy}"


def _header(lines: Iterator[tuple[int, list[str], str | None]], place: str) -> list[str]:
    for line, row, problem in lines:
        if problem is not None:
            raise DataError(f"{place}:{line}: the header cannot be read: {problem}")
        if any(field.strip() for field in row):
            return [field.strip() for field in row]
    raise DataError(f"{place} is empty")


def _sniffed(header: list[str], separator: str, how: TextFormat) -> str:
    if len(header) > 1:
        return ""
    for other, written in ((";", "';'"), ("\t", '"\\t"'), (",", "','"), ("|", "'|'")):
        if other in header[0] and other != separator:
            return f"; the columns seem to be separated otherwise: set {how.named('separator', written)}"
    return ""


def _stand_in(text: str) -> str:
    """A character that stands for a lone CR while the csv module, which breaks rows there, reads.

    In a file whose rows end in LF or CRLF a lone CR belongs to a text; where no LF is, CR ends rows.
    """
    if "\n" not in text or not _LONE_CR.search(text):
        return ""
    return next(c for c in map(chr, range(0xE000, 0xF8FF)) if c not in text)
