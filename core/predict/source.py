"""The texts to answer: rows of a table of any format, lines, or standard input, one after another."""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from core.bundle.opening import read_contents
from core.data import sources, tables
from core.data.sources import FORMATS, STANDARD_INPUT, Format, TextFormat, TextLines
from core.data.tables import MissingColumn, RawRow, garbled
from core.errors import DataError
from core.predict.options import STANDARD, InputFormat, PredictOptions
from core.records import text_id

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InputRow:
    """One text; `problem` is the reason and the place if the row cannot be answered.

    `overflow` is true if the row has content in unnamed columns, which is ignored.
    """

    id: str | None
    text: str
    problem: str | None = None
    overflow: bool = False


@dataclass(frozen=True, slots=True)
class TextSource:
    """Where texts come from. `format` auto depends on the file's ending; standard input is then lines."""

    url: str
    format: InputFormat = "auto"
    text_column: str = "text"
    id_column: str | None = None
    encoding: str = "utf-8"
    separator: str | None = None
    quotes: bool = True
    second_choice: str | None = None
    """The column of the texts in a table that has no `text_column`."""

    @staticmethod
    def of(options: PredictOptions, bundle: Path) -> TextSource:
        """The input of `options`; the text column is by default that of the bundle's training data."""
        first, second = text_columns(options.text_column, read_contents(bundle).columns.text)
        how = (options.encoding, options.separator, options.quotes)
        return TextSource(options.input, options.format, first, options.id_column, *how, second)

    @property
    def place(self) -> str:
        """As errors name it."""
        return STANDARD_INPUT if self.url == STANDARD else sources.place(self.url)

    def rows(self) -> Iterator[InputRow]:
        """Yield every row, in order, with one block of the input in memory. Raises DataError."""
        with self._opened() as file:
            if self._kind() == "lines":
                yield from self._lines(file)
                return
            table = self._table(file)
            column = self._text_column(table.columns)
            try:
                for raw in table.rows((column, self.id_column or column)):
                    yield self._row(raw, named=self.id_column is not None)
            except MissingColumn as e:
                option = "--text-column" if e.column == column else "--id-column"
                raise DataError(f"{e}; set {option}") from None

    def digest(self) -> str:
        """sha256 of the (decompressed) bytes, in hex."""
        with self._opened() as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]

    def _lines(self, file: BinaryIO) -> Iterator[InputRow]:
        lines = TextLines(file, self.place, self._how)
        how = replace(self._how, likely=lines.likely)
        for number, text in enumerate(lines.stripped(), start=1):
            raw = RawRow(number, (text, None), problem=garbled("the text", text, how))
            yield self._row(raw, named=False)

    @property
    def _how(self) -> TextFormat:
        return TextFormat(self.encoding, self.separator, self.quotes, settings="--")

    def _table(self, file: BinaryIO) -> tables.OpenTable:
        kind = self._kind()
        assert kind != "lines", "lines have no columns"
        return tables.open_table(file, self.place, kind, self._how)

    def _text_column(self, found: Sequence[str]) -> str:
        second = self.second_choice
        if self.text_column in found or second not in found or second is None:
            return self.text_column
        log.warning(
            "%s has no column %r, where the training data has its texts; the texts are taken from column %r "
            "(--text-column names another)",
            *(self.place, self.text_column, second),
        )
        return second

    def _kind(self) -> Format | Literal["lines"]:
        if self.format != "auto":
            return self.format
        if self.url == STANDARD:
            return "lines"
        ending = sources.ending(self.url)
        if ending == "txt":
            return "lines"
        if ending not in FORMATS:
            raise DataError(
                f"{self.place}: the ending does not identify the format; set --format to csv, tsv, jsonl, "
                "parquet, or lines"
            )
        return FORMATS[ending]

    def _opened(self) -> AbstractContextManager[BinaryIO]:
        return nullcontext(sys.stdin.buffer) if self.url == STANDARD else sources.opened(self.url)

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
        return InputRow(given, text, overflow=raw.overflow)


def text_columns(asked: str | None, trained: str | None) -> tuple[str, str | None]:
    """The column of the texts, and the second choice: where none is asked for, "text"."""
    return (asked, None) if asked is not None else (trained or "text", "text")
