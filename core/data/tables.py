"""What the readers of all formats share: a row as text, checks of its values and of the columns."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import DataError

STANDARD_INPUT = "standard input"
"""What errors call it."""
_UNDECODED = re.compile("[\udc00-\udcff]")


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as text, in the order of the columns asked for; None is a missing value.

    `line` is the line it starts on, from 1 (for Parquet the row's number); `overflow` says that
    unnamed columns past the named ones hold something; `problem` why the row cannot be used.
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
    likely: str | None = None
    """The encoding that the file's first bytes suggest, where it is not the given one."""

    def named(self, setting: str, value: str | None = None) -> str:
        """A setting as it is written, as errors name it: `data.quotes: false`, or `--quotes false`."""
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


def only_once(place: str, columns: Sequence[str], found: Sequence[str]) -> None:
    """Raise DataError for a column that several columns could be."""
    for name in columns:
        if found.count(name) > 1:
            raise DataError(f"{place} has {found.count(name)} columns {name!r}; rename all but one")


def checked(raw: RawRow, columns: Sequence[str], how: TextFormat | None = None) -> RawRow:
    """The row, with a problem where a value has NULs or was not decoded; `how` if it is written as text."""
    for i, value in enumerate(raw.values):
        if value and not (value.isascii() and "\0" not in value):
            reason = garbled(f"column {columns[i]!r}", value, how)
            if reason is not None:
                return RawRow(raw.line, (), raw.overflow, reason)
    return raw


def garbled(what: str, value: str, how: TextFormat | None = None) -> str | None:
    """Why a value cannot be used that has NULs or was not decoded; `how` if it is written as text."""
    if "\0" in value:
        return nul(what, how)
    if "\ufffd" in value and 2 * value.count("\ufffd") > len(value):
        return f"{what} is mostly characters that an earlier program could not decode (U+FFFD)"
    return undecodable(value, how) if how is not None else None


def undecodable(text: str, how: TextFormat) -> str | None:
    """Why a text cannot be used in which the decoder left lone surrogates, or None where it left none."""
    bad = None if text.isascii() else _UNDECODED.search(text)
    if bad is None:
        return None
    byte = f"0x{ord(bad[0]) - 0xDC00:02x}"
    named = how.named("encoding", how.likely) if how.likely else how.named("encoding")
    example = "" if how.likely else " (latin-1 or cp1252, say)"
    return f"byte {byte} is not {how.encoding}; set {named}{example} or mend it"


def nul(what: str, how: TextFormat | None) -> str:
    """The sentence for a value with NUL characters."""
    if how is None:
        return f"{what} has NUL characters; remove them"
    if how.likely:
        return (
            f"{what} has NUL characters, as UTF-16 and UTF-32 have; set {how.named('encoding', how.likely)}"
        )
    return f"{what} has NUL characters; remove them, or set {how.named('encoding')} (utf-16-le, say)"
