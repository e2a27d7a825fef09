"""The resolved config as YAML that can be run again, with the origin of each value."""

from __future__ import annotations

import json
from typing import Any

import yaml
from pydantic import BaseModel

from core.config.loading import DEFAULT, ResolvedConfig
from core.config.reading import KeyPath


def render(resolved: ResolvedConfig) -> str:
    """YAML text that loads to the same config. Each value is followed by `# <origin>`."""
    lines = ["# The resolved config of this run; the comment gives the origin of each value."]
    lines += _section(resolved.config, (), resolved)
    return "\n".join(lines) + "\n"


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


def written(value: Any) -> str:
    """One value as YAML on one line."""
    if isinstance(value, str):
        return yaml.safe_dump(value, allow_unicode=True, width=10**9).removesuffix("\n...\n").strip()
    return json.dumps(value, ensure_ascii=False, default=lambda model: model.model_dump(mode="json"))
