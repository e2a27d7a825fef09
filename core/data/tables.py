"""Tables of any length and format, read row by row: CSV and TSV, JSON lines, Parquet.

Values stay text: "645" is not a number, "NA" not a missing value, and a carriage return in a text is not a
line break. Only a block of the file is in memory.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import chain
from operator import itemgetter
from typing import Any, BinaryIO, Protocol

import pyarrow
import pyarrow.parquet

from core.data import sources
from core.data.csv_records import Records
from core.data.sources import Format, TextFormat, TextLines
from core.errors import DataError, UserError

_BATCH = 8192
"""Rows of Parquet that are decoded at once."""
_HEAD = 100
"""Lines among which the first JSON object is searched."""
_UNDECODED = re.compile("[\udc00-\udcff]")


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as text, in the order of the columns asked for; None is a missing value.

    `line` is the line it starts on, from 1 (for Parquet the row's number). `overflow` means that unnamed
    columns past the named ones have content, `problem` is why the row cannot be used.
    """

    line: int
    values: tuple[str | None, ...]
    overflow: bool = False
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table to publish. `path` is absolute or a URL, `sha256` and `bytes` are of the file, not unpacked.

    `rows` is None if their number depends on a config: the quotes of a CSV may be none.
    """

    name: str
    path: str
    sha256: str
    bytes: int
    rows: int | None


class MissingColumn(DataError):
    """A table without a column that was asked for."""

    def __init__(self, place: str, column: str, found: Sequence[str], remedy: str = "") -> None:
        near = difflib.get_close_matches(column.casefold(), [f.casefold() for f in found], n=1, cutoff=0.5)
        hint = next((f"; did you mean {f!r}?" for f in found if near and f.casefold() == near[0]), "")
        has = ", ".join(map(repr, found))
        super().__init__(f"{place} has no column {column!r}; it has {has}{remedy or hint}")
        self.column = column


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


def published_table(url: str, name: str | None = None) -> PublishedTable:
    """Read a table and describe it; its default name is that of the file.

    Raises DataError if it is empty or cannot be read, UserError for a name with other characters than
    letters, digits, dots, underscores and hyphens.
    """
    if name is None:
        stem = url.rstrip("/").rpartition("/")[2].split(".")[0]
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_") or "data"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"--name {name}: a name has letters, digits, dots, underscores and hyphens only")
    packed = sources.read_bytes(url)
    with sources.opened(url) as file:
        data = file.read()
    if not data:
        raise DataError(f"{sources.place(url)} is empty")
    rows, kind = None, sources.FORMATS.get(sources.ending(url))
    if kind == "jsonl":
        rows = sum(1 for line in data.splitlines() if line.strip())
    elif kind == "parquet":
        try:
            rows = int(pyarrow.parquet.ParquetFile(BytesIO(data)).metadata.num_rows)
        except pyarrow.ArrowException as e:
            raise DataError(f"{sources.place(url)} is not a Parquet file ({e})") from None
    return PublishedTable(name, sources.place(url), hashlib.sha256(packed).hexdigest(), len(packed), rows)


class CsvTable:
    """A CSV or TSV. Raises DataError if it has no readable header."""

    def __init__(self, lines: TextLines, place: str, how: TextFormat, default: str) -> None:
        self._place, self._how = place, how
        self._records = Records(lines, how, default)
        self._iterator = iter(self._records)
        for line, fields, problem in self._iterator:
            if problem is not None:
                raise DataError(f"{place}:{line}: the header cannot be read: {problem}")
            if any("\0" in field for field in fields):
                raise DataError(f"{place}: {garbled('the header', ''.join(fields), how)}")
            if any(field.strip() for field in fields):
                self.columns = [field.strip() for field in fields]
                return
        raise DataError(f"{place} is empty")

    def rows(self, columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows. Unnamed columns after the last named one are ignored and reported as overflow."""
        header, remedy = self.columns, ""
        if reason := undecodable("".join(header), self._how):
            remedy = f"; {reason}"
        for other, written in ((";", "';'"), ("\t", '"\\t"'), (",", "','"), ("|", "'|'")):
            if not remedy and len(header) == 1 and other in header[0] and other != self._records.separator:
                setting = self._how.named("separator", written)
                remedy = f"; the columns seem to have another separator: set {setting}"
        require_columns(self._place, columns, header, remedy)
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

    def _problem(self, fields: list[str], needed: int, text: int) -> str | None:
        header, width = self.columns, len(self.columns)
        if len(fields) < needed:
            return f"{len(fields)} columns where at least {needed} are needed"
        if len(fields) > width and (text == width - 1 or any(fields[width:])):
            remedy = f"quote a field that contains {self._records.separator!r}"
            if any(field.lstrip().startswith('"') and field[:1].isspace() for field in fields):
                remedy = "remove the space before the quote"
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
            has_nul = "\0" in written
            problem = garbled("the line", written, self._how) if has_nul else undecodable(written, self._how)
            value = problem or _parsed(written)
            if isinstance(value, str):
                yield RawRow(line, (), problem=value)
                continue
            found.update(dict.fromkeys(value))
            repeated = None  # a key of which json.loads takes the last value
            if any(written.count(json.dumps(name, ensure_ascii=False)) > 1 for name in columns):
                keys = Counter(key for key, _ in json.loads(written, object_pairs_hook=list))
                repeated = next((name for name in columns if keys[name] > 1), None)
            if repeated is not None:
                yield RawRow(line, (), problem=f"it has the key {repeated!r} more than once")
            else:
                yield _from_values(line, columns, [value.get(name) for name in columns])
        if empty:
            raise DataError(f"{self._place} is empty")
        for name in columns:
            if found and name not in found:
                raise MissingColumn(self._place, name, list(found))


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
                yield _from_values(line, columns, values)


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
    """A row of Python values as text, checked."""
    texts: list[str | None] = []
    nested: dict[str, None] = {}
    for name, value in zip(columns, values, strict=True):
        if value is None or isinstance(value, str):
            texts.append(value)
        elif isinstance(value, (dict, list, bytes)):
            nested[f"{name!r} is a {type(value).__name__}"] = None
        elif isinstance(value, bool):
            texts.append("true" if value else "false")
        else:
            texts.append(None if isinstance(value, float) and math.isnan(value) else str(value))
    if nested:
        return RawRow(line, (), problem=f"{', '.join(nested)}, not a text")
    return checked(RawRow(line, tuple(texts)), columns)


