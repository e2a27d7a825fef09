"""How a table's file is written, found in its first bytes: format, encoding, separator, quotes; and a sample.

Only the beginning of a file is read, whatever its size: the first `SAMPLE_ROWS` rows, or fewer of long texts.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import BinaryIO

import pyarrow
import pyarrow.parquet

from core.data import sources
from core.data.compression import compression_of, compression_of_content
from core.data.sources import FORMATS, Format, TextFormat
from core.data.tables import RawRow, open_table
from core.errors import DataError

SAMPLE_ROWS = 20_000
"""Rows that are read of a table."""
SAMPLE_CHARACTERS = 50_000_000
"""Characters after which a sample ends, too."""
_HEAD = 1 << 20
_TRIED_ROWS = 1_000
"""Rows that are read with each separator."""
_CHECKED = 64 << 20
"""Bytes that are checked for being UTF-8."""
_BLOCK = 1 << 20
_USUAL = 0.9
"""The least share of rows that fit the header of a table."""
_BETTER = 0.02
"""How much larger it must be with an unusual separator, or without quotes."""
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_SPREADSHEETS = ("xlsx", "xls", "xlsm", "ods", "numbers")
_LEGACY = ("cp1252", "latin-1")
"""Encodings that are tried after UTF-8; the second decodes any bytes."""
_CONTROL = bytes(set(range(32)) - set(b"\t\n\f\r\x1b")) + b"\x7f"
_MOST_CONTROL = 0.02
"""The share of control characters from which on a file is not text."""


@dataclass(frozen=True, slots=True)
class TableFormat:
    """How the table at `url` is written; `columns` are those with a name of their own and plain values."""

    url: str
    kind: Format
    how: TextFormat
    columns: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    """Columns without a name of their own, or with nested values."""

    @property
    def place(self) -> str:
        """The absolute path, or the URL."""
        return sources.place(self.url)

    @property
    def settings(self) -> dict[str, object]:
        """The keys of `data:` that differ from what the loader assumes of a file of this name."""
        found: dict[str, object] = {}
        if FORMATS.get(sources.ending(self.url)) != self.kind:
            found["format"] = self.kind
        if self.kind != "parquet" and self.how.encoding != "utf-8":
            found["encoding"] = self.how.encoding
        if self.kind in ("csv", "tsv"):
            if self.how.separator != ("\t" if self.kind == "tsv" else ","):
                found["separator"] = self.how.separator
            if not self.how.quotes:
                found["quotes"] = False
        return found

    def __str__(self) -> str:
        packed = compression_of(self.url)
        parts = {"csv": "CSV", "tsv": "TSV", "jsonl": "JSON lines", "parquet": "Parquet"}[self.kind]
        if packed is not None:
            parts += f", packed by {packed.name}"
        if self.kind == "parquet":
            return parts
        parts += f", {self.how.encoding}"
        if self.how.separator is not None and self.kind != "jsonl":
            named = _SEPARATORS.get(self.how.separator, repr(self.how.separator))
            parts += f", separated by {named}" + ("" if self.how.quotes else ", without quotes")
        return parts


@dataclass(frozen=True, slots=True)
class Sample:
    """The first rows of a table as text; `whole` if these are all."""

    format: TableFormat
    rows: tuple[RawRow, ...]
    whole: bool

    def values(self, column: str) -> list[str]:
        """The values of a column in the rows that can be read, stripped; empty for a missing one."""
        at = self.format.columns.index(column)
        return [(row.values[at] or "").strip() for row in self.rows if row.problem is None]


def detect(url: str, encoding: str | None = None, separator: str | None = None) -> TableFormat:
    """Return how the table at `url` is written; a given encoding or separator is taken as it is.

    Raises DataError for a file that is empty, binary, a spreadsheet, or has fewer than two columns.
    """
    place = sources.place(url)
    if sources.ending(url) in _SPREADSHEETS:
        raise DataError(f"{place} is a spreadsheet; export the sheet as CSV (UTF-8)")
    with sources.opened(url) as file:
        head = _read(file, _HEAD)
        if not head.strip():
            raise DataError(f"{place} is empty; name a table with a header and rows")
        if head.startswith(b"PAR1"):
            return _parquet(url)
        found = encoding or _encoding(head, file, place)
    how = TextFormat(found, separator, settings="--")
    first = _first_line(head, found)
    if first.startswith("["):
        raise DataError(f"{place} is one JSON array; write one object per line (JSON lines)")
    if first.startswith("{"):
        return _json_lines(url, first, how)
    return _separated(url, how)


def read_sample(found: TableFormat) -> Sample:
    """Read the first rows of a table. Raises DataError if there are none."""
    rows: list[RawRow] = []
    characters = 0
    with sources.opened(found.url) as file:
        for row in open_table(file, found.place, found.kind, found.how).rows(found.columns):
            if len(rows) == SAMPLE_ROWS or characters > SAMPLE_CHARACTERS:
                return Sample(found, tuple(rows), whole=False)
            rows.append(row)
            characters += sum(len(value) for value in row.values if value)
    if not rows:
        raise DataError(f"{found.place} has a header but no rows")
    return Sample(found, tuple(rows), whole=True)


def _read(file: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, fewer at the end of the file only."""
    parts = list[bytes]()
    while size > 0 and (part := file.read(min(size, _BLOCK))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _encoding(head: bytes, file: BinaryIO, place: str) -> str:
    """The encoding of a text file by its first bytes; `file` continues after `head`."""
    if found := sources.unicode_encoding(head):
        return found
    if packed := compression_of_content(head):
        raise DataError(f"{place} is packed by {packed.name}; give it a name that ends in {packed.ending}")
    controls = sum(head.count(byte) for byte in _CONTROL)
    if b"\0" in head or controls > _MOST_CONTROL * len(head):
        raise DataError(f"{place} is a binary file, not a table; name a CSV, TSV, JSON lines or Parquet file")
    decoder = codecs.getincrementaldecoder("utf-8")()
    block, read = head, 0
    try:
        while block and read < _CHECKED:
            decoder.decode(block)
            read += len(block)
            block = file.read(_BLOCK)
    except UnicodeDecodeError:
        for name in _LEGACY:
            try:
                block.decode(name)
            except UnicodeDecodeError:
                continue
            return name
    return "utf-8"


def _first_line(head: bytes, encoding: str) -> str:
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head).lstrip("\ufeff \t\r\n")
    return text.splitlines()[0] if text else ""


