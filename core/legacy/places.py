"""Where the predecessor's paths lead: relative to a folder above its config file, with or without tinker/."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.config.data import DataConfig
from core.data import locate
from core.errors import DataError

_ABOVE = 3
"""Folders that a relative path may start from: that of the config file, and so many in all going up."""
_CLONE = "tinker"


@dataclass(frozen=True, slots=True)
class Columns:
    """How the three tables are written."""

    text: str
    label: str
    separator: str


@dataclass(frozen=True, slots=True)
class Places:
    """Looks paths up from where the config file lies, then from the working directory."""

    config: Path
    here: Path

    def find(self, path: str) -> Path | None:
        """What a path of the config names; None where it is nowhere."""
        return next((found for found in self._tried(path) if found.exists()), None)

    def written(self, path: str) -> str:
        """The path for our config: relative to the working directory where it lies below it."""
        found = self.find(path)
        if found is None:
            return path
        found = found.resolve()
        here = self.here.resolve()
        return str(found.relative_to(here)) if found.is_relative_to(here) else str(found)

    def missing(self, path: str) -> str:
        """The sentence for a path that leads nowhere."""
        tried = ", ".join(dict.fromkeys(str(at) for at in self._tried(path)))
        return f"there is no {path} (tried: {tried})"

    def columns(self, folder: str, name: str, *, own: Columns) -> Columns | None:
        """The first of three ways in which the train table can be read; None where it cannot be found.

        They are tried as the predecessor did: text and label, then the config's `own` columns, both
        separated by commas, then these with the config's separator. Where none fits, it is `own`.
        """
        at = self.find(folder)
        if at is None:
            return None
        try:
            tables = locate.tables(DataConfig(dir=str(at), name=name))
            with Path(tables[0].url).open(encoding="utf-8", errors="replace", newline="") as f:
                head = f.readline()
        except (DataError, OSError):
            return None
        tries = (Columns("text", "label", ","), Columns(own.text, own.label, ","), own)
        return next((each for each in tries if _holds(head, each)), own)

    def _tried(self, path: str) -> Iterator[Path]:
        given = Path(path).expanduser()
        if given.is_absolute():
            yield given
            return
        within = given.relative_to(_CLONE) if given.parts[:1] == (_CLONE,) else None
        folder = self.config.absolute().parent
        for start in (*[folder, *folder.parents][:_ABOVE], self.here):
            yield start / given
            if within is not None:
                yield start / within


def _holds(head: str, columns: Columns) -> bool:
    if len(columns.separator) != 1:
        return False
    names = next(csv.reader([head.removeprefix("\ufeff")], delimiter=columns.separator), [])
    return {columns.text, columns.label} <= {name.strip() for name in names}
