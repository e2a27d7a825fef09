"""What the readers of all table formats share: a row as text, and checks of its values and columns."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import DataError

STANDARD_INPUT = "standard input"
"""The name of standard input in errors."""
_UNDECODED = re.compile("[\udc00-\udcff]")


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as text, in the order of the columns asked for; None is a missing value.

    `line` is the line it starts on, from 1 (for Parquet the row's number). `overflow` means that unnamed
    columns past the named ones have content, `problem` is why the row cannot be used.
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
    """What precedes the name of a setting: `data.` for `data.encoding`, `--` for `--encoding`."""
    likely: str | None = None
    """The encoding that the file's first bytes suggest, if it is not `encoding`."""

    def named(self, setting: str, value: str | None = None) -> str:
        """A setting as errors name it: `data.quotes: false`, or `--quotes false`."""
        name = f"{self.settings}{setting}"
        if value is None:
            return name
        return f"{name} {value}" if self.settings.startswith("-") else f"{name}: {value}"


class MissingColumn(DataError):
    """A table without a column that was asked for."""

    def __init__(self, place: str, column: str, found: Sequence[str], remedy: str = "") -> None:
        near = difflib.get_close_matches(column.casefold(), [f.casefold() for f in found], n=1, cutoff=0.5)
        hint = next((f"; did you mean {f!r}?" for f in found if near and f.casefold() == near[0]), "")
        has = ", ".join(map(repr, found))
        super().__init__(f"{place} has no column {column!r}; it has {has}{remedy or hint}")
        self.column = column


def require_columns(place: str, columns: Sequence[str], found: Sequence[str], remedy: str = "") -> None:
    """Raise MissingColumn for a column that is not in `found`, DataError for one that is there twice."""
    for name in columns:
        if name not in found:
            raise MissingColumn(place, name, found, remedy)
    for name in columns:
        if found.count(name) > 1:
            raise DataError(f"{place} has {found.count(name)} columns {name!r}; rename all but one")


def checked(raw: RawRow, columns: Sequence[str], how: TextFormat | None = None) -> RawRow:
    """The row, with a problem if a value is garbled; `how` if it comes from a text table."""
    for i, value in enumerate(raw.values):
        if value and not (value.isascii() and "\0" not in value):
            reason = garbled(f"column {columns[i]!r}", value, how)
            if reason is not None:
                return RawRow(raw.line, (), raw.overflow, reason)
    return raw


def garbled(what: str, value: str, how: TextFormat | None = None) -> str | None:
    """Why a value cannot be used that has NULs or was not decoded; None if it can."""
    if "\0" in value:
        return nul(what, how)
    if "\ufffd" in value and 2 * value.count("\ufffd") > len(value):
        return f"{what} is mostly characters that an earlier program could not decode (U+FFFD)"
    return undecodable(value, how) if how is not None else None


def undecodable(text: str, how: TextFormat) -> str | None:
    """Why a text with lone surrogates cannot be used, which stand for undecodable bytes; None without any."""
    bad = None if text.isascii() else _UNDECODED.search(text)
    if bad is None:
        return None
    example = "" if how.likely else " (latin-1 or cp1252, say)"
    byte = f"0x{ord(bad[0]) - 0xDC00:02x}"
    return f"byte {byte} is not {how.encoding}; set {how.named('encoding', how.likely)}{example} or mend it"


def nul(what: str, how: TextFormat | None) -> str:
    """Why a value with NUL characters cannot be used, and the remedy."""
    if how is None:
        return f"{what} has NUL characters; remove them"
    if how.likely:
        remedy = f"as UTF-16 and UTF-32 have; set {how.named('encoding', how.likely)}"
        return f"{what} has NUL characters, {remedy}"
    return f"{what} has NUL characters; remove them, or set {how.named('encoding')} (utf-16-le, say)"
