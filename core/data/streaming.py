"""Rows of a table of any length, one after another: only a block of the file is held in memory."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO, Protocol, cast

from core.data import sources
from core.data.csv_table import CsvTable
from core.data.locate import Format
from core.data.tables import RawRow, TextFormat
from core.data.text_lines import TextLines
from core.data.typed_tables import JsonLines, ParquetTable
from core.errors import DataError


class OpenTable(Protocol):
    """A table of any format whose header is read. `columns` are of JSON lines the first object's keys."""

    columns: list[str]

    def rows(self, columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows as text, once, in the order of `columns`, two at least. Raises DataError."""
        ...


def rows(url: str, kind: Format, columns: Sequence[str], how: TextFormat) -> Iterator[RawRow]:
    """Yield the rows of the table at `url` as text, in the order of `columns` (two at least).

    Raises DataError.
    """
    place = sources.place(url)
    with opened(url) as file, whole(place):
        yield from open_table(file, place, kind, how).rows(columns)


def open_table(file: BinaryIO, place: str, kind: Format, how: TextFormat) -> OpenTable:
    """Read the header of an open file. Raises DataError for a file that is not such a table."""
    if kind == "parquet":
        return ParquetTable(file, place, how)
    lines = TextLines(file, place, how, escape=kind != "jsonl")
    how = replace(how, likely=lines.likely)
    if kind == "jsonl":
        return JsonLines(lines, place, how)
    return CsvTable(lines, place, how, "\t" if kind == "tsv" else ",")


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


@contextmanager
def whole(place: str) -> Iterator[None]:
    """Say in a sentence that a packed file is damaged."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise DataError(f"{place} ends in .gz but is not a whole gzip file ({e})") from None
