"""JSON as this project writes it: sorted where it is hashed, never NaN, one line a row."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

# json.dumps builds an encoder at each call, which takes longer than a short row.
_canonical = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode
_line = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def canonical(value: Any) -> bytes:
    """The one byte string of a JSON value: sorted keys, no spaces. Raises ValueError on NaN."""
    return _canonical(value).encode("utf-8", "surrogatepass")


def line(row: Mapping[str, Any]) -> str:
    """Return one line of JSON, with its end. Raises ValueError on NaN."""
    return _line(row) + "\n"


def digest(value: Any) -> str:
    """sha256 of the canonical form, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def as_row(record: Any) -> dict[str, Any]:
    """A dataclass as the mapping that is written."""
    return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}


def write_json(path: Path, value: Any) -> None:
    """Write one value, indented. Raises ValueError on NaN: an undefined number is null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The value in a file that this project wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write one row a line and return how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n = 0
    with path.open("w", encoding="utf-8", newline="\n") as f:
        for row in rows:
            f.write(line(row))
            n += 1
    return n


class LinesWriter:
    """A JSON-lines file that is written a row at a time; a context."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def __enter__(self) -> LinesWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, row: dict[str, Any]) -> None:
        """Write one row. Raises ValueError on NaN."""
        self._file.write(line(row))


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that this project wrote (for files of others see core.data.reading)."""
    with path.open(encoding="utf-8", newline="\n") as f:
        for line in f:
            yield json.loads(line)
