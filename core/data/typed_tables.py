"""Rows of JSON lines and Parquet: values that carry types, as the text they would be written with."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet

from core.data.tables import MissingColumn, RawRow, TextFormat, checked, nul, only_once, undecodable
from core.data.text_lines import TextLines, lines_of
from core.errors import DataError

_BATCH = 8192
_FIRST = 100
"""Lines among which the first object is looked for."""


class JsonLines:
    """Lines of one JSON object each; numbers keep the digits they are written with, blank lines are skipped.

    `columns` are the keys of the first object.
    """

    def __init__(self, lines: TextLines, place: str, how: TextFormat) -> None:
        self._place, self._how = place, how
        self._lines = enumerate(lines_of(lines), start=1)
        self._read: list[tuple[int, str]] = []
        self.columns = self._first_keys()

    def rows(self, columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows, in the order of `columns`. Raises DataError, for a missing column at the end."""
        found: dict[str, None] = {}
        rows = 0
        for line, written in chain(self._read, self._lines):
            if not written.strip():
                continue
            if not rows and written.lstrip()[:1] == "[":
                raise DataError(f"{self._place} is one JSON array; write one object a line (JSON lines)")
            rows += 1
            yield self._row(line, written, columns, found)
        if not rows:
            raise DataError(f"{self._place} is empty")
        for name in columns:
            if found and name not in found:
                raise MissingColumn(self._place, name, list(found))

    def _first_keys(self) -> list[str]:
        for line, written in islice(self._lines, _FIRST):
            self._read.append((line, written))
            value = _parsed(written) if written.strip() else None
            if isinstance(value, dict):
                return list(value)
        return []

    def _row(self, line: int, written: str, columns: Sequence[str], found: dict[str, None]) -> RawRow:
        if problem := nul("the line", self._how) if "\0" in written else undecodable(written, self._how):
            return RawRow(line, (), problem=problem)
        value = _parsed(written)
        if isinstance(value, str):
            return RawRow(line, (), problem=value)
        found.update(dict.fromkeys(value))
        if repeated := _repeated(written, columns):
            return RawRow(line, (), problem=f"it has the key {repeated!r} more than once")
        return checked(_from_values(line, columns, [value.get(name) for name in columns]), columns)


class ParquetTable:
    """An open Parquet file; `line` of a row is its number from 1. Raises DataError where it is not one."""

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
        """The rows, in the order of `columns`. Raises DataError for a column that is missing or not alone."""
        for name in columns:
            if name not in self.columns:
                raise MissingColumn(self._place, name, self.columns)
        only_once(self._place, columns, self.columns)
        line = 0
        for batch in self._batches(list(dict.fromkeys(columns))):
            for values in zip(*(_values(batch.column(name)) for name in columns), strict=True):
                line += 1
                yield checked(_from_values(line, columns, values), columns)

    def _batches(self, columns: list[str]) -> Iterator[pyarrow.RecordBatch]:
        batches = self._file.iter_batches(_BATCH, columns=columns)
        read = 0
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (pyarrow.ArrowException, OSError) as e:
                raise DataError(f"{self._place} is damaged after row {read}: {e}") from None
            read += batch.num_rows
            yield batch


def _parsed(written: str) -> dict[str, Any] | str:
    """The object of a line, or what is wrong with it."""
    try:
        value = json.loads(written, parse_int=str, parse_float=str, parse_constant=lambda _: None)
    except (json.JSONDecodeError, RecursionError) as e:
        reason = f"{e.msg} at column {e.colno}" if isinstance(e, json.JSONDecodeError) else "too deep"
        return f"not JSON: {reason}"
    return value if isinstance(value, dict) else "not a JSON object"


def _repeated(written: str, columns: Sequence[str]) -> str | None:
    """The column that the object of a line has several values for, of which json.loads takes the last."""
    if all(written.count(json.dumps(name, ensure_ascii=False)) < 2 for name in columns):
        return None
    keys = Counter(key for key, _ in json.loads(written, object_pairs_hook=list))
    return next((name for name in columns if keys[name] > 1), None)


def _values(column: pyarrow.Array) -> list[Any]:
    """Values as Python objects; a text that is not UTF-8 stays bytes."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        plain = column.dictionary_decode() if isinstance(column, pyarrow.DictionaryArray) else column
        return [_decoded(value) for value in plain.cast(pyarrow.large_binary()).to_pylist()]


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _from_values(line: int, columns: Sequence[str], values: Sequence[Any]) -> RawRow:
    try:
        return RawRow(line, tuple([_as_text(v) for v in values]))
    except TypeError:
        kinds = (f"{n!r} is a {type(v).__name__}" for n, v in zip(columns, values, strict=True) if _nested(v))
        return RawRow(line, (), problem=f"{', '.join(kinds)}, not a text")


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isnan(value):
        return None
    if _nested(value):
        raise TypeError(type(value))
    return str(value)


def _nested(value: Any) -> bool:
    return isinstance(value, (dict, list, bytes))
