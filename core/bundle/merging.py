"""Merged weights: the base model with the adapter added into it, in Hugging Face's layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.engines.local.weights import ModelSource


def write_merged(
    source: ModelSource, adapter: Path | None, tokenizer: Path, folder: Path, dtype: str
) -> None:
    """Write config, safetensors in `dtype` (float32, bfloat16, float16) and tokenizer into `folder`.

    The sum is made in float32 and rounded once. Without an adapter the base model is written as it is.
    Raises ModelError.
    """
    import torch

    from core.engines.local.adapter import merge_adapter
    from core.engines.local.backbone import load_model

    model, _ = load_model(source.folder, source.spec)
    if adapter is not None:
        model = merge_adapter(model, adapter)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    for path in sorted(tokenizer.iterdir()):
        if not (folder / path.name).exists():
            shutil.copy(path, folder / path.name)
