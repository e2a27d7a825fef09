"""Rows of CSV and TSV, by the csv module.

pandas would turn "645" into a number, "NA" into a missing value and a lone carriage return into a line
break.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from core.data.quotes import Records
from core.data.tables import MissingColumn, RawRow, TextFormat, checked, nul, only_once, undecodable
from core.data.text_lines import TextLines
from core.errors import DataError


class CsvTable:
    """A CSV or TSV whose header is read. Raises DataError where it has none, or none that can be read."""

    def __init__(self, lines: TextLines, place: str, how: TextFormat, default: str) -> None:
        self._place, self._how = place, how
        self._all = Records(lines, how, default)
        self._records = iter(self._all)
        self.columns = self._header()

    def rows(self, columns: Sequence[str]) -> Iterator[RawRow]:
        """The rows, in the order of `columns`, two at least. Raises DataError for a missing column."""
        for name in columns:
            if name not in self.columns:
                raise MissingColumn(self._place, name, self.columns, self._remedy())
        only_once(self._place, columns, self.columns)
        self._all.expect(len(self.columns), self.columns.index(columns[0]))
        layout = _Layout.of(self.columns, columns, self._all.separator)
        first, plain = self.columns[0], len(self.columns) if layout.named == len(self.columns) else -1
        for line, fields, problem in self._records:
            if len(fields) == plain and fields[0] != first:
                row = RawRow(line, layout.pick(fields))
            else:
                row = layout.row(line, fields, problem)
            yield checked(row, columns, self._how)

    def _header(self) -> list[str]:
        for line, fields, problem in self._records:
            if problem is not None:
                raise DataError(f"{self._place}:{line}: the header cannot be read: {problem}")
            if any("\0" in field for field in fields):
                raise DataError(f"{self._place}: {nul('the header', self._how)}")
            if any(field.strip() for field in fields):
                return [field.strip() for field in fields]
        raise DataError(f"{self._place} is empty")

    def _remedy(self) -> str:
        """What to set if the header may have been read with a wrong separator or encoding."""
        header, how = self.columns, self._how
        if reason := undecodable("".join(header), how):
            return f"; {reason}"
        for other, written in ((";", "';'"), ("\t", '"\\t"'), (",", "','"), ("|", "'|'")):
            if len(header) == 1 and other in header[0] and other != self._all.separator:
                setting = how.named("separator", written)
                return f"; the columns seem to be separated otherwise: set {setting}"
        return ""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the columns asked for stand in a row, and where nothing should.

    `named` is the number of columns up to the last one with a name: unnamed ones after it are ignored and
    reported as overflow, fields after the header's last one are an error.
    """

    pick: Callable[[list[str]], tuple[str, ...]]
    needed: int
    header: list[str]
    named: int
    text_is_last: bool
    separator: str

    @classmethod
    def of(cls, header: list[str], columns: Sequence[str], separator: str) -> _Layout:
        wanted = tuple(header.index(name) for name in columns)
        named = max(i + 1 for i, name in enumerate(header) if name)
        # Two columns at least are always asked for, so that this makes a tuple.
        pick = itemgetter(wanted[0], wanted[1], *wanted[2:])
        return cls(pick, max(wanted) + 1, header, named, wanted[0] == len(header) - 1, separator)

    def row(self, line: int, fields: list[str], problem: str | None) -> RawRow:
        problem = problem or self._problem(fields)
        if problem is not None:
            return RawRow(line, (), problem=problem)
        overflow = len(fields) > self.named and any(fields[self.named :])
        return RawRow(line, self.pick(fields), overflow)

    def _problem(self, fields: list[str]) -> str | None:
        if len(fields) < self.needed:
            return f"{len(fields)} columns where at least {self.needed} are needed"
        width = len(self.header)
        if len(fields) > width and (self.text_is_last or any(fields[width:])):
            return self._too_many(fields)
        if fields[0] == self.header[0] and width > 1 and [field.strip() for field in fields] == self.header:
            return "it repeats the header"
        return None

    def _too_many(self, fields: list[str]) -> str:
        if any(field.lstrip().startswith('"') and field[:1].isspace() for field in fields):
            remedy = "remove the space before the quote"
        else:
            remedy = f"quote a field that contains {self.separator!r}"
        return f"{len(fields)} fields where the header has {len(self.header)}; {remedy}"
