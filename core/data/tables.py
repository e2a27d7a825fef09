"""Tables of any length and format, read row by row: CSV and TSV, JSON lines, Parquet.

Values stay text: "645" is not a number, "NA" not a missing value, and a carriage return in a text is not a
line break. Only a block of the file is in memory.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from operator import itemgetter
from typing import Any, BinaryIO, Literal, Protocol

import pyarrow
import pyarrow.parquet

from core.data import sources
from core.data.quotes import Records
from core.data.rows import MissingColumn, RawRow, TextFormat, checked, nul, require_columns, undecodable
from core.data.text_lines import TextLines
from core.errors import DataError

Format = Literal["csv", "tsv", "jsonl", "parquet"]
FORMATS: dict[str, Format] = {
    "csv": "csv",
    "tsv": "tsv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "pq": "parquet",
}
"""Formats by the ending of a file's name."""
_BATCH = 8192
"""Rows of Parquet that are decoded at once."""
_HEAD = 100
"""Lines among which the first JSON object is searched."""


class OpenTable(Protocol):
    """A table whose header was read. `columns` of JSON lines are the keys of the first object."""

    columns: list[str]

    def rows(self, columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows as text, once, in the order of `columns` (two at least). Raises DataError."""
        ...


def rows(url: str, kind: Format, columns: Sequence[str], how: TextFormat) -> Iterator[RawRow]:
    """Yield the rows of the table at `url`, in the order of `columns` (two at least).

    Raises DataError for a file that cannot be read, a missing column, or a table without rows.
    """
    place = sources.place(url)
    with sources.opened(url) as file:
        found = open_table(file, place, kind, how).rows(columns)
        first = next(found, None)
        if first is None:
            raise DataError(f"{place} has a header but no rows")
        yield first
        yield from found


def open_table(file: BinaryIO, place: str, kind: Format, how: TextFormat) -> OpenTable:
    """Read the header of an open file. Raises DataError if it is not a table of this format."""
    if kind == "parquet":
        return ParquetTable(file, place, how)
    lines = TextLines(file, place, how, escape=kind != "jsonl")
    how = replace(how, likely=lines.likely)
    if kind == "jsonl":
        return JsonLines(lines, place, how)
    return CsvTable(lines, place, how, "\t" if kind == "tsv" else ",")


class CsvTable:
    """A CSV or TSV. Raises DataError if it has no readable header."""

    def __init__(self, lines: TextLines, place: str, how: TextFormat, default: str) -> None:
        self._place, self._how = place, how
        self._records = Records(lines, how, default)
        self._iterator = iter(self._records)
        self.columns = list[str]()
        for line, fields, problem in self._iterator:
            if problem is not None:
                raise DataError(f"{place}:{line}: the header cannot be read: {problem}")
            if any("\0" in field for field in fields):
                raise DataError(f"{place}: {nul('the header', how)}")
            if any(field.strip() for field in fields):
                self.columns = [field.strip() for field in fields]
                return
        raise DataError(f"{place} is empty")

    def rows(self, columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows. Unnamed columns after the last named one are ignored and reported as overflow."""
        header = self.columns
        require_columns(self._place, columns, header, self._remedy())
        places = [header.index(name) for name in columns]
        self._records.expect(len(header), places[0])
        pick = itemgetter(places[0], places[1], *places[2:])  # with two places at least it returns a tuple
        named = max(i + 1 for i, name in enumerate(header) if name)
        plain = named if named == len(header) else -1
        for line, fields, problem in self._iterator:
            if len(fields) == plain and fields[0] != header[0]:
                row = RawRow(line, pick(fields))
            elif reason := problem or self._problem(fields, max(places) + 1, places[0]):
                row = RawRow(line, (), problem=reason)
            else:
                row = RawRow(line, pick(fields), len(fields) > named and any(fields[named:]))
            yield checked(row, columns, self._how)

    def _remedy(self) -> str:
        """What to set if the header may have been read with a wrong separator or encoding."""
        header = self.columns
        if reason := undecodable("".join(header), self._how):
            return f"; {reason}"
        for other, written in ((";", "';'"), ("\t", '"\\t"'), (",", "','"), ("|", "'|'")):
            if len(header) == 1 and other in header[0] and other != self._records.separator:
                setting = self._how.named("separator", written)
                return f"; the columns seem to have another separator: set {setting}"
        return ""

    def _problem(self, fields: list[str], needed: int, text: int) -> str | None:
        header, width = self.columns, len(self.columns)
        if len(fields) < needed:
            return f"{len(fields)} columns where at least {needed} are needed"
        if len(fields) > width and (text == width - 1 or any(fields[width:])):
            if any(field.lstrip().startswith('"') and field[:1].isspace() for field in fields):
                remedy = "remove the space before the quote"
            else:
                remedy = f"quote a field that contains {self._records.separator!r}"
            return f"{len(fields)} fields where the header has {width}; {remedy}"
        if fields[0] == header[0] and width > 1 and [field.strip() for field in fields] == header:
            return "it repeats the header"
        return None


class JsonLines:
    """Lines of one JSON object each. Numbers keep their digits, blank lines are skipped."""

    def __init__(self, lines: TextLines, place: str, how: TextFormat) -> None:
        self._place, self._how = place, how
        self._lines = enumerate(lines.stripped(), start=1)
        self._head: list[tuple[int, str]] = []
        self.columns: list[str] = []
        for line, written in self._lines:
            self._head.append((line, written))
            value = _parsed(written) if written.strip() else None
            if isinstance(value, dict):
                self.columns = list(value)
            if self.columns or len(self._head) == _HEAD:
                break

    def rows(self, columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows; a key that no object has is an error at the end."""
        found: dict[str, None] = {}
        empty = True
        for line, written in chain(self._head, self._lines):
            if not written.strip():
                continue
            if empty and written.lstrip()[:1] == "[":
                raise DataError(f"{self._place} is one JSON array; write one object per line (JSON lines)")
            empty = False
            yield self._row(line, written, columns, found)
        if empty:
            raise DataError(f"{self._place} is empty")
        for name in columns:
            if found and name not in found:
                raise MissingColumn(self._place, name, list(found))

    def _row(self, line: int, written: str, columns: Sequence[str], found: dict[str, None]) -> RawRow:
        if problem := nul("the line", self._how) if "\0" in written else undecodable(written, self._how):
            return RawRow(line, (), problem=problem)
        value = _parsed(written)
        if isinstance(value, str):
            return RawRow(line, (), problem=value)
        found.update(dict.fromkeys(value))
        if any(written.count(json.dumps(name, ensure_ascii=False)) > 1 for name in columns):
            keys = Counter(key for key, _ in json.loads(written, object_pairs_hook=list))
            for name in columns:
                if keys[name] > 1:  # json.loads took the last value
                    return RawRow(line, (), problem=f"it has the key {name!r} more than once")
        return checked(_from_values(line, columns, [value.get(name) for name in columns]), columns)


class ParquetTable:
    """A Parquet file; the line of a row is its number from 1. Raises DataError if the file is another."""

    def __init__(self, data: BinaryIO, place: str, how: TextFormat) -> None:
        self._place = place
        if not data.seek(0, os.SEEK_END):
            raise DataError(f"{place} is empty")
        try:
            self._file = pyarrow.parquet.ParquetFile(data)
        except (pyarrow.ArrowException, OSError) as e:
            raise DataError(f"{place} is not a Parquet file ({e}); set {how.named('format')}") from None
        self.columns = list(self._file.schema_arrow.names)

    def rows(self, columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows."""
        require_columns(self._place, columns, self.columns)
        batches = self._file.iter_batches(_BATCH, columns=list(dict.fromkeys(columns)))
        line = 0
        while True:
            try:
                batch = next(batches, None)
            except (pyarrow.ArrowException, OSError) as e:
                raise DataError(f"{self._place} is damaged after row {line}: {e}") from None
            if batch is None:
                return
            for values in zip(*(_column_values(batch.column(name)) for name in columns), strict=True):
                line += 1
                yield checked(_from_values(line, columns, values), columns)


def _parsed(written: str) -> dict[str, Any] | str:
    """The object of a line, or what is wrong with it."""
    try:
        value = json.loads(written, parse_int=str, parse_float=str, parse_constant=lambda _: None)
    except json.JSONDecodeError as e:
        return f"not JSON: {e.msg} at column {e.colno}"
    except RecursionError:
        return "not JSON: too deep"
    return value if isinstance(value, dict) else "not a JSON object"


def _column_values(column: pyarrow.Array) -> list[Any]:
    """Values as Python objects; a text that is not UTF-8 stays bytes."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        plain = column.dictionary_decode() if isinstance(column, pyarrow.DictionaryArray) else column
        values: list[Any] = plain.cast(pyarrow.large_binary()).to_pylist()
        for i, value in enumerate(values):
            if value is not None:
                with contextlib.suppress(UnicodeDecodeError):
                    values[i] = value.decode()
        return values


def _from_values(line: int, columns: Sequence[str], values: Sequence[Any]) -> RawRow:
    named = zip(columns, values, strict=True)
    nested = [f"{n!r} is a {type(v).__name__}" for n, v in named if isinstance(v, (dict, list, bytes))]
    if nested:
        return RawRow(line, (), problem=f"{', '.join(nested)}, not a text")
    return RawRow(line, tuple([_as_text(value) for value in values]))


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if isinstance(value, float) and math.isnan(value) else str(value)