def _parquet(url: str) -> TableFormat:
    place = sources.place(url)
    with sources.opened(url) as file:
        try:
            schema = pyarrow.parquet.ParquetFile(file).schema_arrow
        except (pyarrow.ArrowException, OSError) as e:
            raise DataError(f"{place} is not a whole Parquet file ({e})") from None
    plain = [field.name for field in schema if not pyarrow.types.is_nested(field.type)]
    return _of_columns(url, "parquet", TextFormat(), schema.names, plain)


def _json_lines(url: str, first: str, how: TextFormat) -> TableFormat:
    try:
        row = json.loads(first)
    except (json.JSONDecodeError, RecursionError) as e:
        raise DataError(
            f"{sources.place(url)}:1: begins with a brace but is not a JSON object ({e}); write one JSON "
            "object per line"
        ) from None
    plain = [name for name, value in row.items() if not isinstance(value, dict | list)]
    return _of_columns(url, "jsonl", how, list(row), plain)


def _of_columns(
    url: str, kind: Format, how: TextFormat, names: Sequence[str], plain: Sequence[str]
) -> TableFormat:
    """The format, with the columns that have a name of their own. Raises DataError for fewer than two."""
    columns = tuple(name for name in plain if name.strip() and list(names).count(name) == 1)
    if len(columns) < 2:
        what = f"one column, {columns[0]!r}" if columns else f"no column with a name of its own ({names[:5]})"
        other = "; columns with another separator need --separator" if kind in ("csv", "tsv") else ""
        raise DataError(f"{sources.place(url)} has {what}; a table needs a text and a label{other}")
    ignored = tuple(dict.fromkeys(name for name in names if name not in columns))
    return TableFormat(url, kind, how, columns, ignored)


def _separated(url: str, how: TextFormat) -> TableFormat:
    """CSV or TSV with the separator, and quotes or none, with which most rows fit the header."""
    usual = "\t" if FORMATS.get(sources.ending(url)) == "tsv" else ","
    separators = [how.separator] if how.separator else [usual, *(s for s in _SEPARATORS if s != usual)]
    best, share, problem, failed = None, -1.0, "", list[DataError]()
    for separator in separators:
        for quotes in (True, False):
            tried = replace(how, separator=separator, quotes=quotes)
            try:
                found, fitting, reason = _tried(url, tried)
            except DataError as e:
                failed.append(e)
                continue
            if fitting > share + _BETTER:
                best, share, problem = found, fitting, reason
    if best is None:
        raise failed[0]
    if share < _USUAL:
        raise DataError(
            f"{best.place} is not a table: only {share:.0%} of its first rows fit the header ({problem}); "
            "check the file, or name --separator and --encoding"
        )
    return best


def _tried(url: str, how: TextFormat) -> tuple[TableFormat, float, str]:
    """The table as read with a separator, the share of rows that fit its header, and a problem of others."""
    kind: Format = "tsv" if FORMATS.get(sources.ending(url)) == "tsv" and how.separator == "\t" else "csv"
    with sources.opened(url) as file:
        table = open_table(file, sources.place(url), "csv", how)
        found = _of_columns(url, kind, how, table.columns, table.columns)
        problems = [(row.line, row.problem) for row in islice(table.rows(found.columns), _TRIED_ROWS)]
    bad = [f"line {line}: {problem}" for line, problem in problems if problem is not None]
    return found, 1 - len(bad) / len(problems) if problems else 1.0, bad[0] if bad else ""
