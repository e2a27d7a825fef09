"""Configs as text: the resolved config as YAML with origins, and the differences between two configs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from core import locations
from core.config.base import NotInKey
from core.config.loading import DEFAULT, ResolvedConfig
from core.config.reading import KeyPath
from core.errors import UserError

_ABSENT = "nothing"


def render(resolved: ResolvedConfig) -> str:
    """YAML text that loads to the same config. Each value is followed by `# <origin>`."""
    lines = ["# The resolved config of this run; the comment gives the origin of each value."]
    lines += _section(resolved.config, (), resolved)
    return "\n".join(lines) + "\n"


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

    old, new = dict(_deciding(before, ())), dict(_deciding(after, ()))
    keys = [*new, *(key for key in old if key not in new)]
    pairs = ((key, old.get(key, _ABSENT), new.get(key, _ABSENT)) for key in keys)
    return [f"{key}: {shown(one)} -> {shown(other)}" for key, one, other in pairs if one != other]


def _section(section: BaseModel, at: KeyPath, resolved: ResolvedConfig) -> list[str]:
    indent, lines = "  " * len(at), list[str]()
    for name in type(section).model_fields:
        value, key = getattr(section, name), (*at, name)
        if isinstance(value, BaseModel):
            # The bare name of a section without values would be null.
            if inner := _section(value, key, resolved):
                lines += [f"{indent}{name}:", *inner]
        elif value is not None or resolved.origins[key] != DEFAULT:
            # Unset alternatives such as steps/epochs contradict each other if both are written.
            lines.append(f"{indent}{name}: {written(value)}  # {resolved.origins[key]}")
    return lines


def _deciding(section: BaseModel, at: KeyPath) -> Iterator[tuple[str, Any]]:
    """The fields that can affect results, by dotted key; locations normalized."""
    for name, info in type(section).model_fields.items():
        marks = [mark for mark in info.metadata if isinstance(mark, NotInKey)]
        if not all(mark.by_content for mark in marks):
            continue
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _deciding(value, (*at, name))
        elif value is not None:
            plain = to_jsonable_python(value)
            if marks and isinstance(plain, str):
                with suppress(UserError):
                    plain = locations.normalized(plain)
            yield ".".join((*at, name)), plain
