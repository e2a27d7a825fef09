"""From a file and `--set` overrides to a frozen Config, each value with its origin."""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from core import locations
from core.config import Config
from core.config.base import location_of
from core.config.engine import ENGINES, EngineSettings
from core.config.reading import ConfigSource, KeyPath, parse_scalar, read_source
from core.config.rejection import RULES
from core.config.student import MOVED
from core.errors import ConfigError, UserError

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class ResolvedConfig:
    """The config of a run; `origins` gives the origin of each value by its key path."""

    config: Config
    origins: Mapping[KeyPath, str]

    @property
    def run_name(self) -> str:
        """The name of the run's folder and pointer."""
        assert self.config.run.name is not None
        return self.config.run.name

    def as_parameter(self) -> Config:
        """The config for a parameter of a Prefect flow, from which `from_parameter` restores the origins."""
        found = _WithOrigins.model_construct(self.config.model_fields_set, **dict(self.config))
        found._origins = self.origins
        return found

    @classmethod
    def from_parameter(cls, config: Config, origin: str) -> ResolvedConfig:
        """The config that a flow was called with. Values that came as plain data get `origin`."""
        if isinstance(config, _WithOrigins):
            plain = Config.model_construct(config.model_fields_set, **dict(config))
            return cls(plain, config._origins)
        return cls(config, {key: origin for key, _, _ in walk(config)})


class _WithOrigins(Config):
    """A config on its way through Prefect, whose parameters have no place for the origins."""

    _origins: Mapping[KeyPath, str] = PrivateAttr()


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
    return ResolvedConfig(config, {key: _origin(key, source, sets) for key, _, _ in walk(config)})


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


def walk(section: BaseModel, at: KeyPath = ()) -> Iterable[tuple[KeyPath, FieldInfo, Any]]:
    """Every key path of a section object that has a value and not a section, with the field and the value."""
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from walk(value, (*at, name))
        else:
            yield (*at, name), info, value


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


def _origin(key: KeyPath, source: ConfigSource, overridden: Iterable[KeyPath]) -> str:
    if any(key[: len(o)] == o[: len(key)] for o in overridden):
        return "--set"
    values: Any = source.values
    for part in key:
        if not isinstance(values, dict) or part not in values:
            return "the file's name" if key == ("run", "name") else DEFAULT
        values = values[part]
    return source.place(key)


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
