"""PEFT's layout of an adapter: a configuration, and the weights that it has to agree with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from core import jsonio
from core.errors import StageError

TARGETS = "target_modules"
_MODULE = re.compile(r"(?:.*\.)?(?P<module>[^.]+)\.lora_[AB]\..*")


def complete(config: Path, weights: Path) -> tuple[str, ...]:
    """Name the trained modules in an adapter's configuration, where its server left them out.

    Some (SkyRL 0.3) do; peft would then put the weights nowhere, and say nothing. The modules are those
    that the file has weights of. Gives the fields that were filled in. Raises StageError for files
    that are not in PEFT's layout.
    """
    settings = _object(config.read_bytes(), config.name)
    if settings.get(TARGETS):
        return ()
    found = {match["module"] for name in tensor_names(weights) if (match := _MODULE.fullmatch(name))}
    if not found:
        raise StageError(f"the server's {weights.name} has no LoRA weights: it is no adapter")
    jsonio.write_json(config, {**settings, TARGETS: sorted(found)})
    return (TARGETS,)


def tensor_names(path: Path) -> list[str]:
    """What a safetensors file holds, from its head: eight bytes of length, then JSON of that length."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head = file.read(min(length, path.stat().st_size))
    return [name for name in _object(head, path.name) if name != "__metadata__"]


def _object(text: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise StageError(f"the server's {name} cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise StageError(f"the server's {name} cannot be read (its head is no object)")
    return found
