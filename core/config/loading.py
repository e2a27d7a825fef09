"""From a file and `--set` overrides to a frozen Config, each value with its origin."""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from core import locations
from core.config import Config
from core.config.engine import ENGINES, EngineSettings
from core.config.reading import KeyPath, Source, parse_scalar, read_source
from core.config.rejection import RULES
from core.config.student import MOVED
from core.errors import ConfigError, UserError

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class ResolvedConfig:
    """The config of a run; `origins` says for each leaf where its value comes from."""

    config: Config
    origins: Mapping[KeyPath, str]

    @property
    def run_name(self) -> str:
        """The name the run's files go under."""
        assert self.config.run.name is not None
        return self.config.run.name

    def as_parameter(self) -> Config:
        """The config for a parameter of a flow, which `from_parameter` takes apart again."""
        found = _WithOrigins.model_construct(self.config.model_fields_set, **dict(self.config))
        found._origins = self.origins
        return found

    @classmethod
    def from_parameter(cls, config: Config, origin: str) -> ResolvedConfig:
        """The config that a flow was called with. Values that came as plain data get `origin`."""
        if isinstance(config, _WithOrigins):
            plain = Config.model_construct(config.model_fields_set, **dict(config))
            return cls(plain, config._origins)
        return cls(config, dict.fromkeys(held(config), origin))


class _WithOrigins(Config):
    """A config on its way through Prefect, whose parameters hold nothing next to it."""

    _origins: Mapping[KeyPath, str] = PrivateAttr()


def load(path: Path, overrides: Sequence[str] = ()) -> ResolvedConfig:
    """Read, override and check a config. Raises ConfigError naming key, place and nearest name."""
    source = read_source(path)
    resolved = resolve(path, source, overrides)
    _check_locations(resolved, source)
    return resolved


def resolve(path: Path, source: Source, overrides: Sequence[str] = ()) -> ResolvedConfig:
    """As `load`, of a file that was read already."""
    source = replace(source, values=_with_kind(source.values))
    sets = [_override(text) for text in overrides]
    values = source.values
    for i, (key, value) in enumerate(sets):
        for earlier, _ in sets[:i]:
            if len(earlier) > len(key) and earlier[: len(key)] == key:
                raise ConfigError(
                    f"--set {'.'.join(key)} would discard --set {'.'.join(earlier)}; give it first"
                )
        values = _with_kind(_with(values, key, value))
    if not isinstance(values.get("run", {}), dict) or not (values.get("run") or {}).get("name"):
        values = _with(values, ("run", "name"), _name_of(path))
    config = validate(values, source, {key for key, _ in sets})
    return ResolvedConfig(config, dict(_origins(config, source, {key for key, _ in sets})))


def _with_kind(values: dict[str, Any]) -> dict[str, Any]:
    """Write `engine: <name>` as `engine: {kind: <name>}`, to which further keys can be added."""
    student = values.get("student")
    if not isinstance(student, dict) or not isinstance(student.get("engine"), str):
        return values
    return _with(values, ("student", "engine"), {"kind": student["engine"]})


def validate(values: dict[str, Any], source: Source, overridden: Iterable[KeyPath] = ()) -> Config:
    """Check plain values strictly: "3" is no number, and an unknown key is an error."""
    try:
        text = json.dumps(values)
    except (TypeError, ValueError) as e:
        raise ConfigError(f"{source.name}: a value that JSON cannot hold: {e}; put it in quotes") from e
    try:
        return Config.model_validate_json(text, strict=True)
    except ValidationError as e:
        # A default that depends on another field is not computed after a mistake; that is not another one.
        errors = [error for error in e.errors() if error["type"] != "default_factory_not_called"]
        lines = [_sentence(error, source, set(overridden)) for error in errors]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


_ANY, _LOCAL, _MODEL = None, (), ("package",)
LOCATIONS: Mapping[KeyPath, tuple[str, ...] | None] = {
    ("run", "root"): _ANY,
    ("data", "path"): _ANY,
    ("data", "files", "train"): _ANY,
    ("data", "files", "val"): _ANY,
    ("data", "files", "test"): _ANY,
    ("data", "dir"): _ANY,
    ("data", "split_file"): _ANY,
    ("rules", "dir"): _LOCAL,
    ("prompts", "file"): _LOCAL,
    ("teacher", "answers"): _ANY,
    ("teacher", "prices"): _LOCAL,
    ("student", "model"): _MODEL,
    ("student", "tokenizer"): _MODEL,
    ("student", "engine", "local_model"): _MODEL,
    ("student", "engine", "prices"): _LOCAL,
    ("trackers", "mlflow", "tracking_uri"): _ANY,
}
"""The keys that name a location, each with the URL schemes it takes, None for any."""
_INSTEAD = {_LOCAL: "a local path", _MODEL: "a folder, a .gguf file, a hub id or package://"}


