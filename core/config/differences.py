"""The differences between the configs of two runs that can affect results, by dotted key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from core import locations
from core.config.base import NotInKey
from core.errors import UserError

_ABSENT = "nothing"


def differences(before: BaseModel, after: BaseModel) -> list[str]:
    """`key: before -> after` for each field that differs, except places, names and logging.

    Spellings of one location (`rules`, `./rules/`) do not differ.
    """

    def shown(value: Any) -> str:
        text = value if isinstance(value, str) else repr(value)
        return text if len(text) <= 80 else f"{text[:77]}..."

    old, new = dict(_deciding(before, ())), dict(_deciding(after, ()))
    keys = [*new, *(key for key in old if key not in new)]
    pairs = ((key, old.get(key, _ABSENT), new.get(key, _ABSENT)) for key in keys)
    return [f"{key}: {shown(one)} -> {shown(other)}" for key, one, other in pairs if one != other]


def _deciding(section: BaseModel, at: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, info in type(section).model_fields.items():
        marks = [mark for mark in info.metadata if isinstance(mark, NotInKey)]
        if not all(mark.by_content for mark in marks):
            continue
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _deciding(value, (*at, name))
        elif value is not None:
            yield ".".join((*at, name)), _normalized(value) if marks else _plain(value)


def _normalized(value: Any) -> Any:
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
