"""Read the earlier scripts' config, a flat JSON object, and find the paths in it."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from core.config import Config
from core.config.data import DataConfig
from core.config.reading import file_text
from core.data.reading import table_files
from core.errors import ConfigError, DataError

Version = Literal["old", "new"]
"""The first published version of the scripts, and a later one with more keys and other defaults."""
_PARENTS = 3
"""Relative paths are looked up in this many folders, from the config's own folder upwards."""
_CLONE = "tinker"
"""The scripts' own folder, with which their paths may begin."""
_KINDS = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


class LegacyColumns(NamedTuple):
    """How the train table is written."""

    text: str
    label: str
    separator: str


@dataclass(slots=True)
class Settings:
    """The keys that the file gives, their lines from 1, and every key's value.

    `values` has the defaults of the scripts' version for keys that the file lacks.
    """

    path: Path
    given: Mapping[str, Any]
    lines: Mapping[str, int]
    version: Version = "old"
    values: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def place(self, key: str) -> str:
        """Return `file:line` of a key; only the file if the key is not in it."""
        return f"{self.path}:{self.lines[key]}" if key in self.lines else str(self.path)

    def error(self, key: str, why: str) -> ConfigError:
        """Return the error for a key's value."""
        return ConfigError(f"{self.place(key)}: {key}: {why}")

    def find(self, path: str) -> Path | None:
        """Return what a path of the config names; None if it does not exist."""
        return next((found for found in self.candidates(path) if found.exists()), None)

    def candidates(self, path: str) -> Iterator[Path]:
        """Yield the places where the scripts' versions would look for a path."""
        given = Path(path).expanduser()
        if given.is_absolute():
            yield given
            return
        folder = self.path.absolute().parent
        for start in (*[folder, *folder.parents][:_PARENTS], Path.cwd()):
            yield start / given
            if given.parts[:1] == (_CLONE,):
                yield start / given.relative_to(_CLONE)

    def our_path(self, path: str) -> str:
        """Return a path for our config: relative to the working directory if it is below it."""
        found = self.find(path)
        if found is None:
            return path
        found, here = found.resolve(), Path.cwd().resolve()
        return str(found.relative_to(here)) if found.is_relative_to(here) else str(found)

    def columns(self) -> LegacyColumns | None:
        """Return the first of three ways to read the train table; None without a table.

        The scripts tried text and label, then the config's columns, both separated by commas, then the
        config's columns with its separator. The last one is the result if none fits.
        """
        folder = self.find(self["dataset_root_dir"])
        if folder is None:
            return None
        try:
            tables = table_files(DataConfig(dir=str(folder), name=self["dataset_name"]))
            with Path(tables[0].url).open(encoding="utf-8", errors="replace", newline="") as f:
                head = f.readline().removeprefix("\ufeff")
        except (DataError, OSError):
            return None
        own = LegacyColumns(self["text_column"], self["label_column"], self["csv_sep"])
        for tried in (LegacyColumns("text", "label", ","), own._replace(separator=",")):
            names = next(csv.reader([head], delimiter=tried.separator), [])
            if {tried.text, tried.label} <= {name.strip() for name in names}:
                return tried
        return own


class _Pairs(list[tuple[str, Any]]):
    """The keys and values of a JSON object, which may repeat a key."""


def read_flat(path: Path) -> Settings:
    """Read the keys of the file. Raises ConfigError unless it is one flat JSON object, each key once."""
    text = file_text(path)
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_reject_constant)
    except json.JSONDecodeError as e:
        hint = "JSON has no comments and no comma after the last key" if text.strip() else "the file is empty"
        if path.suffix in (".yaml", ".yml"):
            hint = "a config in YAML needs no import: run it as it is"
        raise ConfigError(f"{path}:{e.lineno}: not JSON: {e.msg}; {hint}") from None
    except (ValueError, RecursionError) as e:
        raise ConfigError(f"{path}: not JSON: {e}") from None
    if not isinstance(pairs, _Pairs):
        kind = _KINDS.get(type(pairs), "a number")
        raise ConfigError(f"{path}: expected one JSON object with a key per setting, found {kind}")
    names, lines = [name for name, _ in pairs], dict[str, int]()
    for name in names:
        if match := re.search(rf"{re.escape(json.dumps(name, ensure_ascii=False))}\s*:", text):
            lines[name] = text.count("\n", 0, match.start()) + 1
    found = Settings(path, dict(pairs), lines)
    for name, value in pairs:
        if names.count(name) > 1:
            raise found.error(name, "the key is repeated; keep one")
        if isinstance(value, _Pairs) and name in Config.model_fields:
            why = "is an object, as in a config of this project, which needs no import: run it as it is"
            raise found.error(name, why)
        if isinstance(value, list):
            kind = "an object" if isinstance(value, _Pairs) else "a list"
            raise found.error(name, f"is {kind}; the earlier scripts have single values only")
    return found


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number; give a number")
