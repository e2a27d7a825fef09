"""The predecessor's config file: one flat JSON object, and the line on which each key stands."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from core.config import Config
from core.config.reading import file_text
from core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Flat:
    """What the file says, in its order, and where."""

    path: Path
    values: Mapping[str, Any]
    lines: Mapping[str, int]

    def place(self, key: str) -> str:
        """`file:line` of a key, or the file where the key is not in it."""
        return f"{self.path}:{self.lines[key]}" if key in self.lines else str(self.path)


def read(path: Path) -> Flat:
    """Read the file. Raises ConfigError for what is no JSON, no object, not flat, or says a key twice."""
    text = file_text(path)
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_no_constant)
    except json.JSONDecodeError as e:
        raise ConfigError(f"{path}:{e.lineno}: not JSON: {e.msg}; {_not_json(path, text)}") from None
    except _Constant as e:
        raise ConfigError(f"{path}: {e} is no JSON value; give a number") from None
    except (ValueError, RecursionError) as e:
        raise ConfigError(f"{path}: not JSON: {e}") from None
    if not isinstance(pairs, _Pairs):
        raise ConfigError(f"{path}: one JSON object with a key a setting is wanted, not {_kind(pairs)}")
    flat = Flat(path, dict(pairs), _lines(text, [name for name, _ in pairs]))
    _refuse_twice(flat, [name for name, _ in pairs])
    _refuse_nested(flat)
    return flat


class _Pairs(list[tuple[str, Any]]):
    """An object with its keys as they stand, twice or not."""


class _Constant(Exception):
    """NaN or an infinity."""


def _no_constant(name: str) -> NoReturn:
    raise _Constant(name)


def _lines(text: str, names: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        match = re.search(rf"{re.escape(json.dumps(name, ensure_ascii=False))}\s*:", text)
        if match:
            found[name] = text.count("\n", 0, match.start()) + 1
    return found


def _refuse_twice(flat: Flat, names: list[str]) -> None:
    for name in flat.values:
        if names.count(name) > 1:
            raise ConfigError(f"{flat.place(name)}: {name} stands twice; keep one")


def _refuse_nested(flat: Flat) -> None:
    for name, value in flat.values.items():
        if not isinstance(value, list):
            continue
        place = f"{flat.place(name)}: {name} is {_kind(value)}"
        if name in Config.model_fields and isinstance(value, _Pairs):
            raise ConfigError(
                f"{place}, as in a config of this project, which needs no import: run it as it is"
            )
        raise ConfigError(f"{place}, where the predecessor's file has a single value; give one")


def _not_json(path: Path, text: str) -> str:
    if path.suffix in (".yaml", ".yml"):
        return "a config in YAML needs no import: run it as it is"
    return "JSON has no comments and no comma after the last key" if text.strip() else "the file is empty"


def _kind(value: Any) -> str:
    if isinstance(value, _Pairs):
        return "an object"
    kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
