"""Train one adapter in this process, and save and restore its state."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from core.engines.base import (
    ADAPTER,
    AdamParams,
    Checkpoint,
    Datum,
    EngineIdentity,
    LoraSpec,
    SamplerRef,
    SaveLabel,
    StateRef,
    StepResult,
)
from core.engines.local.adapter import load_tensors, read_adapter, write_adapter
from core.engines.local.attention import PrefixMemory
from core.engines.local.backbone import Backbone, packs
from core.engines.local.loss import pack_terms, weighted_loss
from core.engines.losses import CROSS_ENTROPY, Loss
from core.engines.sampling import derived_seed
from core.errors import ModelError, StageError
from core.files import replace_bytes, sync

OPTIMIZER = "optimizer.safetensors"
RANDOM = "random.safetensors"
STATE = "state.json"


class LocalSession:
    """Implements core.engines.base.Session. `submit` computes the step before it returns."""

    def __init__(
        self,
        backbone: Backbone,
        lora: LoraSpec,
        identity: EngineIdentity,
        fingerprint: dict[str, str],
        *,
        budget: int,
    ) -> None:
        self._backbone, self._lora, self._identity = backbone, lora, identity
        self._fingerprint, self._budget = fingerprint, budget
        self._tip: Checkpoint | None = None
        self._weights = {name: w for name, w in backbone.model.named_parameters() if w.requires_grad}
        # The settings are set in every step; fused updates all tensors in one call.
        self._optimizer = torch.optim.AdamW(list(self._weights.values()), lr=0.0, fused=True)

    @property
    def tip(self) -> Checkpoint | None:
        return self._tip

    def close(self) -> None:
        del self._backbone, self._weights, self._optimizer

    def submit(
        self, batch: Sequence[Datum], adam: AdamParams, *, step: int, loss: Loss = CROSS_ENTROPY
    ) -> Future[StepResult]:
        """Compute forward, backward and update, and return the finished step or its failure."""
        done: Future[StepResult] = Future()
        try:
            done.set_result(self._step(batch, adam, step, loss))
        except Exception as error:
            done.set_exception(error)
        return done

    def _step(self, batch: Sequence[Datum], adam: AdamParams, step: int, loss: Loss) -> StepResult:
        torch.manual_seed(derived_seed(self._lora.seed, step))
        self._optimizer.zero_grad(set_to_none=True)
        value = self._backward(batch, loss)
        grads = [weight.grad for weight in self._weights.values() if weight.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(grads))
        if not (math.isfinite(value) and math.isfinite(norm)):
            self._optimizer.zero_grad(set_to_none=True)
            raise StageError(
                f"training stopped at step {step}, before its update: loss {value}, gradient norm {norm}; "
                f"try a learning rate below {adam.learning_rate:g}"
            )
        if adam.grad_clip_norm > 0 and norm > adam.grad_clip_norm:
            for grad in grads:
                grad.mul_(adam.grad_clip_norm / norm)
        for group in self._optimizer.param_groups:
            group["lr"], group["betas"] = adam.learning_rate, (adam.beta1, adam.beta2)
            group["eps"], group["weight_decay"] = adam.eps, adam.weight_decay
        self._optimizer.step()
        self._tip = None
        return StepResult(loss=value, grad_norm=norm, tokens=sum(len(datum.tokens) for datum in batch))

    def _backward(self, batch: Sequence[Datum], loss: Loss) -> float:
        """Accumulate the gradient of the batch's loss; return the loss.

        Rows are cut after their last weighted token. The prefix that they share is computed once: each pack
        adds to the gradient of its keys and values, which is propagated at the end.
        """
        weighted = [datum for datum in batch if any(datum.weights)]
        places = [[i for i, weight in enumerate(datum.weights) if weight] for datum in weighted]
        rows = [datum.tokens[: at[-1] + 1] for datum, at in zip(weighted, places, strict=True)]
        common = self._backbone.common(rows, min((at[0] for at in places), default=0))
        with self._backbone.precision():
            prefix = self._backbone.prefix(rows[0][:common] if common else ())
        leaves = prefix.leaves()
        value = 0.0
        for pack in packs([len(row) - common for row in rows], self._budget, prefix=common):
            value += self._backward_pack([weighted[i] for i in pack], [rows[i] for i in pack], leaves, loss)
        prefix.backward(leaves)
        return value

    def _backward_pack(
        self, data: list[Datum], rows: list[tuple[int, ...]], prefix: PrefixMemory, loss: Loss
    ) -> float:
        start, device = prefix.length, self._backbone.device
        places, terms = pack_terms(data, [(start, len(row)) for row in rows], loss, device)
        with self._backbone.precision():
            features = self._backbone.features([row[start:] for row in rows], prefix=prefix)
            features = features.index_select(0, places)
            value = weighted_loss(self._backbone, features, terms)
        value.backward()
        return float(value.detach())

    def save_weights_for_sampler(
        self, folder: Path, *, step: int, label: SaveLabel | None = None
    ) -> SamplerRef:
        """Write only the adapter, into `folder`."""
        write_adapter(self._backbone.model, folder)
        return SamplerRef(str(folder))

    def save(self, folder: Path, *, step: int, label: SaveLabel | None = None) -> Checkpoint:
        """Write adapter, optimizer and random state into `folder`, without pickles, and state.json last.

        Every file is synced before state.json exists.
        """
        folder.mkdir(parents=True, exist_ok=True)
        digest = write_adapter(self._backbone.model, folder / ADAPTER)
        moments, updates = {}, 0
        for name, weight in self._weights.items():
            for part, value in self._optimizer.state.get(weight, {}).items():
                moments[f"{name}.{part}"] = value.detach().cpu().contiguous()
                updates = max(updates, int(value)) if part == "step" else updates
        save_file(moments, folder / OPTIMIZER)
        random = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random["cuda"] = torch.cuda.get_rng_state()
        save_file(random, folder / RANDOM)
        sync([*(folder / ADAPTER).iterdir(), folder / ADAPTER, folder / OPTIMIZER, folder / RANDOM])
        content = {
            "adapter_digest": digest,
            "step": step,
            "engine": asdict(self._identity),
            "lora": asdict(self._lora),
            "fingerprint": self._fingerprint,
            "updates": updates,
        }
        replace_bytes(folder / STATE, json.dumps(content, indent=1, sort_keys=True).encode())
        sync([folder])
        self._tip = self._checkpoint(folder, step, digest)
        return self._tip

    def restore(self, ref: StateRef, *, optimizer: bool = True) -> None:
        """Read weights, optimizer and random state of a saved state bit for bit.

        Without `optimizer` only the weights are read, which may come from another seed. Raises ModelError if
        the state is missing, damaged, or of another model or adapter.
        """
        folder = Path(ref.location)
        try:
            saved = json.loads((folder / STATE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(
                f"no training state in {folder}: {STATE} is missing; name a folder that a run saved"
            ) from None
        except ValueError as error:
            raise ModelError(
                f"{folder / STATE} cannot be read ({error}); restore the checkpoint or train again"
            ) from error
        lora = saved["lora"] if optimizer else {**saved["lora"], "seed": self._lora.seed}
        for what, there, wanted in (
            ("base model", saved["engine"]["base_digest"], self._identity.base_digest),
            ("LoRA settings", lora, asdict(self._lora)),
        ):
            if there != wanted:
                raise ModelError(
                    f"training state in {folder} is of another {what}: it has {there}, this run {wanted}"
                )
        digest = read_adapter(self._backbone.model, folder / ADAPTER)
        if digest != saved["adapter_digest"]:
            raise ModelError(
                f"adapter in {folder} is not what {STATE} recorded; restore the checkpoint or train again"
            )
        if not optimizer:
            return
        moments, random = load_tensors(folder / OPTIMIZER), load_tensors(folder / RANDOM)
        for name, weight in self._weights.items():
            parts = {part: f"{name}.{part}" for part in ("exp_avg", "exp_avg_sq", "step")}
            found = {p: moments[n].to(weight.device) for p, n in parts.items() if n in moments}
            if found:
                self._optimizer.state[weight] = found
        torch.set_rng_state(random["cpu"])
        if "cuda" in random and torch.cuda.is_available():
            torch.cuda.set_rng_state(random["cuda"])
        self._tip = self._checkpoint(folder, int(saved["step"]), digest)

    def _checkpoint(self, folder: Path, step: int, digest: str) -> Checkpoint:
        state, sampler = StateRef(str(folder)), SamplerRef(str(folder / ADAPTER))
        return Checkpoint(engine=self._identity, step=step, digest=digest, state=state, sampler=sampler)
