"""A table as it is made known to others: where it is, and what it holds."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from io import BytesIO

import pyarrow
import pyarrow.parquet

from core.data import sources
from core.errors import DataError, UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """`path` is absolute or a URL, `sha256` of the bytes as they lie there.

    `rows` is None where their number depends on a config: a CSV's quotes may be none.
    """

    name: str
    path: str
    sha256: str
    bytes: int
    rows: int | None


def published_table(url: str, name: str | None = None) -> PublishedTable:
    """Read a table and describe it; by default it is called what its file is.

    Raises DataError where it cannot be read or is empty, UserError for a name with other characters
    than letters, digits, dots, underscores and hyphens.
    """
    known = name if name is not None else _named(url)
    if not _NAME.fullmatch(known):
        raise UserError(f"--name {known}: a name has letters, digits, dots, underscores and hyphens only")
    lying, unpacked = sources.read_bytes(url), sources.open_bytes(url)
    if not unpacked:
        raise DataError(f"{sources.place(url)} is empty")
    path = url if "://" in url else sources.place(url)
    return PublishedTable(known, path, hashlib.sha256(lying).hexdigest(), len(lying), _rows(url, unpacked))


def _named(url: str) -> str:
    stem = url.rstrip("/").rpartition("/")[2].split(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_") or "data"


def _rows(url: str, data: bytes) -> int | None:
    ending = url.lower().removesuffix(".gz").rpartition(".")[2]
    if ending in ("jsonl", "ndjson"):
        return sum(1 for line in data.splitlines() if line.strip())
    if ending in ("parquet", "pq"):
        try:
            return int(pyarrow.parquet.ParquetFile(BytesIO(data)).metadata.num_rows)
        except pyarrow.ArrowException as e:
            raise DataError(f"{sources.place(url)} is not a Parquet file ({e})") from None
    return None
