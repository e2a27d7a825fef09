"""A table as it is registered for others: where it is, and what it contains."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from io import BytesIO

import pyarrow
import pyarrow.parquet

from core.data import sources
from core.data.sources import FORMATS
from core.errors import DataError, UserError


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """`path` is absolute or a URL, `sha256` and `bytes` are of the file, not unpacked.

    `rows` is None if their number depends on a config: the quotes of a CSV may be none.
    """

    name: str
    path: str
    sha256: str
    bytes: int
    rows: int | None


def published_table(url: str, name: str | None = None) -> PublishedTable:
    """Read a table and describe it; its default name is that of the file.

    Raises DataError if it is empty or cannot be read, UserError for a name with other characters than
    letters, digits, dots, underscores and hyphens.
    """
    if name is None:
        stem = url.rstrip("/").rpartition("/")[2].split(".")[0]
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_") or "data"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"--name {name}: a name has letters, digits, dots, underscores and hyphens only")
    packed = sources.read_bytes(url)
    with sources.opened(url) as file:
        data = file.read()
    if not data:
        raise DataError(f"{sources.place(url)} is empty")
    rows, kind = None, FORMATS.get(sources.ending(url))
    if kind == "jsonl":
        rows = sum(1 for line in data.splitlines() if line.strip())
    elif kind == "parquet":
        try:
            rows = int(pyarrow.parquet.ParquetFile(BytesIO(data)).metadata.num_rows)
        except pyarrow.ArrowException as e:
            raise DataError(f"{sources.place(url)} is not a Parquet file ({e})") from None
    path = url if "://" in url else sources.place(url)
    return PublishedTable(name, path, hashlib.sha256(packed).hexdigest(), len(packed), rows)
