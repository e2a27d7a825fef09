"""What every section of the config shares: frozen, no unknown keys, a sentence under each field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from core.registry import Registry

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
