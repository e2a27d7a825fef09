"""What tells the configs of two runs apart: every field that decides something, by its dotted name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from core import locations
from core.config.base import NotInKey
from core.errors import UserError

_ABSENT = "nothing"


def differences(before: BaseModel, after: BaseModel) -> list[str]:
    """`key: before -> after` for each deciding field that differs; places, names and logging do not.

    Spellings of one location (`rules`, `./rules/`) do not differ.
    """
    old, new = dict(_deciding(before, ())), dict(_deciding(after, ()))
    keys = [*new, *(key for key in old if key not in new)]
    return [
        f"{key}: {_shown(old.get(key, _ABSENT))} -> {_shown(new.get(key, _ABSENT))}"
        for key in keys
        if old.get(key, _ABSENT) != new.get(key, _ABSENT)
    ]


def _deciding(section: BaseModel, at: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, info in type(section).model_fields.items():
        if any(isinstance(mark, NotInKey) and not mark.by_content for mark in info.metadata):
            continue
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _deciding(value, (*at, name))
        elif value is not None:
            by_content = any(isinstance(mark, NotInKey) for mark in info.metadata)
            yield ".".join((*at, name)), _spelled(value) if by_content else _plain(value)


def _spelled(value: Any) -> Any:
    try:
        return locations.normalized(value) if isinstance(value, str) else _plain(value)
    except UserError:
        return value


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
