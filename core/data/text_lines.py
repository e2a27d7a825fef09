"""Lines of a text file: bytes are decoded before lines are split, for every encoding and line end."""

from __future__ import annotations

import codecs
import contextlib
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from core.data.rows import STANDARD_INPUT, TextFormat
from core.errors import DataError

_BLOCK = 1 << 18
_HEAD = 4096
_GZIP = b"\x1f\x8b"
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
_LINE_END = re.compile(r"[\r\n]")
_LONE_CR = re.compile(r"\r(?!\n)")


class TextLines:
    """The lines of an open file with their ends, without the byte order mark at its start.

    The end of the first line decides what ends lines. If it is a lone carriage return, carriage returns and
    line feeds both do. Otherwise line feeds do, and a lone carriage return belongs to its line; with
    `escape` it is replaced, because the csv module would end a row there, and `unescape` restores it.
    Bytes that are not in the encoding become lone surrogates U+DC00 to U+DCFF, so that only their row is
    lost. Only the lines of one block are in memory.

    `likely` is the encoding that the first bytes suggest if they contradict the given one.
    """

    def __init__(self, file: BinaryIO, place: str, how: TextFormat, *, escape: bool = False) -> None:
        self._file, self._place, self._how, self._escape = file, place, how, escape
        self._escaped = False
        self._head = self._read(_HEAD)
        while 0 < len(self._head) < len(codecs.BOM_UTF32_LE) and (more := self._read(_HEAD)):
            self._head += more
        self.likely = self._check_head()

    def __iter__(self) -> Iterator[str]:
        for block, ends in self._blocks():
            if self._escape and ends:
                lone = "\r" in block and block.count("\r") != block.count("\r\n")
                if lone or _ESCAPE in block:
                    self._escaped = True
                    block = _LONE_CR.sub(f"{_ESCAPE}1", block.replace(_ESCAPE, f"{_ESCAPE}0"))
            yield from io.StringIO(block, newline=ends)

    def stripped(self) -> Iterator[str]:
        """The lines without their ends, and without byte order marks that joining files leaves."""
        for line in self:
            yield line.rstrip("\n").removesuffix("\r").removeprefix("\ufeff")

    def unescape(self, fields: list[str]) -> list[str]:
        """Restore the carriage returns that `escape` replaced."""
        if not self._escaped:
            return fields
        return [f.replace(f"{_ESCAPE}1", "\r").replace(f"{_ESCAPE}0", _ESCAPE) for f in fields]

    def _blocks(self) -> Iterator[tuple[str, str]]:
        """Blocks that end where a line does, each with the `newline` that splits it."""
        held: list[str] = []
        ends: str | None = None
        for text in self._decoded():
            if ends is None:
                first = _LINE_END.search(text)
                if first is not None:
                    ends = "" if first[0] == "\r" and text[first.end() : first.end() + 1] != "\n" else "\n"
            cut = max(text.rfind("\n"), text.rfind("\r") if ends == "" else -1) + 1
            if not cut:
                held.append(text)
                continue
            yield "".join([*held, text[:cut]]), "\n" if ends is None else ends
            held = [text[cut:]]
        if rest := "".join(held).removesuffix("\r"):
            yield rest, "\n" if ends is None else ends

    def _decoded(self) -> Iterator[str]:
        """Decoded text, in pieces that do not end between a carriage return and a line feed."""
        decoder = codecs.getincrementaldecoder(self._how.encoding)(_UNDECODABLE)
        data, kept, started = self._head, "", False
        while True:
            try:
                text = kept + decoder.decode(data, final=not data)
            except UnicodeError as e:
                setting = self._how.named("encoding")
                raise DataError(f"{self._place} is not {self._how.encoding} ({e}); set {setting}") from None
            if text and not started:
                text, started = text.removeprefix("\ufeff"), True
            kept = "\r" if data and text.endswith("\r") else ""
            if text := text[: len(text) - len(kept)]:
                yield text
            if not data:
                return
            data = self._read(_BLOCK)

    def _read(self, size: int) -> bytes:
        """Up to `size` bytes: what a pipe has, if the file supports it."""
        read = self._file.read1 if isinstance(self._file, io.BufferedReader) else self._file.read
        return bytes(read(size))

    def _check_head(self) -> str | None:
        """The likely encoding. Raises DataError for gzip and for an encoding that the first bytes exclude."""
        head, encoding, place = self._head, self._how.encoding, self._place
        try:
            codecs.getincrementaldecoder(encoding)
            with contextlib.suppress(UnicodeError):
                b"\n\n\n\n".decode(encoding, "replace")  # refuses codecs that are not of text
            codec = codecs.lookup(encoding).name
        except LookupError:
            setting = self._how.named("encoding")
            raise DataError(f"{place}: unknown encoding {encoding!r}; set {setting}") from None
        if head.startswith(_GZIP):
            remedy = "unpack it first" if place == STANDARD_INPUT else "give it a name that ends in .gz"
            raise DataError(f"{place} is packed by gzip; {remedy}")
        for mark, name, codecs_of_it in _MARKS:
            if head.startswith(mark):
                if codec in codecs_of_it:
                    return None
                setting = self._how.named("encoding", name.lower())
                raise DataError(f"{place} is {name}, not {encoding}; set {setting}")
        if not codec.startswith(("utf-16", "utf-32")):
            return _wide_encoding(head)
        if len(head) >= 8 and b"\0" not in head:
            with contextlib.suppress(UnicodeDecodeError):
                # A character that is cut off at the end is not an error.
                codecs.getincrementaldecoder("utf-8")().decode(head)
                setting = self._how.named("encoding", "utf-8")
                raise DataError(f"{place} is not {encoding}: it has no NUL bytes; set {setting}")
        return None


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
