"""The resolved config as YAML that can be run again, the origin of each value beside it."""

from __future__ import annotations

import json
from typing import Any

import yaml
from pydantic import BaseModel

from core.config.loading import ResolvedConfig
from core.config.reading import KeyPath


def render(resolved: ResolvedConfig) -> str:
    """YAML text; loading it gives the same config. Each leaf ends in `# <origin>`."""
    lines = ["# The resolved config of this run; the comment says where each value comes from."]
    _section(resolved.config, (), resolved, lines)
    return "\n".join(lines) + "\n"


def _section(section: BaseModel, at: KeyPath, resolved: ResolvedConfig, lines: list[str]) -> None:
    indent = "  " * len(at)
    for name in type(section).model_fields:
        value = getattr(section, name)
        key = (*at, name)
        if isinstance(value, BaseModel):
            inner: list[str] = []
            _section(value, key, resolved, inner)
            # A section of unset alternatives only has nothing to write, and its bare name would be null.
            lines += [f"{indent}{name}:", *inner] if inner else []
        elif _is_unset_alternative(value, resolved.origins[key]):
            continue
        else:
            lines.append(f"{indent}{name}: {written(value)}  # {resolved.origins[key]}")


def _is_unset_alternative(value: Any, origin: str) -> bool:
    """Alternatives such as steps/epochs contradict each other when both are written out."""
    return value is None and origin == "default"


def written(value: Any) -> str:
    """One value as YAML on one line."""
    if isinstance(value, str):
        return yaml.safe_dump(value, allow_unicode=True, width=10**9).removesuffix("\n...\n").strip()
    if isinstance(value, tuple | list):
        return json.dumps([_plain(v) for v in value], ensure_ascii=False)
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
