"""The table whose texts are answered, row after row, and the table of predictions."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO

import pyarrow
import pyarrow.parquet

from core.data import sources, tables
from core.data.sources import FORMATS, STANDARD_INPUT, Format, TextFormat, TextLines
from core.data.tables import MissingColumn, RawRow, garbled
from core.errors import DataError, UserError
from core.export.bundle import read_contents
from core.predict import STANDARD, InputFormat, OutputFormat, PredictOptions
from core.predict.loaded_student import Prediction
from core.records import batched, text_id

log = logging.getLogger(__name__)
_TEXT, _NUMBER = pyarrow.string(), pyarrow.float64()
_PLAIN = pyarrow.schema(
    [("id", _TEXT), ("label", _TEXT), ("probability", _NUMBER), ("threshold", _NUMBER), ("error", _TEXT)]
)
_REASONED = pyarrow.schema([("reasoning", _TEXT), ("rules", pyarrow.list_(_TEXT))])
_AT_ONCE = 8192


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
        how = TextFormat(self.encoding, self.separator, self.quotes, settings="--")
        with self._opened() as file:
            if (kind := self._kind()) == "lines":
                lines = TextLines(file, self.place, how)
                how = replace(how, likely=lines.likely)
                for number, text in enumerate(lines.stripped(), start=1):
                    raw = RawRow(number, (text, None), problem=garbled("the text", text, how))
                    yield self._row(raw, named=False)
                return
            table = tables.open_table(file, self.place, kind, how)
            column, second = self.text_column, self.second_choice
            if column not in table.columns and second is not None and second in table.columns:
                log.warning(
                    "%s has no column %r, where the training data has its texts; the texts are taken from "
                    "column %r (--text-column names another)",
                    *(self.place, column, second),
                )
                column = second
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
            by_text = text_id(text)
        except UnicodeEncodeError:
            return InputRow(own or None, "", f"{self.place}:{raw.line}: it holds half a character")
        if named and not own:
            return InputRow(None, "", f"{self.place}:{raw.line}: the id (column {self.id_column!r}) is empty")
        return InputRow(own or by_text, text, overflow=raw.overflow)


def text_columns(asked: str | None, trained: str) -> tuple[str, str | None]:
    """Return the column of the texts, and the second choice: "text", unless a column is asked for."""
    return (asked, None) if asked is not None else (trained, "text")


def output_format(url: str, asked: OutputFormat | None) -> OutputFormat:
    """The format asked for, or that of the file's ending. Raises UserError."""
    found = asked or FORMATS.get(url.lower().rpartition(".")[2])
    if found is None or found == "tsv":
        raise UserError(f"{url}: the ending does not give the format; end it in .csv, .jsonl or .parquet")
    return found


def output_columns(*, reasoning: bool) -> list[str]:
    """The columns that are written."""
    return [*_PLAIN.names, *(_REASONED.names if reasoning else [])]


def output_record(row: InputRow, answer: Prediction | None, *, reasoning: bool) -> dict[str, Any]:
    """The columns of one row; `answer` is None for a row that could not be asked."""
    answer = answer or Prediction(None, None, None)
    out = {
        "id": row.id,
        "label": answer.label,
        "probability": answer.probability,
        "threshold": answer.threshold,
        "error": row.problem or answer.error,
    }
    return {**out, "reasoning": answer.reasoning, "rules": list(answer.rules)} if reasoning else out


def json_line(row: Mapping[str, Any]) -> str:
    """One record as a line of JSON; half a surrogate pair, which UTF-8 cannot encode, is escaped."""
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    return text if text == _encodable(text) else json.dumps(row, allow_nan=False)


def csv_writer(out: TextIO) -> Callable[[Iterable[Any]], None]:
    """Return a function that writes one row: rules separated by spaces, half a surrogate pair as U+FFFD.

    A row with a carriage return is quoted, which the csv module does only if it is part of the line's end.
    """
    plain = csv.writer(out, lineterminator="\n")
    quoted = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(values: Iterable[Any]) -> None:
        fields = [_encodable(" ".join(v) if isinstance(v, list) else v) for v in values]
        returns = any(isinstance(field, str) and "\r" in field for field in fields)
        (quoted if returns else plain).writerow(fields)

    return write


def write_output(
    path: Path, kind: OutputFormat, rows: Iterable[Mapping[str, Any]], *, reasoning: bool
) -> None:
    """Write records, a few thousand in memory at a time."""
    names = output_columns(reasoning=reasoning)
    if kind == "parquet":
        schema = pyarrow.unify_schemas([_PLAIN, _REASONED]) if reasoning else _PLAIN
        with pyarrow.parquet.ParquetWriter(path, schema) as parquet:
            for part in batched(rows, _AT_ONCE):
                plain = [{name: _encodable(value) for name, value in row.items()} for row in part]
                parquet.write_table(pyarrow.Table.from_pylist(plain, schema=schema))
        return
    with path.open("w", encoding="utf-8", newline="") as f:
        if kind == "jsonl":
            f.writelines(f"{json_line(row)}\n" for row in rows)
        else:
            write_row = csv_writer(f)
            write_row(names)
            for row in rows:
                write_row(row[name] for name in names)


def _encodable(value: Any) -> Any:
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value
