"""Bytes of any file a user names (a path, an fsspec URL, a file of a package), and its lines as text.

Bytes are decoded before lines are split, for every encoding and line end.
"""

from __future__ import annotations

import codecs
import contextlib
import difflib
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from core import locations
from core.data.compression import compression_of_content, decompressed, without_compression
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
STANDARD_INPUT = "standard input"
"""The name of standard input in errors."""
_HEAD = 4096
_MARKS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "UTF-32", {"utf-32", "utf-32-le"}),
    (codecs.BOM_UTF32_BE, "UTF-32", {"utf-32", "utf-32-be"}),
    (codecs.BOM_UTF16_LE, "UTF-16", {"utf-16", "utf-16-le"}),
    (codecs.BOM_UTF16_BE, "UTF-16", {"utf-16", "utf-16-be"}),
    (codecs.BOM_UTF8, "UTF-8", {"utf-8", "utf-8-sig"}),
)
_NULS_AT = {
    # Which of four bytes are NUL in Latin text without a byte order mark.
    (1, 2, 3): "utf-32-le",
    (0, 1, 2): "utf-32-be",
    (1, 3): "utf-16-le",
    (0, 2): "utf-16-be",
}
_ESCAPE = "\ue000"
_UNDECODABLE = "understudy-undecodable"
_LONE_CR = re.compile(r"\r(?!\n)")


def ending(url: str) -> str:
    """The ending of a file's name in lower case, that before .gz and the like."""
    return without_compression(url.lower()).rpartition(".")[2]


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


@contextlib.contextmanager
def opened(url: str) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed by its name's ending. Raises DataError, also while they are read."""
    with explained(url):
        file = _packed(url)
    with file, decompressed(file, url, place(url)) as content:
        yield content


@contextlib.contextmanager
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
    if is_local(folder) and not folder.startswith(locations.PACKAGE):
        return str(Path(_normalized(folder)) / name)
    return f"{folder.rstrip('/')}/{name}"


def is_local(url: str) -> bool:
    """Whether `url` names a file on this machine: a plain path, or one inside a package."""
    return locations.scheme(_normalized(url)) in ("", "package")


def local_path(url: str) -> Path:
    """The absolute path; relative paths are relative to the working directory."""
    found = _normalized(url)
    return locations.packaged_path(found) if found.startswith(locations.PACKAGE) else Path.cwd() / found


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


@dataclass(frozen=True, slots=True)
class TextFormat:
    """How a text table is written."""

    encoding: str = "utf-8"
    separator: str | None = None
    quotes: bool = True
    settings: str = "data."
    """What precedes the name of a setting: `data.` for `data.encoding`, `--` for `--encoding`."""
    likely: str | None = None
    """The encoding that the file's first bytes suggest, if it is not `encoding`."""

    def named(self, setting: str, value: str | None = None) -> str:
        """A setting as errors name it: `data.quotes: false`, or `--quotes false`."""
        name = f"{self.settings}{setting}"
        if value is None:
            return name
        return f"{name} {value}" if self.settings.startswith("-") else f"{name}: {value}"


class TextLines:
    """The lines of an open file with their ends, without the byte order mark at its start.

    The end of the first line decides what ends lines. If it is a lone carriage return, carriage returns and
    line feeds both do. Otherwise line feeds do, and a lone carriage return belongs to its line; with
    `escape` it is replaced, because the csv module would end a row there, and `unescape` restores it.
    Bytes that are not in the encoding become lone surrogates U+DC00 to U+DCFF, so that only their row is
    lost. `likely` is the encoding that the first bytes suggest if they contradict the given one.
    """

    def __init__(self, file: BinaryIO, place: str, how: TextFormat, *, escape: bool = False) -> None:
        self._place, self._how, self._escape, self._escaped = place, how, escape, False
        self._bytes = _Headed(file)
        self.likely = _check_head(self._bytes.head, place, how)

    def __iter__(self) -> Iterator[str]:
        data = cast(BinaryIO, self._bytes)
        text = io.TextIOWrapper(data, self._how.encoding, _UNDECODABLE, newline="")
        try:
            first = next(text, "").removeprefix("\ufeff")
            if first.endswith("\r"):
                yield first
                yield from text
                return
            held = ""  # what lone carriage returns divide; one at the end of the file is dropped
            for line in chain([first] if first else (), text):
                if line.endswith("\r"):
                    held += line
                    continue
                yield self._escaped_line(held + line) if held or _ESCAPE in line else line
                held = ""
            if held := held.removesuffix("\r"):
                yield self._escaped_line(held)
        except UnicodeError as e:
            setting = self._how.named("encoding")
            raise DataError(f"{self._place} is not {self._how.encoding} ({e}); set {setting}") from None

    def stripped(self) -> Iterator[str]:
        """The lines without their ends, and without byte order marks that joining files leaves."""
        for line in self:
            yield line.rstrip("\n").removesuffix("\r").removeprefix("\ufeff")

    def unescape(self, fields: list[str]) -> list[str]:
        """Restore the carriage returns that `escape` replaced."""
        if not self._escaped:
            return fields
        return [f.replace(f"{_ESCAPE}1", "\r").replace(f"{_ESCAPE}0", _ESCAPE) for f in fields]

    def _escaped_line(self, line: str) -> str:
        if not self._escape:
            return line
        self._escaped = True
        return _LONE_CR.sub(f"{_ESCAPE}1", line.replace(_ESCAPE, f"{_ESCAPE}0"))


