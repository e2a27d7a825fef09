"""Predictions as CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from core.data.sources import FORMATS
from core.errors import UserError
from core.predict.options import OutputFormat
from core.predict.source import InputRow
from core.predict.student import Prediction
from core.records import batched

_TEXT, _NUMBER = pyarrow.string(), pyarrow.float64()
_PLAIN = pyarrow.schema(
    [("id", _TEXT), ("label", _TEXT), ("probability", _NUMBER), ("threshold", _NUMBER), ("error", _TEXT)]
)
_REASONED = pyarrow.schema([("reasoning", _TEXT), ("rules", pyarrow.list_(_TEXT))])
_AT_ONCE = 8192


def output_format(url: str, asked: OutputFormat | None = None) -> OutputFormat:
    """The format asked for, or that of the file's ending. Raises UserError."""
    found = asked or FORMATS.get(url.lower().rpartition(".")[2])
    if found is None or found == "tsv":
        raise UserError(f"{url}: the ending does not give the format; end it in .csv, .jsonl or .parquet")
    return found


def columns(*, reasoning: bool) -> list[str]:
    """The columns that are written."""
    return [*_PLAIN.names, *(_REASONED.names if reasoning else [])]


def record(row: InputRow, answer: Prediction | None, *, reasoning: bool) -> dict[str, Any]:
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


def line(row: Mapping[str, Any]) -> str:
    """One record as a line of JSON; half a surrogate pair, which UTF-8 cannot encode, is escaped."""
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    return text if text == _encodable(text) else json.dumps(row, allow_nan=False)


def field(value: Any) -> Any:
    """A value as a CSV field: rules separated by spaces, half a surrogate pair as U+FFFD."""
    return _encodable(" ".join(value) if isinstance(value, list) else value)


def write(path: Path, kind: OutputFormat, rows: Iterable[Mapping[str, Any]], *, reasoning: bool) -> None:
    """Write records, a few thousand in memory at a time."""
    names = columns(reasoning=reasoning)
    if kind == "parquet":
        schema = pyarrow.unify_schemas([_PLAIN, _REASONED]) if reasoning else _PLAIN
        with pyarrow.parquet.ParquetWriter(path, schema) as parquet:
            for part in batched(rows, _AT_ONCE):
                plain = [{name: _encodable(value) for name, value in row.items()} for row in part]
                parquet.write_table(pyarrow.Table.from_pylist(plain, schema=schema))
        return
    with path.open("w", encoding="utf-8", newline="") as f:
        if kind == "jsonl":
            f.writelines(f"{line(row)}\n" for row in rows)
        else:
            writer = csv.writer(f, lineterminator="\n")
            writer.writerow(names)
            writer.writerows([field(row[name]) for name in names] for row in rows)


def _encodable(value: Any) -> Any:
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode()
    return value
