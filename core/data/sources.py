"""Bytes of any file a user names: a path, an fsspec URL, or a file inside an installed package."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from core import locations, packages
from core.errors import DataError, PassingError, UnderstudyError, UserError

Format = Literal["csv", "tsv", "jsonl", "parquet"]
FORMATS: dict[str, Format] = {
    "csv": "csv",
    "tsv": "tsv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "pq": "parquet",
}
"""Table formats by the ending of a file's name."""


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


def ending(url: str) -> str:
    """The ending of a file's name in lower case, that before .gz."""
    return url.lower().removesuffix(".gz").rpartition(".")[2]


def read_bytes(url: str) -> bytes:
    """The file's bytes, not unpacked. Raises DataError with the place tried and the nearest names."""
    with explained(url, "name a file, or set data.dir"):
        if is_local(url):
            return local_path(url).read_bytes()
        fs, path = filesystem(url)
        return bytes(fs.cat_file(path))


def digest(url: str) -> str:
    """sha256 of the file's bytes, not unpacked, in hex."""
    with explained(url, "name a file, or set data.dir"), _packed(url) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


@contextmanager
def opened(url: str) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked if its name ends in .gz. Raises DataError, also while they are read."""
    with explained(url):
        file = _packed(url)
    with file:
        try:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if url.lower().endswith(".gz") else file
        except (EOFError, zlib.error, gzip.BadGzipFile) as e:
            raise DataError(f"{place(url)} ends in .gz but is not a whole gzip file ({e})") from None


def _packed(url: str) -> BinaryIO:
    if is_local(url):
        return local_path(url).open("rb")
    fs, path = filesystem(url)
    return cast(BinaryIO, fs.open(path, "rb"))


@contextmanager
def explained(url: str, instead_of_a_folder: str = "name a file") -> Iterator[None]:
    """Explain why a file cannot be read, with the place tried and the nearest names.

    Raises DataError, or PassingError if trying again may help.
    """
    try:
        yield
    except UnderstudyError:
        raise
    except FileNotFoundError:
        raise DataError(missing(url)) from None
    except IsADirectoryError:
        raise DataError(f"{place(url)} is a folder; {instead_of_a_folder}") from None
    except PermissionError:
        raise DataError(f"{place(url)} may not be read; check its permissions or credentials") from None
    except Exception as e:
        if is_local(url) and not isinstance(e, OSError):
            raise
        # Clients of stores have their own error classes, with no common base but Exception.
        name = type(e).__name__
        if isinstance(e, (ConnectionError, TimeoutError)) or "Connect" in name or "Timeout" in name:
            raise PassingError(f"{url} could not be reached: {name}: {e}") from e
        raise DataError(f"{place(url)} cannot be read: {name}: {e}") from e


def missing(url: str) -> str:
    """The message for a file that does not exist, with the nearest names in its folder."""
    try:
        fs, path = filesystem(url)
        entries = fs.ls(path.rpartition("/")[0] or ("/" if path.startswith("/") else ""), detail=True)
    except OSError:
        entries = []
    siblings = sorted(str(e["name"]).rpartition("/")[2] for e in entries if e["type"] != "directory")
    near = difflib.get_close_matches(url.rpartition("/")[2], siblings, n=3, cutoff=0.4)
    hint = f"; its folder holds {', '.join(near)}" if near else ""
    relative = is_local(url) and not Path(_normalized(url)).is_absolute()
    note = f" ({url!r} is relative to the working directory)" if relative else ""
    return f"file {place(url)} does not exist{note}{hint}"


def exists(url: str) -> bool:
    """Whether there is such a file."""
    fs, path = filesystem(url)
    return bool(fs.isfile(path))


def is_folder(url: str) -> bool:
    """Whether there is such a folder."""
    fs, path = filesystem(url)
    return bool(fs.isdir(path))


def join(folder: str, name: str) -> str:
    """A name inside a folder, which is a path or a URL."""
    if is_local(folder) and not folder.startswith(packages.SCHEME):
        return str(Path(_normalized(folder)) / name)
    return f"{folder.rstrip('/')}/{name}"


def is_local(url: str) -> bool:
    """Whether `url` names a file on this machine: a plain path, or one inside a package."""
    return locations.scheme(_normalized(url)) in ("", "package")


def local_path(url: str) -> Path:
    """The absolute path; relative paths are relative to the working directory."""
    found = _normalized(url)
    return packages.find(found) if found.startswith(packages.SCHEME) else Path.cwd() / found


def place(url: str) -> str:
    """What errors show: the absolute path, or the URL itself."""
    return url if "://" in url else str(local_path(url))


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path inside it. Raises DataError."""
    if is_local(url):
        return LocalFileSystem(), str(local_path(url))
    try:
        fs, path = fsspec.core.url_to_fs(_normalized(url))
    except (ValueError, ImportError) as e:
        raise DataError(f"{url} cannot be opened: {e}") from None
    return fs, str(path)


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
    packed = read_bytes(url)
    with opened(url) as file:
        data = file.read()
    if not data:
        raise DataError(f"{place(url)} is empty")
    rows, kind = None, FORMATS.get(ending(url))
    if kind == "jsonl":
        rows = sum(1 for line in data.splitlines() if line.strip())
    elif kind == "parquet":
        import pyarrow.parquet

        try:
            rows = int(pyarrow.parquet.ParquetFile(BytesIO(data)).metadata.num_rows)
        except pyarrow.ArrowException as e:
            raise DataError(f"{place(url)} is not a Parquet file ({e})") from None
    return PublishedTable(name, place(url), hashlib.sha256(packed).hexdigest(), len(packed), rows)


def _normalized(url: str) -> str:
    try:
        return locations.normalized(url)
    except UserError as e:
        raise DataError(str(e)) from None
