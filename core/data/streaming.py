"""Rows of a table of any length, one after another: nothing but the row at hand is held in memory."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, cast

from core.data import csv_table, sources, typed_tables
from core.data.locate import Format
from core.data.tables import RawRow, TextFormat, checked
from core.errors import DataError

_HEAD = 1 << 16
_ESCAPE = "\ue000"
"""Stands before what stands for a carriage return inside a row, and before itself."""


def rows(url: str, kind: Format, columns: Sequence[str], how: TextFormat) -> Iterator[RawRow]:
    """Rows of the table at `url` as text, in the order of `columns` (two at least).

    As core.data.reading.raw_rows, which holds the table in memory. Raises DataError.
    """
    with opened(url) as file:
        yield from rows_of(file, sources.place(url), kind, columns, how)


def rows_of(
    file: BinaryIO, place: str, kind: Format, columns: Sequence[str], how: TextFormat
) -> Iterator[RawRow]:
    """As `rows`, of a file that is open."""
    try:
        if kind == "parquet":
            yield from typed_tables.parquet_rows(file, place, columns)
            return
        if kind == "jsonl":
            found = typed_tables.jsonl_lines(_lines(file, place, how), place, columns, how)
        else:
            default, lines = "\t" if kind == "tsv" else ",", _escaped(file, place, how)
            found = csv_table.rows_of(lines, place, columns, how, default, unescaped)
        for raw in found:
            yield checked(raw, how)
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise DataError(f"{place} ends in .gz but is not a whole gzip file ({e})") from None


@contextmanager
def opened(url: str) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked where its name ends in .gz. Raises DataError where there is none."""
    with sources.explained(url):
        if sources.is_local(url):
            found: BinaryIO = sources.local_path(url).open("rb")
        else:
            fs, path = sources.filesystem(url)
            found = cast(BinaryIO, fs.open(path, "rb"))
    with found:
        yield cast(BinaryIO, gzip.GzipFile(fileobj=found)) if url.lower().endswith(".gz") else found


def _lines(file: BinaryIO, place: str, how: TextFormat, ends: str = "\n") -> Iterator[str]:
    """Lines with their ends, without a byte order mark; bytes outside the encoding as lone surrogates."""
    buffered = io.BufferedReader(cast(io.RawIOBase, file)) if not hasattr(file, "peek") else file
    head = cast(io.BufferedReader, buffered).peek(2)[:2]
    if head == b"\x1f\x8b":
        raise DataError(f"{place} is packed by gzip; give it a name that ends in .gz")
    if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and how.encoding.replace("-", "").lower() == "utf8":
        raise DataError(f"{place} is UTF-16, not {how.encoding}; set {how.named('encoding', 'utf-16')}")
    try:
        text = io.TextIOWrapper(buffered, how.encoding, "surrogateescape", newline=ends)
    except LookupError:
        raise DataError(
            f"{place}: there is no encoding {how.encoding!r}; set {how.named('encoding')}"
        ) from None
    try:
        for i, line in enumerate(text):
            yield line.removeprefix("\ufeff") if i == 0 else line
    except UnicodeError as e:
        raise DataError(f"{place} is not {how.encoding} ({e}); set {how.named('encoding')}") from None


def _escaped(file: BinaryIO, place: str, how: TextFormat) -> Iterator[str]:
    """Lines for the csv module, which would break a row at a lone carriage return: it is escaped.

    In a file without any line feed carriage returns end rows.
    """
    buffered = io.BufferedReader(cast(io.RawIOBase, file)) if not hasattr(file, "peek") else file
    head = cast(io.BufferedReader, buffered).peek(_HEAD)
    if b"\n" not in head and b"\r" in head:
        yield from _lines(buffered, place, how, "")
        return
    for line in _lines(buffered, place, how):
        end = 2 if line.endswith("\r\n") else 1 if line.endswith("\n") else 0
        body = line[: len(line) - end]
        if "\r" in body or _ESCAPE in body:
            body = body.replace(_ESCAPE, f"{_ESCAPE}0").replace("\r", f"{_ESCAPE}1")
        yield body + line[len(line) - end :]


def unescaped(field: str) -> str:
    """A field as it was before `_escaped`."""
    if _ESCAPE not in field:
        return field
    return field.replace(f"{_ESCAPE}1", "\r").replace(f"{_ESCAPE}0", _ESCAPE)