def require_columns(place: str, columns: Sequence[str], found: Sequence[str], remedy: str = "") -> None:
    """Raise MissingColumn for a column that is not in `found`, DataError for one that is there twice."""
    for name in columns:
        if name not in found:
            raise MissingColumn(place, name, found, remedy)
        if found.count(name) > 1:
            raise DataError(f"{place} has {found.count(name)} columns {name!r}; rename all but one")


def checked(raw: RawRow, columns: Sequence[str], how: TextFormat | None = None) -> RawRow:
    """The row, with a problem if a value is garbled; `how` if it comes from a text table."""
    for name, value in zip(columns, raw.values, strict=False):
        if value and not (value.isascii() and "\0" not in value):
            reason = garbled(f"column {name!r}", value, how)
            if reason is not None:
                return RawRow(raw.line, (), raw.overflow, reason)
    return raw


def garbled(what: str, value: str, how: TextFormat | None = None) -> str | None:
    """Why a value cannot be used that has NULs or was not decoded; None if it can."""
    if "\0" in value:
        remedy = "; remove them"
        if how is not None and how.likely:
            remedy = f", as UTF-16 and UTF-32 have; set {how.named('encoding', how.likely)}"
        elif how is not None:
            remedy += f", or set {how.named('encoding')} (utf-16-le, say)"
        return f"{what} has NUL characters{remedy}"
    if "\ufffd" in value and 2 * value.count("\ufffd") > len(value):
        return f"{what} is mostly characters that an earlier program could not decode (U+FFFD)"
    return undecodable(value, how) if how is not None else None


def undecodable(text: str, how: TextFormat) -> str | None:
    """Why a text with lone surrogates cannot be used, which represent undecodable bytes; None without any."""
    bad = None if text.isascii() else _UNDECODED.search(text)
    if bad is None:
        return None
    example = "" if how.likely else " (latin-1 or cp1252, say)"
    byte = f"0x{ord(bad[0]) - 0xDC00:02x}"
    return (
        f"byte {byte} is not {how.encoding}; set {how.named('encoding', how.likely)}{example} or fix the file"
    )
