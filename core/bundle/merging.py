"""Merged weights: the base model with the adapter added into it, in Hugging Face's layout.

Programs that generate with them stop where the student was trained to: its end of turn is written into each
file that they read it from.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import jsonio
from core.base_model import ModelSource
from core.engines.peft import merge

_TEXT_MODEL = "text_config"
"""The key under which models of text and images configure the text model."""


def write_merged(
    source: ModelSource, adapter: Path | None, tokenizer: Path, folder: Path, dtype: str, *, end_of_turn: int
) -> None:
    """Write config, safetensors in `dtype` (float32, bfloat16, float16) and tokenizer into `folder`.

    The sum is made in float32 and rounded once. Without an adapter the base model is written as it is.
    `end_of_turn` is the token that ends the student's answers. Raises ModelError.
    """
    from transformers import AutoTokenizer

    merge(source, adapter, folder, dtype)
    for path in sorted(tokenizer.iterdir()):
        if not (folder / path.name).exists():
            shutil.copy(path, folder / path.name)
    for name in ("config.json", "generation_config.json"):
        _change(folder / name, {"eos_token_id": end_of_turn})
    inner = AutoTokenizer.from_pretrained(str(folder))  # nosec B615  # a local folder
    # A template that writes the end of text itself would give other prompts.
    if inner.eos_token_id != end_of_turn and "eos_token" not in inner.get_chat_template():
        text = inner.convert_ids_to_tokens(end_of_turn)
        _change(folder / "tokenizer_config.json", {"eos_token": text})
        if (folder / "special_tokens_map.json").is_file():
            _change(folder / "special_tokens_map.json", {"eos_token": text})


def _change(path: Path, values: Mapping[str, Any]) -> None:
    """Set values in a configuration file, and those that its nested text model has too."""
    found: dict[str, Any] = jsonio.read_json(path) if path.is_file() else {}
    nested = found.get(_TEXT_MODEL)
    if isinstance(nested, dict):
        nested.update({name: value for name, value in values.items() if name in nested})
    path.unlink(missing_ok=True)  # a copied file may be read-only
    jsonio.write_json(path, {**found, **values})
