"""The rows of the config's tables as examples, with file and line; what cannot be read is reported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from core.config.data import DataConfig
from core.data import sources, streaming
from core.data.labels import LabelMap
from core.data.locate import ALIASES, Format, Table, tables
from core.data.tables import RawRow, TextFormat
from core.errors import DataError
from core.records import Example, SplitName, text_id

SHOWN = 5
"""How many cases an error lists before it only counts."""


@dataclass(frozen=True, slots=True)
class Row:
    """An example and where it stands. `split` is None where the split is still to be made."""

    example: Example
    file: str
    line: int
    split: SplitName | None = None
    overflow: bool = False

    @property
    def at(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used: `line` is where it starts, `reason` what is wrong with it."""

    file: str
    line: int
    reason: str


@dataclass(slots=True)
class Readings:
    """What was read: usable rows in the order of the files, and all that was not used, counted.

    `seen` counts all rows, `left_out` those that no split names, `overflow` those with content in
    unnamed columns past the named ones.
    """

    rows: list[Row] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    seen: int = 0
    left_out: int = 0
    overflow: int = 0


def read(config: DataConfig) -> Readings:
    """All rows of the config's tables.

    Raises DataError for a file, column or split that is missing, an id with two meanings, and more
    than `max_bad_rows` bad rows.
    """
    named = read_split_file(config.split_file) if config.split_file is not None else None
    interpreter = _Interpreter(config, named)
    out = Readings()
    for table in tables(config):
        _read_table(table, config, interpreter, out)
    _refuse_bad(out, config)
    _refuse_clashes(out.rows, config)
    if named is not None:
        _refuse_unknown(named, interpreter.met, config)
    return out


def raw_rows(
    url: str, kind: Format, columns: tuple[str, ...], how: TextFormat | None = None
) -> Iterator[RawRow]:
    """Yield the rows of one table as text, in the order of `columns`. Raises DataError if there are none."""
    rows = streaming.rows(url, kind, columns, how or TextFormat())
    first = next(rows, None)
    if first is None:
        raise DataError(f"{sources.place(url)} has a header but no rows")
    yield first
    yield from rows


def read_split_file(url: str) -> dict[str, SplitName]:
    """Split by id, from a CSV with the columns id and split. Raises DataError with file and line."""
    place = sources.place(url)
    named: dict[str, SplitName] = {}
    lines: dict[str, int] = {}
    separator = "\t" if url.lower().removesuffix(".gz").endswith(".tsv") else ","
    how = TextFormat(separator=separator)
    for row in streaming.rows(url, "csv", ("id", "split"), how):
        if row.problem is not None:
            raise DataError(f"{place}:{row.line}: {row.problem}")
        name, given = ((value or "").strip() for value in row.values)
        split = ALIASES.get(given.casefold())
        if not name or split is None:
            what = "the id is empty" if not name else f"the split {given!r} is none of {', '.join(ALIASES)}"
            raise DataError(f"{place}:{row.line}: {what}")
        if named.setdefault(name, split) != split:
            raise DataError(
                f"{place}:{row.line}: {name} is in {split}, but in {named[name]} on line {lines[name]}"
            )
        lines.setdefault(name, row.line)
    if not named:
        raise DataError(f"{place} has a header but no rows")
    return named


def _read_table(table: Table, config: DataConfig, interpreter: _Interpreter, out: Readings) -> None:
    how = TextFormat(config.encoding, config.separator, config.quotes)
    for raw in raw_rows(table.url, table.format, interpreter.columns, how):
        out.seen += 1
        out.overflow += raw.overflow
        read_as = interpreter.row(raw, table)
        if isinstance(read_as, Row):
            out.rows.append(read_as)
        elif isinstance(read_as, str):
            out.bad.append(BadRow(table.url, raw.line, read_as))
        else:
            out.left_out += 1


