"""What the readers of all formats share: a row as text, decoding, the sentence for a missing column."""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import DataError

_ESCAPED = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as text, in the order of the columns asked for; None is a missing value.

    `line` is the line it starts on, from 1 (for Parquet the row's number); `overflow` says that
    unnamed columns or fields past the header hold something; `problem` why the row cannot be used.
    """

    line: int
    values: tuple[str | None, ...]
    overflow: bool = False
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class TextFormat:
    """How a text table is written."""

    encoding: str = "utf-8"
    separator: str | None = None
    quotes: bool = True
    settings: str = "data."
    """What stands before the name of a setting where it is made: `data.encoding`, or `--encoding`."""

    def named(self, setting: str, value: str | None = None) -> str:
        """A setting as it is written, as errors name it: `data.quotes: false`, or `--quotes false`."""
        name = f"{self.settings}{setting}"
        if value is None:
            return name
        return f"{name} {value}" if self.settings.startswith("-") else f"{name}: {value}"


def decoded(data: bytes, place: str, encoding: str) -> tuple[str, bool]:
    """The text without a byte order mark, and whether some bytes are not in the encoding.

    Such bytes stay as lone surrogates (PEP 383), so that the row they stand in can be named.
    """
    try:
        codecs.lookup(encoding)
        text, broken = data.decode(encoding), False
    except LookupError:
        raise DataError(f"{place}: there is no encoding {encoding!r}; set data.encoding") from None
    except UnicodeDecodeError as e:
        if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise DataError(f"{place} is UTF-16, not {encoding}; set data.encoding: utf-16") from None
        if data[:2] == b"\x1f\x8b":
            raise DataError(f"{place} is packed by gzip; give it a name that ends in .gz") from None
        text, broken = _escaped(data, place, encoding, e), True
    return text.removeprefix("\ufeff"), broken


def no_column(place: str, name: str, found: Sequence[str], remedy: str = "") -> str:
    """The sentence for a column that is not there."""
    near = difflib.get_close_matches(name.casefold(), [f.casefold() for f in found], n=1, cutoff=0.5)
    hint = next((f"; did you mean {f!r}?" for f in found if near and f.casefold() == near[0]), "")
    return f"{place} has no column {name!r}; it has {', '.join(map(repr, found))}{remedy or hint}"


def checked(raw: RawRow, how: TextFormat) -> RawRow:
    """The row, with a problem where a value holds bytes that are not in the encoding."""
    for value in raw.values:
        bad = _ESCAPED.search(value) if value else None
        if bad:
            byte = f"0x{ord(bad[0]) - 0xDC00:02x}"
            key = how.named("encoding")
            reason = f"byte {byte} is not {how.encoding}; set {key} (latin-1 or cp1252, say) or mend it"
            return RawRow(raw.line, (), raw.overflow, reason)
    return raw


def _escaped(data: bytes, place: str, encoding: str, error: UnicodeDecodeError) -> str:
    try:
        return data.decode(encoding, "surrogateescape")
    except UnicodeDecodeError:
        raise DataError(
            f"{place}: byte {error.start} is not {encoding} ({error.reason}); set data.encoding"
        ) from None
