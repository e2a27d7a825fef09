"""Rows of JSON lines and Parquet: values that carry types, as the text they would be written with."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet

from core.data.tables import RawRow, TextFormat, checked, decoded, no_column
from core.errors import DataError

_BATCH = 8192


def jsonl_rows(data: bytes, place: str, columns: Sequence[str], how: TextFormat) -> Iterator[RawRow]:
    """Rows of JSON lines; numbers keep the digits they are written with. Blank lines are skipped."""
    text, broken = decoded(data, place, how.encoding)
    lines = iter(StringIO(text, newline="\n"))
    del text
    for raw in jsonl_lines(lines, place, columns, how):
        yield checked(raw, how) if broken else raw


def jsonl_lines(
    lines: Iterable[str], place: str, columns: Sequence[str], how: TextFormat
) -> Iterator[RawRow]:
    """Rows of lines that hold one JSON object each. Raises DataError, for a missing column at the end."""
    found: dict[str, None] = {}
    rows = 0
    for line, written in enumerate(lines, start=1):
        if not written.strip():
            continue
        if not rows and written.lstrip()[:1] == "[":
            raise DataError(f"{place} is one JSON array; write one object a line (JSON lines)")
        rows += 1
        yield _json_row(line, written, columns, found)
    if not rows:
        raise DataError(f"{place} is empty")
    for name in columns:
        if found and name not in found:
            raise DataError(no_column(place, name, list(found)))


def parquet_rows(data: BinaryIO, place: str, columns: Sequence[str]) -> Iterator[RawRow]:
    """Rows of a Parquet file that is open; `line` is the row's number from 1."""
    if not data.seek(0, os.SEEK_END):
        raise DataError(f"{place} is empty")
    try:
        file = pyarrow.parquet.ParquetFile(data)
    except pyarrow.ArrowException as e:
        raise DataError(f"{place} is not a Parquet file ({e}); set data.format") from None
    names = list(file.schema_arrow.names)
    for name in columns:
        if name not in names:
            raise DataError(no_column(place, name, names))
    line = 0
    for batch in file.iter_batches(_BATCH, columns=list(dict.fromkeys(columns))):
        for values in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
            line += 1
            yield _from_values(line, columns, values)


def _json_row(line: int, written: str, columns: Sequence[str], found: dict[str, None]) -> RawRow:
    try:
        value = json.loads(written.rstrip(), parse_int=str, parse_float=str, parse_constant=lambda _: None)
    except (json.JSONDecodeError, RecursionError) as e:
        reason = f"{e.msg} at column {e.colno}" if isinstance(e, json.JSONDecodeError) else "too deep"
        return RawRow(line, (), problem=f"not JSON: {reason}")
    if not isinstance(value, dict):
        return RawRow(line, (), problem="not a JSON object")
    found.update(dict.fromkeys(value))
    return _from_values(line, columns, [value.get(name) for name in columns])


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
