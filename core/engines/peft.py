"""PEFT adapters on this machine, whichever engine trained them: open, merge, check and compare.

A bundle holds an adapter in PEFT's layout. It is opened by the local engine over the base model's weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.base_model import ModelSource
from core.engines.base import Device, LoraSpec, SamplerRef
from core.engines.sampling import Rows, Sampler, difference
from core.errors import ModelError, StageError


def open_peft(source: ModelSource, adapter: Path | None, device: Device) -> Sampler:
    """Open a sampler in float32 over a base model with the adapter in a folder; None for the base model."""
    from core.engines.local import LocalEngine

    engine = LocalEngine(source, device=device.name, train_dtype="float32", threads=device.threads)
    return engine.sampler(None if adapter is None else SamplerRef(str(adapter)))


def merge(source: ModelSource, adapter: Path | None, folder: Path, dtype: str) -> None:
    """Write the base model with the adapter added to its weights, in `dtype` (a torch dtype's name).

    The sum is computed in float32 and rounded once. Raises ModelError.
    """
    import torch

    from core.engines.local.adapter import wrap_adapter
    from core.engines.local.backbone import load_model

    model, _ = load_model(source.folder, source.spec)
    if adapter is not None:
        model = wrap_adapter(model, adapter).merge_and_unload()
    model.to(getattr(torch, dtype)).save_pretrained(folder)


@dataclass(frozen=True, slots=True)
class Parity:
    """The difference between two samplers' scores of the same rows."""

    rows: int
    """Rows that both scored exactly."""
    largest: float
    """Largest difference of a log-probability (nats)."""
    row: int
    """The row that has it."""
    left_out: int
    """Rows that failed on either side, or have only a bound."""


def parity(remote: Sampler, local: Sampler, prompts: Rows, choices: Rows) -> Parity:
    """Score rows with both and report the largest difference. Raises StageError if none can be compared."""
    there, here = remote.score(prompts, choices), local.score(prompts, choices)
    unfit = {row for scores in (there, here) for row in (*scores.errors, *(row for row, _ in scores.bounds))}
    apart = {
        row: max(difference(a, b) for a, b in zip(there.logprobs[row], here.logprobs[row], strict=True))
        for row in range(len(prompts))
        if row not in unfit
    }
    if not apart:
        raise StageError(
            f"none of {len(prompts)} rows was scored exactly by both; there is nothing to compare"
        )
    row = max(apart, key=apart.__getitem__)
    return Parity(rows=len(apart), largest=apart[row], row=row, left_out=len(unfit))


def check_fits(folder: Path, source: ModelSource, lora: LoraSpec) -> int:
    """Load an adapter with peft over the base model; return the number of trained tensors.

    Raises ModelError if a module that `lora` trains has no weights, or weights have no module.
    """
    from peft import PeftModel, get_peft_model_state_dict

    from core.engines.local.adapter import WEIGHTS, load_tensors, quiet, target_modules
    from core.engines.local.backbone import load_model

    model, _ = load_model(source.folder, source.spec)
    meant = {f"{name}.lora_{part}" for name in target_modules(model, lora) for part in "AB"}
    found = {_module(name) for name in load_tensors(folder / WEIGHTS)}
    _refuse_apart(folder, "the modules that were trained", meant, found)
    with quiet():
        wrapped = PeftModel.from_pretrained(model, folder, is_trainable=False)
    loaded = {_module(name) for name in get_peft_model_state_dict(wrapped, save_embedding_layers=False)}
    _refuse_apart(folder, "what peft loads by its configuration", loaded, found)
    return len(found)


def _module(name: str) -> str:
    """`model.layers.0.mlp.up_proj.lora_A` for a tensor's name in PEFT's layout."""
    return name.removeprefix("base_model.model.").removesuffix(".weight").removesuffix(".default")


def _refuse_apart(folder: Path, what: str, meant: set[str], found: set[str]) -> None:
    missing, unexpected = sorted(meant - found), sorted(found - meant)
    if missing or unexpected:
        raise ModelError(
            f"the adapter in {folder} does not match {what}: missing {missing[:3] or 'none'}, unexpected "
            f"{unexpected[:3] or 'none'} ({len(missing)} and {len(unexpected)}); it cannot be used as it is"
        )
