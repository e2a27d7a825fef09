"""The rows of the config's tables as examples, with file and line; rows that cannot be used are reported."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from core.config import DataConfig
from core.data import sources, tables
from core.data.compression import compression_of
from core.data.sources import FORMATS, Format, TextFormat
from core.data.tables import RawRow
from core.errors import DataError
from core.records import SPLITS, Example, SplitName, text_id

SHOWN = 5
"""How many cases an error lists before it only counts."""
_Case = TypeVar("_Case")
ALIASES: dict[str, SplitName] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Splits by the names that data may have for them."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """One file to read; `key` is its config key, `split` is set if the whole file is one split."""

    url: str
    format: Format
    key: str
    split: SplitName | None = None


@dataclass(frozen=True, slots=True)
class TableRow:
    """An example with its file and line. `split` is None if the split is still to be made."""

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
    """A row that cannot be used: the line it starts on, and what is wrong with it."""

    file: str
    line: int
    reason: str


@dataclass(slots=True)
class FileReadings:
    """The usable rows in the order of the files, and everything that was not used, counted.

    `seen` counts all rows, `left_out` those that no split names, `overflow` those with content in unnamed
    columns past the named ones.
    """

    rows: list[TableRow] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    seen: int = 0
    left_out: int = 0
    overflow: int = 0


def read(config: DataConfig, limit: int | None = None) -> FileReadings:
    """Read all rows of the config's tables, or the first `limit` of each.

    Raises DataError for a file, column or split that is missing, an id with two meanings, and more than
    `max_bad_rows` bad rows.
    """
    split_of = read_split_file(config.split_file) if config.split_file is not None else None
    reader = _RowReader(config, split_of)
    how = TextFormat(config.encoding, config.separator, config.quotes)
    found = FileReadings()
    for table in table_files(config):
        for raw in islice(tables.rows(table.url, table.format, reader.columns, how), limit):
            found.seen += 1
            found.overflow += raw.overflow
            row = reader.row(raw, table)
            if isinstance(row, TableRow):
                found.rows.append(row)
            elif isinstance(row, str):
                found.bad.append(BadRow(table.url, raw.line, row))
            else:
                found.left_out += 1
    if len(found.bad) > config.max_bad_rows:
        raise DataError(
            f"{len(found.bad)} of {found.seen} rows cannot be used and data.max_bad_rows is "
            f"{config.max_bad_rows}; fix them or raise it:"
            f"{listed(found.bad, lambda bad: f'{bad.file}:{bad.line}: {bad.reason}')}"
        )
    if config.id_column is not None:
        _refuse_clashes(found.rows, config.id_column)
    if split_of is not None and (unknown := [i for i in split_of if i not in reader.met]):
        raise DataError(
            f"{sources.place(config.split_file or '')} names {len(unknown)} ids that the data does not have, "
            f"for example {', '.join(unknown[:SHOWN])}; "
            f"{'check data.id_column' if config.id_column else 'ids are hashes of the stripped text'}"
        )
    return found


def read_split_file(url: str) -> dict[str, SplitName]:
    """Return the split by id, from a CSV with the columns id and split. Raises DataError with the line."""
    place = sources.place(url)
    split_of: dict[str, SplitName] = {}
    lines: dict[str, int] = {}
    separator = "\t" if sources.ending(url) == "tsv" else ","
    for row in tables.rows(url, "csv", ("id", "split"), TextFormat(separator=separator)):
        if row.problem is not None:
            raise DataError(f"{place}:{row.line}: {row.problem}")
        name, given = ((value or "").strip() for value in row.values)
        split = ALIASES.get(given.casefold())
        if not name or split is None:
            what = f"the split {given!r} is none of {', '.join(ALIASES)}" if name else "the id is empty"
            raise DataError(f"{place}:{row.line}: {what}")
        if split_of.setdefault(name, split) != split:
            raise DataError(
                f"{place}:{row.line}: {name} is in {split}, but in {split_of[name]} on line {lines[name]}"
            )
        lines.setdefault(name, row.line)
    return split_of


def table_files(config: DataConfig) -> list[TableFile]:
    """The tables that the config names. In `data.dir` the first of the documented layouts that exists counts.

    Raises DataError for missing ones.
    """
    if config.path is not None:
        return [TableFile(config.path, _format(config.path, config), "data.path")]
    if config.files is not None:
        key, urls = "data.files", {split: getattr(config.files, split) for split in SPLITS}
    else:
        key, folder, name = "data.dir", config.dir or "", config.name
        ending = "csv" if config.format == "auto" else config.format
        tried: dict[SplitName, list[str]] = {split: [] for split in SPLITS}
        for alias, split in ALIASES.items():
            layouts = (f"{name}/{name}_{alias}", f"{name}/{alias}", f"{name}_{alias}", alias)
            tried[split] += [sources.join(folder, f"{layout}.{ending}") for layout in layouts]
        urls = {split: next(filter(sources.exists, places), None) for split, places in tried.items()}
        if lacking := [split for split in SPLITS if urls[split] is None]:
            lines = [f"\n  {split}: {', '.join(map(sources.place, tried[split]))}" for split in lacking]
            raise DataError(
                f"{sources.place(folder)} lacks the split{'s' if len(lacking) > 1 else ''} "
                f"{', '.join(lacking)}; put a file there, or set data.dir and data.name; "
                f"tried:{''.join(lines)}"
            )
    return [TableFile(url, _format(url, config), f"{key}.{split}", split) for split, url in urls.items()]


def content(config: DataConfig) -> dict[str, str]:
    """Format and sha256 of each file that the config names, by config key, for a cache key.

    The format is part of it because it may depend on the file's ending, and paths are in no key.
    """
    found: dict[str, str] = {}
    for table in table_files(config):
        packed = compression_of(table.url)
        ending = f"+{packed.ending[1:]}" if packed else ""
        found[table.key] = f"{table.format}{ending}:{sources.digest(table.url)}"
    if config.split_file is not None:
        digest = sources.digest(config.split_file)
        found["data.split_file"] = f"{sources.ending(config.split_file)}:{digest}"
    return found


def listed(cases: Sequence[_Case], shown: Callable[[_Case], str]) -> str:
    """The first cases, one per line, and how many more there are."""
    more = f"\n  and {len(cases) - SHOWN} more" if len(cases) > SHOWN else ""
    return "".join(f"\n  {shown(case)}" for case in cases[:SHOWN]) + more


class LabelMap:
    """Reads labels by name and, with a threshold, by number.

    With a threshold every number is compared with it, so that of 1 to 5 stars 1 is not read as the name "1";
    other labels go by their names. Without it a number is the name it equals: 1.0 and True are "1" unless
    they are names themselves.
    """

    def __init__(self, config: DataConfig) -> None:
        self._threshold, self._labels = config.label_threshold, config.labels
        self._names = {_plain(v): label for label in self._labels for v in self._labels.values[label]}
        numbers = ((_number(name), label) for name, label in self._names.items())
        self._numbers = {number: label for number, label in numbers if number is not None}
        self._known: dict[str, int | None] = {}

    def read(self, raw: str) -> int | None:
        """Return the label of a value; None if it is outside the map."""
        if raw in self._known:
            return self._known[raw]
        name = _plain(raw)
        number = _number(name)
        if self._threshold is not None and number is not None:
            above = number >= self._threshold
            found: int | None = next(i for i in self._labels if (i == self._labels.positive) == above)
        elif name in self._names:
            found = self._names[name]
        else:
            truth = {"true": 1.0, "false": 0.0}.get(name, math.nan)
            found = self._numbers.get(truth if number is None else number)
        self._known[raw] = found
        return found


class _RowReader:
    """Reads rows of the config's tables as examples; `met` are ids that the split file and the data have."""

    def __init__(self, config: DataConfig, split_of: Mapping[str, SplitName] | None) -> None:
        self.config, self.split_of, self.met = config, split_of, set[str]()
        self.labels = LabelMap(config)
        text = config.text_column  # read in the place of columns that the table does not have
        optional = (config.id_column, config.group_column, config.split_column)
        self.columns = (text, config.label_column, *(text if name is None else name for name in optional))

    def row(self, raw: RawRow, table: TableFile) -> TableRow | str | None:
        """Return the row, or the reason why it is bad, or None if no split names it."""
        if raw.problem is not None:
            return raw.problem
        config, (text, label, name, group, given) = self.config, raw.values
        if not text or not text.strip():
            return f"the text (column {config.text_column!r}) is empty"
        example_id = (name or "").strip()
        if config.id_column is not None and not example_id:
            return f"the id (column {config.id_column!r}) is empty"
        if problem := _unwritable(text) or _unwritable(example_id):
            return problem
        if config.id_column is None:
            example_id = text_id(text)
        split = table.split
        if self.split_of is not None:  # looked up before the label is read: what is left out is never bad
            split = self.split_of.get(example_id)
            if split is None:
                return None
            self.met.add(example_id)
        elif config.split_column is not None:
            if not given or not given.strip():
                return None
            split = ALIASES.get(given.strip().casefold())
            if split is None:
                return f"the split {_short(given)} is none of {', '.join(ALIASES)}"
        value = self.labels.read(label) if label is not None else None
        if value is None:
            if label is None or not label.strip():
                return f"the label (column {config.label_column!r}) is missing"
            return f"the label {_short(label)} is neither under data.positive nor under data.negative"
        grouped = (group or "").strip() or None if config.group_column is not None else None
        return TableRow(Example(example_id, text, value, grouped), table.url, raw.line, split, raw.overflow)


def _refuse_clashes(rows: Sequence[TableRow], id_column: str) -> None:
    """Raise DataError for an id that two rows with different texts or labels have."""
    first: dict[str, TableRow] = {}
    clashes: list[tuple[TableRow, TableRow]] = []
    for row in rows:
        other = first.setdefault(row.example.id, row)
        one, two = other.example, row.example
        if other is not row and (one.text.strip(), one.label) != (two.text.strip(), two.label):
            clashes.append((other, row))
    if clashes:
        raise DataError(
            f"rows with the id (column {id_column!r}) of another text or label: {len(clashes)}; make ids "
            "unique, or leave data.id_column out:"
            f"{listed(clashes, lambda pair: f'{pair[1].example.id!r}: {pair[0].at} and {pair[1].at}')}"
        )


def _format(url: str, config: DataConfig) -> Format:
    if config.format != "auto":
        return config.format
    found = FORMATS.get(sources.ending(url))
    if found is None:
        raise DataError(
            f"{sources.place(url)}: the ending does not identify the format; "
            f"set data.format to csv, tsv, jsonl or parquet"
        )
    return found


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


def _plain(name: str) -> str:
    return name.strip().casefold()


def _number(name: str) -> float | None:
    try:
        value = float(name)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in name else None