class _Interpreter:
    """What a row of the config's tables means.

    A row is looked up in the split file before its label is read: what is left out is never bad.
    `met` are the ids that the split file names and the data has.
    """

    def __init__(self, config: DataConfig, named: Mapping[str, SplitName] | None) -> None:
        self.config, self.named, self.met = config, named, set[str]()
        self.labels = LabelMap(config)
        optional = (config.id_column, config.group_column, config.split_column)
        self.columns = (config.text_column, config.label_column, *(c for c in optional if c is not None))

    def row(self, raw: RawRow, table: Table) -> Row | str | None:
        """The row, or the reason why it is bad, or None where no split names it."""
        if raw.problem is not None:
            return raw.problem
        rest = iter(raw.values[2:])
        text, label = raw.values[:2]
        name = next(rest) if self.config.id_column is not None else None
        group = next(rest) if self.config.group_column is not None else None
        given = next(rest) if self.config.split_column is not None else None
        if not text or not text.strip():
            return f"the text (column {self.config.text_column!r}) is empty"
        problem = self._unwritable(text) or self._bad_id(name)
        if problem:
            return problem
        example_id = text_id(text) if name is None else name.strip()
        split = self._split(example_id, given, table)
        if split is None and (self.named is not None or self.config.split_column):
            return None if not given or not given.strip() else self._bad_split(given)
        value = self.labels.read(label) if label is not None else None
        if value is None:
            return self._bad_label(label)
        example = Example(example_id, text, value, (group or "").strip() or None)
        return Row(example, table.url, raw.line, split, raw.overflow)

    def _split(self, example_id: str, given: str | None, table: Table) -> SplitName | None:
        if self.named is not None:
            split = self.named.get(example_id)
            if split is not None:
                self.met.add(example_id)
            return split
        return ALIASES.get(given.strip().casefold()) if given else table.split

    def _bad_id(self, name: str | None) -> str | None:
        if self.config.id_column is None:
            return None
        if not name or not name.strip():
            return f"the id (column {self.config.id_column!r}) is empty"
        return self._unwritable(name)

    def _bad_label(self, label: str | None) -> str:
        if label is None or not label.strip():
            return f"the label (column {self.config.label_column!r}) is missing"
        return f"the label {_short(label)} is neither under data.positive nor under data.negative"

    @staticmethod
    def _bad_split(given: str) -> str:
        return f"the split {_short(given)} is none of {', '.join(ALIASES)}"

    @staticmethod
    def _unwritable(text: str) -> str | None:
        if text.isascii():
            return None
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as e:
            return f"it holds half a character (U+{ord(text[e.start]):04X}) that no file can hold"
        return None


def _short(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:37] + "...")


def _refuse_bad(out: Readings, config: DataConfig) -> None:
    if len(out.bad) <= config.max_bad_rows:
        return
    lines = [f"\n  {bad.file}:{bad.line}: {bad.reason}" for bad in out.bad[:SHOWN]]
    more = f"\n  and {len(out.bad) - SHOWN} more" if len(out.bad) > SHOWN else ""
    raise DataError(
        f"{len(out.bad)} of {out.seen} rows cannot be used and data.max_bad_rows is "
        f"{config.max_bad_rows}; mend them or raise it:{''.join(lines)}{more}"
    )


def _refuse_clashes(rows: list[Row], config: DataConfig) -> None:
    if config.id_column is None:
        return
    first: dict[str, Row] = {}
    clashes: list[tuple[Row, Row]] = []
    for row in rows:
        other = first.setdefault(row.example.id, row)
        if other is not row and _meaning(other) != _meaning(row):
            clashes.append((other, row))
    if clashes:
        lines = [f"\n  {row.example.id!r}: {other.at} and {row.at}" for other, row in clashes[:SHOWN]]
        more = f"\n  and {len(clashes) - SHOWN} more" if len(clashes) > SHOWN else ""
        raise DataError(
            f"rows whose id (column {config.id_column!r}) stands before with another text or label: "
            f"{len(clashes)}; make ids unique, or leave data.id_column out:{''.join(lines)}{more}"
        )


def _meaning(row: Row) -> tuple[str, int]:
    return row.example.text.strip(), row.example.label


def _refuse_unknown(named: Mapping[str, SplitName], met: set[str], config: DataConfig) -> None:
    unknown = [i for i in named if i not in met]
    if unknown:
        raise DataError(
            f"{sources.place(config.split_file or '')} names {len(unknown)} ids that the data does not have, "
            f"for instance {', '.join(unknown[:SHOWN])}; "
            f"{'check data.id_column' if config.id_column else 'ids are hashes of the stripped text'}"
        )
