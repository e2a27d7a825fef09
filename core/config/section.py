"""What every section of the config shares: a frozen base class without unknown keys, marks of fields, and
functions of any section: its cache key, its values by key path, and how two of them differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from core import locations
from core.errors import UserError
from core.registry import Registry

KeyPath = tuple[str, ...]
_ABSENT = "nothing"
_Settings = TypeVar("_Settings", bound=BaseModel)


class ConfigSection(BaseModel):
    """A frozen section. The sentence under a field is its description, in errors and in docs."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        strict=False,
        allow_inf_nan=False,
        validate_default=True,
        # Prefect's form shows a field under its key, even if pydantic has no title for the section.
        field_title_generator=lambda name, _: name,
    )

    def key_extras(self) -> dict[str, Any]:
        """What belongs into a cache key besides the fields, for instance the version of other code."""
        return {}


@dataclass(frozen=True)
class NotInKey:
    """Marks a field that does not affect a stage's output, with the reason.

    Keys are opt-out: a field without this mark changes the key of its stage, so forgetting the mark costs a
    re-run and never a stale result.
    """

    reason: str
    by_content: bool = False
    """Whether the named content is in the key instead; the field then still identifies a run."""


@dataclass(frozen=True)
class Location:
    """Marks a field that names a location, which is checked when a config file is loaded.

    `schemes` are the URL schemes that it takes besides local paths, None for any; `kind` names what it takes.
    """

    schemes: tuple[str, ...] | None = None
    kind: str = "a path or a URL"


CONTENT = NotInKey("a path: the digest of what it holds is in the key instead", by_content=True)
"""Marks a location whose content is in the key; it takes any URL unless a Location restricts it."""
ANYWHERE = Location()
LOCAL = Location((), "a local path")
MODEL = Location(("package",), "a folder, a .gguf file, a hub id or package://")


def register_settings(
    registry: Registry[Any], field: str, name: str
) -> Callable[[type[_Settings]], type[_Settings]]:
    """Return a decorator that registers a class of settings whose `field` is `name`."""

    def register(settings: type[_Settings]) -> type[_Settings]:
        settings.model_fields[field].default = name
        settings.model_fields[field].annotation = Literal[name]  # type: ignore[assignment]
        settings.model_config["title"] = name
        settings.model_rebuild(force=True)
        registry.register(name, settings)
        return settings

    return register


def location_of(info: FieldInfo) -> Location | None:
    """What a field that names a location takes; None for any other field."""
    marked = next((mark for mark in info.metadata if isinstance(mark, Location)), None)
    return marked or (ANYWHERE if CONTENT in info.metadata else None)


def key_fields(section: BaseModel) -> dict[str, Any]:
    """The fields of `section` that belong into a cache key, nested sections included."""
    out = {
        name: _plain(getattr(section, name))
        for name, info in type(section).model_fields.items()
        if not any(isinstance(mark, NotInKey) for mark in info.metadata)
    }
    return {**out, **section.key_extras()} if isinstance(section, ConfigSection) else out


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return key_fields(value)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in sorted(value.items(), key=lambda kv: str(kv[0]))}
    return value


def walk(
    section: BaseModel, at: KeyPath = (), included: Callable[[FieldInfo], bool] = lambda info: True
) -> Iterator[tuple[KeyPath, FieldInfo, Any]]:
    """Every key path of a section object that has a value and not a section, with the field and the value.

    Fields and whole sections that are not `included` are left out.
    """
    for name, info in type(section).model_fields.items():
        if not included(info):
            continue
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from walk(value, (*at, name), included)
        else:
            yield (*at, name), info, value


def written(value: Any) -> str:
    """One value as YAML on one line."""
    if isinstance(value, str):
        return yaml.safe_dump(value, allow_unicode=True, width=10**9).removesuffix("\n...\n").strip()
    return json.dumps(value, ensure_ascii=False, default=lambda model: model.model_dump(mode="json"))


def differences(before: BaseModel, after: BaseModel) -> list[str]:
    """`key: before -> after` for each field that differs, except places, names and logging.

    Spellings of one location (`rules`, `./rules/`) do not differ.
    """

    def shown(value: Any) -> str:
        text = value if isinstance(value, str) else repr(value)
        return text if len(text) <= 80 else f"{text[:77]}..."

    old, new = _deciding(before), _deciding(after)
    keys = [*new, *(key for key in old if key not in new)]
    pairs = ((key, old.get(key, _ABSENT), new.get(key, _ABSENT)) for key in keys)
    return [f"{key}: {shown(one)} -> {shown(other)}" for key, one, other in pairs if one != other]


def _deciding(section: BaseModel) -> dict[str, Any]:
    """The fields that can affect results, by dotted key; locations normalized."""

    def marks(info: FieldInfo) -> list[NotInKey]:
        return [mark for mark in info.metadata if isinstance(mark, NotInKey)]

    found = {}
    for key, info, value in walk(section, (), lambda info: all(mark.by_content for mark in marks(info))):
        if value is not None:
            plain = to_jsonable_python(value)
            if marks(info) and isinstance(plain, str):
                with suppress(UserError):
                    plain = locations.normalized(plain)
            found[".".join(key)] = plain
    return found
