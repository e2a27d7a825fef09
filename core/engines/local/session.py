"""A training session: one base model with one adapter and its optimiser, in this process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from core.engines.base import (
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
from core.engines.local import state
from core.engines.local.adapter import write_adapter
from core.engines.local.attention import PrefixMemory
from core.engines.local.backbone import Backbone
from core.engines.local.loss import weighted_loss
from core.engines.local.packing import packs, shared_prefix
from core.engines.local.terms import pack_terms
from core.engines.losses import CROSS_ENTROPY, Loss
from core.engines.seeds import derived_seed
from core.errors import StageError


@dataclass(frozen=True, slots=True)
class Done:
    """A step that is finished: `result` returns what it gave or raises what it raised."""

    value: StepResult | None
    error: BaseException | None = None

    def result(self) -> StepResult:
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value


class LocalSession:
    """Implements core.engines.base.Session; one thread at a time, work done inside `submit`."""

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
        trained = [
            (name, weight) for name, weight in backbone.model.named_parameters() if weight.requires_grad
        ]
        self._names = [name for name, _ in trained]
        self._weights = [weight for _, weight in trained]
        # lr and the rest are set anew with every step; fused updates all tensors in one call.
        self._optimiser = torch.optim.AdamW(self._weights, lr=0.0, fused=True)

    @property
    def tip(self) -> Checkpoint | None:
        return self._tip

    def submit(
        self, batch: Sequence[Datum], adam: AdamParams, *, step: int, loss: Loss = CROSS_ENTROPY
    ) -> Done:
        """Forward, backward and update, finished on return; failures come out of `result`."""
        try:
            return Done(self._step(batch, adam, step, loss))
        except Exception as error:
            return Done(None, error)

    def save(self, folder: Path, *, step: int, label: SaveLabel | None = None) -> Checkpoint:
        """Write adapter/, optimizer.safetensors, random.safetensors and state.json into `folder`."""
        self._tip = state.write(
            folder,
            state.Held(self._backbone.model, self._names, self._weights, self._optimiser),
            state.Facts(step, self._identity, self._lora, self._fingerprint),
        )
        return self._tip

    def save_weights_for_sampler(
        self, folder: Path, *, step: int, label: SaveLabel | None = None
    ) -> SamplerRef:
        """Write only the adapter into `folder`."""
        write_adapter(self._backbone.model, folder)
        return SamplerRef(str(folder))

    def restore(self, ref: StateRef, *, optimizer: bool = True) -> None:
        """Read weights, optimizer and random state of a saved state bit for bit, or only its weights."""
        folder = Path(ref.location)
        held = state.Held(self._backbone.model, self._names, self._weights, self._optimiser)
        if optimizer:
            self._tip = state.read(folder, held, self._identity, self._lora)
        else:
            state.read_weights(folder, held, self._identity, self._lora)

    def close(self) -> None:
        del self._backbone, self._weights, self._optimiser

    def _step(self, batch: Sequence[Datum], adam: AdamParams, step: int, loss: Loss) -> StepResult:
        torch.manual_seed(derived_seed(self._lora.seed, step))
        self._optimiser.zero_grad(set_to_none=True)
        value = self._backward(batch, loss)
        norm = float(torch.nn.utils.get_total_norm([w.grad for w in self._weights if w.grad is not None]))
        self._refuse_non_finite(value, norm, adam, step)
        self._update(adam, norm)
        self._tip = None
        return StepResult(loss=value, grad_norm=norm, tokens=sum(len(datum.tokens) for datum in batch))

    def _backward(self, batch: Sequence[Datum], loss: Loss) -> float:
        """Add up the gradient of the batch's loss in the weights; returns the loss."""
        borne = [datum for datum in batch if any(datum.weights)]
        rows = [datum.tokens[: _last_borne(datum) + 1] for datum in borne]
        common = self._prefix_length(borne, rows)
        with self._backbone.precision():
            prefix = self._backbone.prefix(rows[0][:common] if common else ())
        leaves = prefix.leaves()
        value = 0.0
        for pack in packs([len(row) - common for row in rows], self._budget, prefix=common):
            value += self._backward_pack([borne[i] for i in pack], [rows[i] for i in pack], leaves, loss)
        _backward_prefix(prefix, leaves)
        return value

    def _prefix_length(self, data: Sequence[Datum], rows: Sequence[Sequence[int]]) -> int:
        if not data or not self._backbone.shortcuts.packed:
            return 0
        return shared_prefix(rows, min(_first_borne(datum) for datum in data))

    def _backward_pack(
        self, data: list[Datum], rows: list[tuple[int, ...]], prefix: PrefixMemory, loss: Loss
    ) -> float:
        start = prefix.length
        places, terms = pack_terms(data, [(start, len(row)) for row in rows], loss)
        device = self._backbone.device
        with self._backbone.precision():
            features = self._backbone.features([row[start:] for row in rows], prefix=prefix)
            features = features.index_select(0, places.to(device))
            value = weighted_loss(self._backbone, features, terms.to(device))
        value.backward()
        return float(value.detach())

    def _refuse_non_finite(self, loss: float, norm: float, adam: AdamParams, step: int) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        self._optimiser.zero_grad(set_to_none=True)
        raise StageError(
            f"training stopped at step {step}, before its update: loss {loss}, gradient norm {norm}; "
            f"try a learning rate below {adam.learning_rate:g}"
        )

    def _update(self, adam: AdamParams, norm: float) -> None:
        if adam.grad_clip_norm > 0 and norm > adam.grad_clip_norm:
            for weight in self._weights:
                if weight.grad is not None:
                    weight.grad.mul_(adam.grad_clip_norm / norm)
        for group in self._optimiser.param_groups:
            group["lr"], group["betas"] = adam.learning_rate, (adam.beta1, adam.beta2)
            group["eps"], group["weight_decay"] = adam.eps, adam.weight_decay
        self._optimiser.step()


def _first_borne(datum: Datum) -> int:
    return next(i for i, weight in enumerate(datum.weights) if weight)


def _last_borne(datum: Datum) -> int:
    return max(i for i, weight in enumerate(datum.weights) if weight)


def _backward_prefix(prefix: PrefixMemory, leaves: PrefixMemory) -> None:
    """Send the gradient that all packs left at the prefix's keys and values on into the weights."""
    roots: list[Tensor] = []
    grads: list[Tensor] = []
    for layer, pair in prefix.layers.items():
        for root, leaf in zip(pair, leaves.layers[layer], strict=True):
            if leaf.grad is not None and root.requires_grad:
                roots.append(root)
                grads.append(leaf.grad)
    if roots:
        torch.autograd.backward(roots, grads)