def _packed(url: str) -> BinaryIO:
    if is_local(url):
        return local_path(url).open("rb")
    fs, path = filesystem(url)
    return cast(BinaryIO, fs.open(path, "rb"))


def _normalized(url: str) -> str:
    try:
        return locations.normalized(url)
    except UserError as e:
        raise DataError(str(e)) from None


class _Headed(io.BufferedIOBase):
    """The bytes of a file, of which the first are in `head` until they are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._read = getattr(file, "read1", file.read)  # what a pipe has
        self.head = bytes(self._read(_HEAD))
        while 0 < len(self.head) < len(codecs.BOM_UTF32_LE) and (more := self._read(_HEAD)):
            self.head += more

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        head, self.head = self.head, b""
        return head or bytes(self._read(size))


def _check_head(head: bytes, place: str, how: TextFormat) -> str | None:
    """The likely encoding. Raises DataError for a compressed file, and an encoding it cannot have."""
    encoding = how.encoding
    try:
        codecs.getincrementaldecoder(encoding)
        with contextlib.suppress(UnicodeError):
            b"\n\n\n\n".decode(encoding, "replace")  # refuses codecs that are not of text
        codec = codecs.lookup(encoding).name
    except LookupError:
        raise DataError(f"{place}: unknown encoding {encoding!r}; set {how.named('encoding')}") from None
    if packed := compression_of_content(head):
        named = f"give it a name that ends in {packed.ending}"
        raise DataError(
            f"{place} is packed by {packed.name}; {'unpack it first' if place == STANDARD_INPUT else named}"
        )
    for mark, name, codecs_of_it in _MARKS:
        if head.startswith(mark):
            if codec in codecs_of_it:
                return None
            setting = how.named("encoding", name.lower())
            raise DataError(f"{place} is {name}, not {encoding}; set {setting}")
    if not codec.startswith(("utf-16", "utf-32")):
        return _wide_encoding(head)
    if len(head) >= 8 and b"\0" not in head:
        with contextlib.suppress(UnicodeDecodeError):
            # A character that is cut off at the end is not an error.
            codecs.getincrementaldecoder("utf-8")().decode(head)
            setting = how.named("encoding", "utf-8")
            raise DataError(f"{place} is not {encoding}: it has no NUL bytes; set {setting}")
    return None


def unicode_encoding(head: bytes) -> str | None:
    """The encoding that a byte order mark or the pattern of NUL bytes shows; None if a file has neither."""
    marked = next((name.lower() for mark, name, _ in _MARKS if head.startswith(mark)), None)
    return marked or _wide_encoding(head)


def _wide_encoding(head: bytes) -> str | None:
    """The UTF-16 or UTF-32 encoding whose pattern of NUL bytes the first bytes have."""
    length = min(len(head), _HEAD) // 4
    if b"\0" not in head or not length:
        return None
    shares = [head[i : 4 * length : 4].count(0) / length for i in range(4)]
    many = tuple(i for i, share in enumerate(shares) if share > 0.3)
    few = all(share < 0.1 for i, share in enumerate(shares) if i not in many)
    return _NULS_AT.get(many) if few else None


def _undecodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) for byte in bad), error.end


codecs.register_error(_UNDECODABLE, _undecodable)
