"""Whether an adapter that was taken home is the one on the server: it fits, and it scores alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.engines.base import LoraSpec, Sampler, SamplerRef
from core.engines.local import LocalEngine, ModelSource
from core.errors import ModelError, StageError


@dataclass(frozen=True, slots=True)
class Parity:
    """How far two samplers' scores of the same rows are apart."""

    rows: int
    """Rows that both scored exactly."""
    largest: float
    """Largest difference of a log-probability (nats)."""
    row: int
    """Where it is."""
    left_out: int
    """Rows that failed on either side, or of which only a bound is known."""


def parity(
    remote: Sampler, local: Sampler, prompts: Sequence[Sequence[int]], choices: Sequence[Sequence[int]]
) -> Parity:
    """Score rows with both and report the largest difference.

    Raises StageError where no row can be compared.
    """
    there, here = remote.score(prompts, choices), local.score(prompts, choices)
    unfit = {row for scores in (there, here) for row in (*scores.errors, *(row for row, _ in scores.bounds))}
    apart = {
        row: max(gap(a, b) for a, b in zip(there.logprobs[row], here.logprobs[row], strict=True))
        for row in range(len(prompts))
        if row not in unfit
    }
    if not apart:
        raise StageError(
            f"none of {len(prompts)} rows was scored exactly by both; there is nothing to compare"
        )
    row = max(apart, key=apart.__getitem__)
    return Parity(rows=len(apart), largest=apart[row], row=row, left_out=len(unfit))


def sampler_of(folder: Path, engine: LocalEngine) -> Sampler:
    """The local sampler over an adapter that was taken home."""
    return engine.sampler(SamplerRef(str(folder)))


def check_fits(folder: Path, source: ModelSource, lora: LoraSpec) -> int:
    """Load an adapter with peft over the base model; gives how many tensors were trained.

    Raises ModelError where a module that `lora` trains has no weights, or weights have no module.
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


def gap(a: float, b: float) -> float:
    """How far two log-probabilities (nats) are apart; infinitely, where one alone is impossible."""
    return 0.0 if a == b else math.inf if math.inf in (-a, -b) else abs(a - b)
