"""LoRA adapters: which layers, their start, and how they are written and read."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.engines.base import LoraSpec
from core.errors import ModelError

# What peft calls an adapter that nobody named.
ADAPTER_NAME = "default"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def target_modules(model: Any, lora: LoraSpec) -> list[str]:
    """Full names of the linear layers that `lora` trains, as this architecture names them.

    Linear layers inside a numbered decoder layer count; those under a module whose name contains
    "attn" or "attention" are attention, the others the mlp. Raises ModelError if none is left.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    inside = [name for name in names if any(part.isdigit() for part in name.split("."))]
    chosen = [name for name in inside if (lora.train_attention if _is_attention(name) else lora.train_mlp)]
    if lora.train_unembed:
        chosen += _unembedding(model)
    if not chosen:
        raise ModelError(
            f"no layer to adapt: {type(model).__name__} has {len(inside)} linear layers in its decoder and "
            f"the config asks for attention={lora.train_attention}, mlp={lora.train_mlp}; switch one on or "
            f"take another model"
        )
    return chosen


def _is_attention(name: str) -> bool:
    return any("attn" in part or "attention" in part for part in name.lower().split("."))


def _unembedding(model: Any) -> list[str]:
    head = model.get_output_embeddings()
    if head.weight is model.get_input_embeddings().weight:
        raise ModelError(
            "student.lora.unembed is on, but this base model uses one matrix for embedding and unembedding; "
            "set student.lora.unembed to false"
        )
    return [name for name, module in model.named_modules() if module is head]


def add_adapter(model: Any, lora: LoraSpec, spec: str) -> Any:
    """Wrap a base model (on the CPU, so that the start is the same everywhere) with a new adapter.

    The start depends on `lora.seed` alone. `spec` is the base model's name, for whoever loads the
    adapter later.
    """
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_shortest(model, target_modules(model, lora)),
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(lora.seed)
        wrapped = get_peft_model(model, config)
    wrapped.peft_config[ADAPTER_NAME].base_model_name_or_path = spec
    return _only_adapter_drops(wrapped)


@contextmanager
def quiet() -> Iterator[None]:
    """Wrap a model without peft's warning about transformers."""
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for an attribute by its old name.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def _only_adapter_drops(wrapped: Any) -> Any:
    """Switch off whatever dropout the base model has: it is frozen, and packing has none in attention."""
    wrapped.eval()
    for name, module in wrapped.named_modules():
        if "lora_dropout" in name:
            module.train()
    return wrapped


def _shortest(model: Any, names: list[str]) -> list[str]:
    """Last parts of the names if they mean exactly these modules, which other tools understand."""
    short = {name.rsplit(".", 1)[-1] for name in names}
    meant = [name for name, _ in model.named_modules() if name.rsplit(".", 1)[-1] in short]
    return sorted(short) if set(meant) == set(names) else names


def write_adapter(wrapped: Any, folder: Path) -> str:
    """Write PEFT's two files into `folder`; returns the adapter's digest."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in get_peft_model_state_dict(wrapped, save_embedding_layers=False).items()
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    wrapped.peft_config[ADAPTER_NAME].save_pretrained(folder)
    _settle(folder / CONFIG)
    return adapter_digest(tensors)


def _settle(path: Path) -> None:
    """Sort the list that PEFT writes from a set: its order differs from process to process, and
    with it the digest of an otherwise equal checkpoint."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def adapter_digest(tensors: dict[str, Tensor]) -> str:
    """sha256 (hex) over the tensors' bytes, in the order of their names."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(tensors[name].numpy().tobytes())
    return whole.hexdigest()


def read_adapter(wrapped: Any, folder: Path) -> str:
    """Put saved weights into a wrapped model; returns their digest. Raises ModelError."""
    tensors = load_tensors(folder / WEIGHTS)
    found = set_peft_model_state_dict(wrapped, tensors)
    own = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
    if found.unexpected_keys or own != set(tensors):
        odd = sorted(own ^ set(tensors))[:3]
        raise ModelError(
            f"adapter in {folder} does not fit this model and LoRA settings (first differences: {odd})"
        )
    return adapter_digest(tensors)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU. Raises ModelError naming the file."""
    try:
        found: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise ModelError(
            f"checkpoint file {path} is missing; the checkpoint was moved or never finished"
        ) from None
    except Exception as error:
        raise ModelError(
            f"checkpoint file {path} cannot be read ({error}); restore it or train again"
        ) from error
    return found


def merge_adapter(model: Any, folder: Path) -> Any:
    """Add a saved adapter into a base model's own weights. Raises ModelError."""
    return wrap_adapter(model, folder).merge_and_unload()


def wrap_adapter(model: Any, folder: Path) -> Any:
    """A saved adapter beside a base model's weights, not to be trained. Raises ModelError."""
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"no adapter in {folder}: {WEIGHTS} is missing; name a checkpoint that a run saved")
    with quiet():
        return PeftModel.from_pretrained(model, folder, is_trainable=False)
