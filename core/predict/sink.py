"""Predictions as CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import pyarrow
import pyarrow.parquet

from core.batches import batched
from core.errors import UserError
from core.predict.options import OutputFormat
from core.predict.source import InputRow
from core.predict.student import Prediction

_ENDINGS: Mapping[str, OutputFormat] = {
    "csv": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "pq": "parquet",
}
_REASONED = pyarrow.schema([("reasoning", pyarrow.string()), ("rules", pyarrow.list_(pyarrow.string()))])
_PLAIN = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("label", pyarrow.string()),
        ("probability", pyarrow.float64()),
        ("threshold", pyarrow.float64()),
        ("error", pyarrow.string()),
    ]
)
_AT_ONCE = 8192


def output_format(url: str, asked: OutputFormat | None = None) -> OutputFormat:
    """The format asked for, or the one the file's ending says. Raises UserError."""
    found = asked or _ENDINGS.get(url.lower().rpartition(".")[2])
    if found is None:
        raise UserError(f"{url}: the ending does not say how to write it; end it in .csv, .jsonl or .parquet")
    return found


def record(row: InputRow, said: Prediction | None, *, reasoning: bool) -> dict[str, Any]:
    """What is written of one row; `said` is None for a row that could not be asked."""
    said = said or Prediction(None, None, None)
    out = {
        "id": row.id,
        "label": said.label,
        "probability": said.probability,
        "threshold": said.threshold,
        "error": row.problem or said.error,
    }
    return {**out, "reasoning": said.reasoning, "rules": list(said.rules)} if reasoning else out


def line(row: Mapping[str, Any]) -> str:
    """One record as a line of JSON; half a surrogate pair, which UTF-8 cannot hold, is escaped."""
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    return text if text.isascii() or _writable(text) else json.dumps(row, allow_nan=False)


def write(path: Path, kind: OutputFormat, rows: Iterable[Mapping[str, Any]], *, reasoning: bool) -> int:
    """Write records, a few thousand at a time, and return how many."""
    if kind == "parquet":
        return _parquet(path, rows, reasoning=reasoning)
    with path.open("w", encoding="utf-8", newline="") as f:
        return (_csv if kind == "csv" else _jsonl)(f, rows, columns(reasoning=reasoning))


def columns(*, reasoning: bool) -> list[str]:
    """The columns that are written."""
    return [*_PLAIN.names, *(_REASONED.names if reasoning else [])]


def _csv(f: TextIO, rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> int:
    writer = csv.writer(f, lineterminator="\n")
    writer.writerow(names)
    n = 0
    for row in rows:
        writer.writerow([field(row[name]) for name in names])
        n += 1
    return n


def field(value: Any) -> Any:
    """A list of rules with spaces between; half a surrogate pair as U+FFFD."""
    text = " ".join(value) if isinstance(value, list) else value
    return _plain(text)


def _jsonl(f: TextIO, rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> int:
    n = 0
    for row in rows:
        f.write(line(row) + "\n")
        n += 1
    return n


def _parquet(path: Path, rows: Iterable[Mapping[str, Any]], *, reasoning: bool) -> int:
    schema = pyarrow.unify_schemas([_PLAIN, _REASONED]) if reasoning else _PLAIN
    n = 0
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for part in batched(rows, _AT_ONCE):
            plain = [{name: _plain(value) for name, value in row.items()} for row in part]
            writer.write_table(pyarrow.Table.from_pylist(plain, schema=schema))
            n += len(part)
    return n


def _plain(value: Any) -> Any:
    if isinstance(value, str) and not _writable(value):
        return value.encode("utf-8", "replace").decode()
    return value


def _writable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