def _check_locations(resolved: ResolvedConfig, source: Source) -> None:
    """Reject a location that is neither a path nor a URL, before anything is read or created.

    Of the file that a user gives only: what a finished run names may be gone since.
    """
    for key, schemes in LOCATIONS.items():
        value = _value_at(resolved.config, key)
        if not isinstance(value, str) or _is_no_location(resolved.config, key, value):
            continue
        origin = resolved.origins[key]
        try:
            found = locations.normalized(value, ".".join(key), creates=key == ("run", "root"))
            if schemes is not None:
                locations.require(found, ".".join(key), schemes, _INSTEAD[schemes])
        except UserError as e:
            place = origin if origin == "--set" else source.place(key)
            raise ConfigError(f"{place}: {e}") from None


def _value_at(section: BaseModel, key: KeyPath) -> Any:
    value: Any = section
    for part in key:
        value = getattr(value, part, None) if isinstance(value, BaseModel) else None
    return value


def _is_no_location(config: Config, key: KeyPath, value: str) -> bool:
    """A training server's name for a model, and MLflow's own `file:` paths."""
    if key == ("student", "model"):
        return not config.student.engine.capabilities.local_weights
    return key[0] == "trackers" and value.startswith("file:")


def _name_of(path: Path) -> str:
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in path.stem)
    return stem.lstrip("._-") or "run"


def _override(text: str) -> tuple[KeyPath, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set wants key=value, for instance student.epochs=2; got {text!r}")
    return tuple(key.strip().split(".")), parse_scalar(value)


def _with(values: dict[str, Any], key: KeyPath, value: Any) -> dict[str, Any]:
    head, *rest = key
    if not rest:
        return {**values, head: value}
    inner = values.get(head)
    return {**values, head: _with(inner if isinstance(inner, dict) else {}, tuple(rest), value)}


def _sentence(error: ErrorDetails, source: Source, overridden: set[KeyPath]) -> str:
    key = tuple(str(part) for part in error["loc"])
    place = "--set" if key in overridden else source.place(key)
    name = ".".join(key)
    if error["type"] == "extra_forbidden":
        return f"{place}: {name} is not a key{_nearest(key)}"
    if error["type"] == "missing":
        return f"{place}: {name} is missing{_what_it_is(key)}"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if error["msg"].startswith("Input "):
        message = f"{message}, not {error['input']!r:.60}"
    return f"{place}: {name or 'the config'}: {message}"


def _near_names(wrong: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are: {', '.join(names)}"


def _nearest(key: KeyPath) -> str:
    if key[:-1] == ("student",) and key[-1] in MOVED:
        return f" any more; it moved to student.engine.{MOVED[key[-1]]}"
    if key[:-1] == ("student", "engine"):
        having = [name for name, engine in ENGINES.items() if key[-1] in engine.model_fields]
        if having:
            return f" of this engine; {' and '.join(having)} has it (student.engine.kind)"
    names = list(fields_at(key[:-1]) or ())
    if not names:
        return ""
    if difflib.get_close_matches(key[-1], names, n=1, cutoff=0.6):
        return _near_names(key[-1], names)
    elsewhere = [".".join(path) for path in leaves(Config) if path[-1] == key[-1]]
    if elsewhere:
        return f"; did you mean {elsewhere[0]}?"
    return _near_names(key[-1], names)


def _what_it_is(key: KeyPath) -> str:
    info = (fields_at(key[:-1]) or {}).get(key[-1])
    if info is None or not info.description:
        return ""
    return f": {' '.join(info.description.split())}"


def fields_at(key: KeyPath) -> Mapping[str, FieldInfo] | None:
    """Return the fields of the section at a path of keys; None if the path leaves the sections.

    At student.engine they are the fields of every engine.
    """
    if key[:1] == ("rejection",) and len(key) == 4:
        return RULES.get(key[3]).model_fields
    fields: Mapping[str, FieldInfo] = Config.model_fields
    for part in key:
        inner = _section_of(fields[part].annotation) if part in fields else None
        if inner is None:
            return None
        fields = _fields_of(inner)
    return fields


def _fields_of(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    if model is not EngineSettings:
        return model.model_fields
    return {name: info for _, engine in ENGINES.items() for name, info in engine.model_fields.items()}


def leaves(model: type[BaseModel], at: KeyPath = ()) -> Iterable[KeyPath]:
    """Every key path of a model that holds a value and not a section."""
    for name, info in _fields_of(model).items():
        inner = _section_of(info.annotation)
        if inner is not None:
            yield from leaves(inner, (*at, name))
        else:
            yield (*at, name)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _origins(config: Config, source: Source, overridden: set[KeyPath]) -> Iterable[tuple[KeyPath, str]]:
    for key in held(config):
        if any(key[: len(o)] == o[: len(key)] for o in overridden):
            yield key, "--set"
        elif _given(source.values, key):
            yield key, source.place(key)
        elif key == ("run", "name"):
            yield key, "the file's name"
        else:
            yield key, DEFAULT


def held(section: BaseModel, at: KeyPath = ()) -> Iterable[KeyPath]:
    """Every key path at which a section holds a value and not another section."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from held(value, (*at, name))
        else:
            yield (*at, name)


def _given(values: Any, key: KeyPath) -> bool:
    for part in key:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True
