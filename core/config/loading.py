"""Read a config file and `--set` overrides into a frozen Config, each value with its origin and line."""

from __future__ import annotations

import difflib
import json
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from core import locations
from core.config.config import DEFAULT, Config, ResolvedConfig
from core.config.rejection import RULES
from core.config.section import KeyPath, location_of, walk
from core.config.student import ENGINES, MOVED, EngineSettings
from core.errors import ConfigError, UserError


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

    def origin(self, key: KeyPath) -> str:
        """The place of a key that the file gives; what decides its value otherwise."""
        values: Any = self.values
        for part in key:
            if not isinstance(values, dict) or part not in values:
                return "the file's name" if key == ("run", "name") else DEFAULT
            values = values[part]
        return self.place(key)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, except that 1e-3 is a number, as in YAML 1.2."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load(path: Path | str, overrides: Sequence[str] = ()) -> ResolvedConfig:
    """Read, override and check a config, its locations included, before anything is read or created.

    Raises ConfigError with key, place and nearest name.
    """
    path = Path(path)
    source = read_source(path)
    resolved = resolve(path, source, overrides)
    on_server = not resolved.config.student.engine.capabilities.local_weights
    for key, info, value in walk(resolved.config):
        location = location_of(info)
        if location is None or not isinstance(value, str):
            continue
        # A server has its own names for models, and MLflow its own `file:` paths.
        if (on_server and key == ("student", "model")) or (key[0] == "trackers" and value[:5] == "file:"):
            continue
        creates = key == ("run", "root")
        try:
            locations.normalized(
                value, ".".join(key), creates=creates, schemes=location.schemes, kind=location.kind
            )
        except UserError as e:
            place = "--set" if resolved.origins[key] == "--set" else source.place(key)
            raise ConfigError(f"{place}: {e}") from None
    return resolved


def resolve(path: Path, source: ConfigSource, overrides: Sequence[str] = ()) -> ResolvedConfig:
    """As `load`, for a file that was read already. What a finished run names may be gone: not checked."""
    source = replace(source, values=_with_kind(source.values))
    values = source.values
    sets: list[KeyPath] = []
    for text in overrides:
        written, equals, value = text.partition("=")
        if not equals or not written.strip():
            raise ConfigError(f"--set wants key=value, for instance student.epochs=2; got {text!r}")
        key = tuple(written.strip().split("."))
        if lost := next((e for e in sets if len(e) > len(key) and e[: len(key)] == key), None):
            raise ConfigError(f"--set {'.'.join(key)} would discard --set {'.'.join(lost)}; give it first")
        sets.append(key)
        values = _with_kind(_with(values, key, parse_scalar(value)))
    if not isinstance(values.get("run", {}), dict) or not (values.get("run") or {}).get("name"):
        stem = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in path.stem)
        values = _with(values, ("run", "name"), stem.lstrip("._-") or "run")
    config = validate(values, source, sets)
    origins = {}
    for key, _, _ in walk(config):
        overridden = any(key[: len(given)] == given[: len(key)] for given in sets)
        origins[key] = "--set" if overridden else source.origin(key)
    return ResolvedConfig(config, origins)


def validate(values: dict[str, Any], source: ConfigSource, overridden: Iterable[KeyPath] = ()) -> Config:
    """Check plain values strictly: "3" is not a number, and an unknown key is an error."""
    try:
        text = json.dumps(values)
    except (TypeError, ValueError) as e:
        raise ConfigError(f"{source.name}: a value that JSON cannot hold: {e}; put it in quotes") from e
    try:
        return Config.model_validate_json(text, strict=True)
    except ValidationError as e:
        # A default that depends on another field is not computed after a mistake; that is not a second one.
        errors = [error for error in e.errors() if error["type"] != "default_factory_not_called"]
        lines = [_message(error, source, set(overridden)) for error in errors]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


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


def fields_at(key: KeyPath) -> Mapping[str, FieldInfo]:
    """The fields of the section at a key path; none if it leads outside the sections.

    At student.engine they are the fields of every engine.
    """
    if key[:1] == ("rejection",) and len(key) == 4:
        return RULES.get(key[3]).model_fields
    return {path[-1]: info for path, info in _fields(Config) if path[:-1] == key}


def leaves(model: type[BaseModel]) -> Iterable[KeyPath]:
    """Every key path of a model that has a value and not a section."""
    return (path for path, info in _fields(model) if _section_of(info.annotation) is None)


def _fields(model: type[BaseModel], at: KeyPath = ()) -> Iterator[tuple[KeyPath, FieldInfo]]:
    """Every field of a model and its sections, by key path."""
    infos = model.model_fields
    if model is EngineSettings:
        infos = {name: info for _, engine in ENGINES.items() for name, info in engine.model_fields.items()}
    for name, info in infos.items():
        yield (*at, name), info
        if (inner := _section_of(info.annotation)) is not None:
            yield from _fields(inner, (*at, name))


def _section_of(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _with_kind(values: dict[str, Any]) -> dict[str, Any]:
    """Write `engine: <name>` as `engine: {kind: <name>}`, to which further keys can be added."""
    student = values.get("student")
    if not isinstance(student, dict) or not isinstance(student.get("engine"), str):
        return values
    return _with(values, ("student", "engine"), {"kind": student["engine"]})


def _with(values: dict[str, Any], key: KeyPath, value: Any) -> dict[str, Any]:
    head, *rest = key
    if not rest:
        return {**values, head: value}
    inner = values.get(head)
    return {**values, head: _with(inner if isinstance(inner, dict) else {}, tuple(rest), value)}


def _message(error: ErrorDetails, source: ConfigSource, overridden: set[KeyPath]) -> str:
    """A validation error with its place, the key, and how to fix it."""
    key = tuple(str(part) for part in error["loc"])
    place = "--set" if key in overridden else source.place(key)
    name = ".".join(key)
    if error["type"] == "extra_forbidden":
        return f"{place}: {name} is not a key{_nearest(key)}"
    if error["type"] == "missing":
        info = fields_at(key[:-1]).get(key[-1])
        what = f": {' '.join(info.description.split())}" if info and info.description else ""
        return f"{place}: {name} is missing{what}"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if error["msg"].startswith("Input "):
        message = f"{message}, not {error['input']!r:.60}"
    return f"{place}: {name or 'the config'}: {message}"


def _nearest(key: KeyPath) -> str:
    """What a user may have meant by an unknown key: a moved one, one of another engine, or a similar one."""
    *section, wrong = key
    if section == ["student"] and wrong in MOVED:
        return f" any more; it moved to student.engine.{MOVED[wrong]}"
    if section == ["student", "engine"]:
        having = [name for name, engine in ENGINES.items() if wrong in engine.model_fields]
        if having:
            return f" of this engine; {' and '.join(having)} has it (student.engine.kind)"
    names = list(fields_at(key[:-1]))
    if not names:
        return ""
    if not difflib.get_close_matches(wrong, names, n=1, cutoff=0.6):
        elsewhere = [".".join(path) for path in leaves(Config) if path[-1] == wrong]
        if elsewhere:
            return f"; did you mean {elsewhere[0]}?"
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(names)}"


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
