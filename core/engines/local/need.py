"""Say what to install where a part of the local engine is missing."""

from __future__ import annotations

import importlib.util

from core.errors import ModelError


def need_torch() -> None:
    """Raise ModelError naming the extra to install if torch, peft, gguf or safetensors is missing."""
    missing = [
        name for name in ("torch", "peft", "gguf", "safetensors") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ModelError(
            f"the local engine needs {', '.join(missing)}, not installed here: "
            f"run `pip install 'understudy-distill[local]'`"
        )
