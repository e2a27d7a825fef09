"""The texts to answer: rows of a table of any format, lines, or standard input, one after another."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal

from core.data import sources, streaming
from core.data.hashing import text_id
from core.data.locate import FORMATS, Format
from core.data.tables import RawRow, TextFormat
from core.errors import DataError

STDIN = "-"
InputFormat = Literal["auto", "csv", "tsv", "jsonl", "parquet", "lines"]
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class InputRow:
    """One text; `problem` says why the row cannot be answered, with its place."""

    id: str | None
    text: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where texts come from. `format` auto goes by the file's ending; standard input is lines then."""

    url: str
    format: InputFormat = "auto"
    text_column: str = "text"
    id_column: str | None = None
    encoding: str = "utf-8"
    separator: str | None = None
    quotes: bool = True

    @property
    def place(self) -> str:
        """As errors name it."""
        return "standard input" if self.url == STDIN else sources.place(self.url)

    def rows(self) -> Iterator[InputRow]:
        """Every row, in order; nothing but the row at hand is held. Raises DataError."""
        with self._opened() as file:
            kind = self._kind()
            if kind == "lines":
                found: Iterable[RawRow] = _lines(file, self.encoding)
            else:
                columns = (self.text_column, self.id_column or self.text_column)
                found = streaming.rows_of(file, self.place, kind, columns, self._how)
            for raw in found:
                yield self._row(raw, named=kind != "lines" and self.id_column is not None)

    def digest(self) -> str:
        """sha256 of the bytes as they lie there, in hex."""
        whole = hashlib.sha256()
        with self._opened() as file:
            while block := file.read(_BLOCK):
                whole.update(block)
        return whole.hexdigest()

    @property
    def _how(self) -> TextFormat:
        return TextFormat(self.encoding, self.separator, self.quotes, settings="--")

    def _kind(self) -> Format | Literal["lines"]:
        if self.format != "auto":
            return self.format
        if self.url == STDIN:
            return "lines"
        name = self.url.lower().removesuffix(".gz").rpartition(".")[2]
        if name == "txt":
            return "lines"
        if name not in FORMATS:
            raise DataError(
                f"{self.place}: the ending does not say how the file is written; set --format to csv, tsv, "
                "jsonl, parquet, or lines"
            )
        return FORMATS[name]

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        if self.url == STDIN:
            yield sys.stdin.buffer
            return
        with streaming.opened(self.url) as file:
            yield file

    def _row(self, raw: RawRow, *, named: bool) -> InputRow:
        if raw.problem is not None:
            return InputRow(None, "", f"{self.place}:{raw.line}: {raw.problem}")
        text, name = raw.values
        own = (name or "").strip() if named else ""
        if not text or not text.strip():
            return InputRow(own or None, "", f"{self.place}:{raw.line}: the text is empty")
        try:
            given = own or text_id(text)
        except UnicodeEncodeError:
            return InputRow(own or None, "", f"{self.place}:{raw.line}: it holds half a character")
        if named and not own:
            return InputRow(None, "", f"{self.place}:{raw.line}: the id (column {self.id_column!r}) is empty")
        return InputRow(given, text)


def _lines(file: BinaryIO, encoding: str) -> Iterator[RawRow]:
    for line, written in enumerate(file, start=1):
        try:
            text = written.decode(encoding).rstrip("\r\n")
        except UnicodeDecodeError as e:
            yield RawRow(line, (), problem=f"not {encoding}: {e.reason}; set --encoding")
            continue
        yield RawRow(line, (text.removeprefix("\ufeff") if line == 1 else text, None))
