"""A session's resumable state on disk: no pickles, every file synced before it counts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from core.engines.base import ADAPTER, Checkpoint, EngineIdentity, LoraSpec, SamplerRef, StateRef
from core.engines.local.adapter import load_tensors, read_adapter, write_adapter
from core.errors import ModelError
from core.files import replace_bytes, sync

OPTIMISER = "optimizer.safetensors"
RANDOM = "random.safetensors"
STATE = "state.json"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True, slots=True)
class Held:
    """What a session holds: the wrapped model, its trained weights by name, their optimiser."""

    model: Any
    names: list[str]
    weights: list[Tensor]
    optimiser: torch.optim.Optimizer


@dataclass(frozen=True, slots=True)
class Facts:
    """What is written down beside the tensors."""

    step: int
    engine: EngineIdentity
    lora: LoraSpec
    fingerprint: dict[str, str]


def write(folder: Path, held: Held, facts: Facts) -> Checkpoint:
    """Write everything into `folder`, state.json last, and return the checkpoint it makes."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = write_adapter(held.model, folder / ADAPTER)
    save_file(_moments(held), folder / OPTIMISER)
    save_file(_random(), folder / RANDOM)
    sync([*(folder / ADAPTER).iterdir(), folder / ADAPTER, folder / OPTIMISER, folder / RANDOM])
    content = {"adapter_digest": digest, **asdict(facts), "updates": _updates(held)}
    replace_bytes(folder / STATE, json.dumps(content, indent=1, sort_keys=True).encode())
    sync([folder])
    return _checkpoint(folder, facts.engine, facts.step, digest)


def read(folder: Path, held: Held, engine: EngineIdentity, lora: LoraSpec) -> Checkpoint:
    """Fill what `held` holds from `folder`. Raises ModelError where it belongs to something else."""
    facts = _facts(folder)
    _refuse_other(folder, facts, engine, lora)
    digest = read_adapter(held.model, folder / ADAPTER)
    if digest != facts["adapter_digest"]:
        raise _altered(folder)
    _put_moments(held, load_tensors(folder / OPTIMISER))
    _put_random(load_tensors(folder / RANDOM))
    return _checkpoint(folder, engine, int(facts["step"]), digest)


def read_weights(folder: Path, held: Held, engine: EngineIdentity, lora: LoraSpec) -> None:
    """Fill the weights alone, for another training that begins with them; as `read`, but for the seed."""
    facts = _facts(folder)
    _refuse_other(folder, {**facts, "lora": {**facts["lora"], "seed": lora.seed}}, engine, lora)
    if read_adapter(held.model, folder / ADAPTER) != facts["adapter_digest"]:
        raise _altered(folder)


def _altered(folder: Path) -> ModelError:
    return ModelError(
        f"adapter in {folder} is not what {STATE} recorded; restore the checkpoint or train again"
    )


def _checkpoint(folder: Path, engine: EngineIdentity, step: int, digest: str) -> Checkpoint:
    state, sampler = StateRef(str(folder)), SamplerRef(str(folder / ADAPTER))
    return Checkpoint(engine=engine, step=step, digest=digest, state=state, sampler=sampler)


def _facts(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / STATE).read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    except FileNotFoundError:
        raise ModelError(
            f"no training state in {folder}: {STATE} is missing; name a folder that a run saved"
        ) from None
    except ValueError as error:
        raise ModelError(
            f"{folder / STATE} cannot be read ({error}); restore the checkpoint or train again"
        ) from error


def _refuse_other(folder: Path, facts: dict[str, Any], engine: EngineIdentity, lora: LoraSpec) -> None:
    for what, found, wanted in (
        ("base model", facts["engine"]["base_digest"], engine.base_digest),
        ("LoRA settings", facts["lora"], asdict(lora)),
    ):
        if found != wanted:
            raise ModelError(
                f"training state in {folder} is of another {what}: it has {found}, this run {wanted}"
            )


def _moments(held: Held) -> dict[str, Tensor]:
    kept = {}
    for name, weight in zip(held.names, held.weights, strict=True):
        for part, value in held.optimiser.state.get(weight, {}).items():
            kept[f"{name}.{part}"] = value.detach().cpu().contiguous()
    return kept


def _updates(held: Held) -> int:
    """How many updates the optimiser has counted."""
    counts = [int(held.optimiser.state[w]["step"]) for w in held.weights if w in held.optimiser.state]
    return max(counts, default=0)


def _put_moments(held: Held, kept: dict[str, Tensor]) -> None:
    for name, weight in zip(held.names, held.weights, strict=True):
        found = {part: kept[f"{name}.{part}"] for part in _MOMENTS if f"{name}.{part}" in kept}
        if found:
            held.optimiser.state[weight] = {part: value.to(weight.device) for part, value in found.items()}


def _random() -> dict[str, Tensor]:
    kept = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        kept["cuda"] = torch.cuda.get_rng_state()
    return kept


def _put_random(kept: dict[str, Tensor]) -> None:
    torch.set_rng_state(kept["cpu"])
    if "cuda" in kept and torch.cuda.is_available():
        torch.cuda.set_rng_state(kept["cuda"])
