"""Files compressed as .gz, .bz2, .xz, .zst or .zip with one file in it, recognized by their names."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from core.errors import DataError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError, zipfile.BadZipFile, NotImplementedError)
"""What reading raises where the bytes are not of the format; gzip and bz2 raise OSError without a number."""


class _Unreadable(Exception):
    """An archive that is whole, but not one file's; the message is without its place."""


@dataclass(frozen=True, slots=True)
class Compression:
    """A format of compressed files."""

    name: str
    ending: str
    first: bytes
    """The bytes that each such file begins with."""
    open: Callable[[BinaryIO], Any]


def _only_file(packed: BinaryIO) -> Any:
    """Open the single file of a zip archive, besides folders and the notes that macOS adds."""
    archive = zipfile.ZipFile(packed)
    files = [each for each in archive.infolist() if not each.is_dir() and "__MACOSX/" not in each.filename]
    if len(files) != 1:
        names = ", ".join(each.filename for each in files[:5]) or "none"
        raise _Unreadable(f"holds {len(files)} files ({names}), but one is read; unpack it and name the file")
    if files[0].flag_bits & 1:
        raise _Unreadable("is encrypted; unpack it first")
    return archive.open(files[0])


COMPRESSIONS = (
    Compression("gzip", ".gz", b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    Compression("bzip2", ".bz2", b"BZh", bz2.BZ2File),
    Compression("xz", ".xz", b"\xfd7zXZ\0", lzma.LZMAFile),
    Compression("zstd", ".zst", b"\x28\xb5\x2f\xfd", zstd.ZstdFile),
    Compression("zip", ".zip", b"PK\x03\x04", _only_file),
)


def compression_of(url: str) -> Compression | None:
    """Return the compression that a file's name ends in, None for a file that is read as it is."""
    return next((each for each in COMPRESSIONS if url.lower().endswith(each.ending)), None)


def without_compression(url: str) -> str:
    """Return a file's name without the ending of a compression."""
    found = compression_of(url)
    return url[: -len(found.ending)] if found else url


def compression_of_content(head: bytes) -> Compression | None:
    """Return the compression whose signature a file begins with."""
    found = next((each for each in COMPRESSIONS if head.startswith(each.first)), None)
    # A text may begin with the three letters of bzip2's signature.
    return None if found and found.name == "bzip2" and head[4:10] != b"1AY&SY" else found


@contextlib.contextmanager
def decompressed(file: BinaryIO, url: str, place: str) -> Iterator[BinaryIO]:
    """Read an open file's content, decompressed if `url` ends so.

    Raises DataError naming `place` for a damaged file, also while it is read.
    """
    found = compression_of(url)
    if found is None:
        yield file
        return
    try:
        with found.open(file) as content:
            yield cast(BinaryIO, content)
    except _Unreadable as e:
        raise DataError(f"{place} {e}") from None
    except (*_DAMAGED, OSError) as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise
        raise DataError(
            f"{place} ends in {found.ending} but is not a whole {found.name} file ({e})"
        ) from None
