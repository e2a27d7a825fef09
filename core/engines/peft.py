"""PEFT adapters on this machine, whichever engine trained them: open, merge and check."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import jsonio
from core.base_model import ModelSource
from core.engines.base import Device, LoraSpec, SamplerRef
from core.engines.sampling import Sampler
from core.errors import ModelError


def open_peft(source: ModelSource, adapter: Path | None, device: Device) -> Sampler:
    """Open a sampler in float32 over a base model with the adapter in a folder; None for the base model."""
    from core.engines.local import LocalEngine

    engine = LocalEngine(source, device=device.name, train_dtype="float32", threads=device.threads)
    return engine.sampler(None if adapter is None else SamplerRef(str(adapter)))


def write_merged(
    source: ModelSource, adapter: Path | None, tokenizer: Path, folder: Path, dtype: str, *, end_of_turn: int
) -> None:
    """Write config, safetensors in `dtype` (float32, bfloat16, float16) and tokenizer into `folder`.

    Without an adapter the base model is written as it is. The token `end_of_turn` is written into each file
    from which programs read where to stop. Raises ModelError.
    """
    import torch
    from transformers import AutoTokenizer

    from core.engines.local.adapter import wrap_adapter
    from core.engines.local.backbone import load_model

    model, _ = load_model(source.folder, source.spec)
    if adapter is not None:  # the sum is computed in float32 and rounded once
        model = wrap_adapter(model, adapter).merge_and_unload()
    model.to(getattr(torch, dtype)).save_pretrained(folder)
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


def check_fits(folder: Path, source: ModelSource, lora: LoraSpec) -> int:
    """Load an adapter with peft over the base model; return the number of trained tensors.

    Raises ModelError if a module that `lora` trains has no weights, or weights have no module.
    """
    from peft import get_peft_model_state_dict

    from core.engines.local.adapter import WEIGHTS, load_tensors, target_modules, wrap_adapter
    from core.engines.local.backbone import load_model

    model, _ = load_model(source.folder, source.spec)
    trained = {f"{name}.lora_{part}" for name in target_modules(model, lora) for part in "AB"}
    found = {_module(name) for name in load_tensors(folder / WEIGHTS)}
    state = get_peft_model_state_dict(wrap_adapter(model, folder), save_embedding_layers=False)
    loaded = {_module(name) for name in state}
    known = {"the modules that were trained": trained, "what peft loads by its configuration": loaded}
    for what, names in known.items():
        missing, unexpected = sorted(names - found), sorted(found - names)
        if missing or unexpected:
            raise ModelError(
                f"the adapter in {folder} does not match {what}: missing {missing[:3] or 'none'}, "
                f"unexpected {unexpected[:3] or 'none'} ({len(missing)} and {len(unexpected)}); it cannot be "
                "used as it is"
            )
    return len(found)


def _module(name: str) -> str:
    """`model.layers.0.mlp.up_proj.lora_A` for a tensor's name in PEFT's layout."""
    return name.removeprefix("base_model.model.").removesuffix(".weight").removesuffix(".default")


def _change(path: Path, values: Mapping[str, Any]) -> None:
    """Set values in a configuration file, and those that its nested text model has too."""
    found: dict[str, Any] = jsonio.read_json(path) if path.is_file() else {}
    nested = found.get("text_config")  # of models of text and images
    if isinstance(nested, dict):
        nested.update({name: value for name, value in values.items() if name in nested})
    path.unlink(missing_ok=True)  # a copied file may be read-only
    jsonio.write_json(path, {**found, **values})
