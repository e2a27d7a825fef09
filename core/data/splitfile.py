"""A file that says which id is in which split."""

from __future__ import annotations

from core.data import sources
from core.data.locate import ALIASES
from core.data.streaming import rows
from core.data.tables import TextFormat
from core.errors import DataError
from core.records import SplitName


def read_split_file(url: str) -> dict[str, SplitName]:
    """Split by id, from a CSV with the columns id and split. Raises DataError with file and line."""
    place = sources.place(url)
    named: dict[str, SplitName] = {}
    lines: dict[str, int] = {}
    separator = "\t" if url.lower().removesuffix(".gz").endswith(".tsv") else ","
    how = TextFormat(separator=separator)
    for row in rows(url, "csv", ("id", "split"), how):
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
