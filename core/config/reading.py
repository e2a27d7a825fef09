"""A config file as plain values, with the line of each key."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from core.errors import ConfigError

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """The values of a file, and their lines: `lines[("student", "epochs")]` counts from 1."""

    name: str
    values: dict[str, Any]
    lines: dict[KeyPath, int]

    def place(self, key: KeyPath) -> str:
        """`file:line` of a key, or of the nearest section above it."""
        while key and key not in self.lines:
            key = key[:-1]
        return f"{self.name}:{self.lines[key]}" if key else self.name


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, except that 1e-3 is a number, as in YAML 1.2."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_source(path: Path) -> ConfigSource:
    """Read YAML, or JSON if the name ends in .json. Raises ConfigError with file and line."""
    return parse_source(path, file_text(path))


def parse_source(path: Path, text: str) -> ConfigSource:
    """As `read_source`, for a text that was read already; `path` is what errors name."""
    lines: dict[KeyPath, int] = {}
    if path.suffix == ".json":
        try:
            values = json.loads(text)
        except json.JSONDecodeError as e:
            raise ConfigError(f"{path}:{e.lineno}: not JSON: {e.msg}") from e
    else:
        try:
            node = _Loader(text).get_single_node()
            if node is not None:
                _collect(str(path), node, (), lines)
            values = yaml.load(text, Loader=_Loader)  # nosec B506  # a SafeLoader
        except yaml.YAMLError as e:
            mark = getattr(e, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            raise ConfigError(f"{where}: not YAML: {_first_line(e)}") from e
    if values is None:
        raise ConfigError(f"{path.absolute()} is empty; see configs/quickstart.yaml for an example")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: the top level must be a mapping of sections, not {values!r:.40}")
    return ConfigSource(str(path), values, lines)


def parse_scalar(text: str) -> Any:
    """The value of `c` in `--set a.b=c`, read as YAML."""
    try:
        return yaml.load(text, Loader=_Loader)  # nosec B506  # a SafeLoader
    except yaml.YAMLError as e:
        raise ConfigError(
            f"--set: {text!r} is not a YAML value: {_first_line(e)}; put it in quotes inside the "
            f"shell's, for instance 'key=\"{text}\"'"
        ) from e


def file_text(path: Path) -> str:
    """The file as text. Raises ConfigError with the place tried and the nearest names."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        absolute = path.absolute()
        siblings = [p.name for p in absolute.parent.iterdir()] if absolute.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=2)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise ConfigError(f"no config file at {absolute}{hint}") from None
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path.absolute()} cannot be read as a config: {e}") from e


def _collect(name: str, node: yaml.Node, at: KeyPath, lines: dict[KeyPath, int]) -> None:
    """Add the line of every key below a node. Raises ConfigError for a key that occurs twice."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        path = (*at, str(key.value))
        if path in lines:
            raise ConfigError(
                f"{name}:{key.start_mark.line + 1}: {'.'.join(path)} occurs twice, "
                f"first on line {lines[path]}; keep one"
            )
        lines[path] = key.start_mark.line + 1
        _collect(name, value, path, lines)


def _first_line(error: Exception) -> str:
    problem = getattr(error, "problem", None) or str(error)
    return str(problem).splitlines()[0]
