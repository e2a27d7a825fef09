"""Train one adapter in this process, and save and restore its state.

Losses are computed at the positions that have a weight, without keeping their logits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from core.durable import replace_bytes, sync
from core.engines import (
    CROSS_ENTROPY,
    AdamParams,
    Checkpoint,
    Datum,
    EngineIdentity,
    LoraSpec,
    Loss,
    SamplerRef,
    SaveLabel,
    StateRef,
    StepResult,
    derived_seed,
)
from core.engines.interface import ADAPTER
from core.engines.local.attention import packs
from core.engines.local.model import Backbone, load_tensors, read_adapter, write_adapter
from core.errors import DataError, ModelError, StageError

OPTIMIZER = "optimizer.safetensors"
RANDOM = "random.safetensors"
STATE = "state.json"
# Positions whose logits are held at once: 256 of them over 49,152 words are 50 MB.
_CHUNK = 256


class LocalSession:
    """Implements core.engines.Session."""

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
        self.tip: Checkpoint | None = None
        self._weights = {name: w for name, w in backbone.model.named_parameters() if w.requires_grad}
        # The settings are set in every step; fused updates all tensors in one call.
        self._optimizer = torch.optim.AdamW(list(self._weights.values()), lr=0.0, fused=True)

    def close(self) -> None:
        del self._backbone, self._weights, self._optimizer

    def submit(
        self, batch: Sequence[Datum], adam: AdamParams, *, step: int, loss: Loss = CROSS_ENTROPY
    ) -> Future[StepResult]:
        """Compute the step before returning; `result` raises its failure."""
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
        self.tip = None
        return StepResult(loss=value, grad_norm=norm, tokens=sum(len(datum.tokens) for datum in batch))

    def _backward(self, batch: Sequence[Datum], loss: Loss) -> float:
        """Accumulate the gradient of the batch's loss; return the loss.

        Rows are cut after their last weighted token. Each pack adds to the gradient of the shared prefix's
        keys and values, which is propagated at the end.
        """
        backbone, total = self._backbone, 0.0
        weighted = [datum for datum in batch if any(datum.weights)]
        places = [[i for i, weight in enumerate(datum.weights) if weight] for datum in weighted]
        rows = [datum.tokens[: at[-1] + 1] for datum, at in zip(weighted, places, strict=True)]
        with backbone.precision():
            prefix = backbone.shared_prefix(rows, min((at[0] for at in places), default=0))
        leaves, common = prefix.leaves(), prefix.length
        for pack in packs([len(row) - common for row in rows], self._budget, prefix=common):
            parts = [slice(common, len(rows[i])) for i in pack]
            terms = LossTerms.of([weighted[i] for i in pack], parts, loss, backbone.device)
            with backbone.precision():
                features = backbone.features([rows[i][common:] for i in pack], prefix=leaves)
                features = features.index_select(0, terms.places)
                value = terms.total(backbone, features)
            value.backward()
            total += float(value.detach())
            del features, value  # before the next pack needs memory
        prefix.backward(leaves)
        return total

    def save_weights_for_sampler(
        self, folder: Path, *, step: int, label: SaveLabel | None = None
    ) -> SamplerRef:
        write_adapter(self._backbone.model, folder)
        return SamplerRef(str(folder))

    def save(self, folder: Path, *, step: int, label: SaveLabel | None = None) -> Checkpoint:
        """Write adapter, optimizer and random state; every file is synced before state.json exists."""
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
        return self._at(folder, step, digest)

    def restore(self, ref: StateRef, *, optimizer: bool = True) -> None:
        """Read weights, optimizer and random state bit for bit; without `optimizer` only the weights.

        Raises ModelError if the state is missing, damaged, or of another model or adapter.
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
        self._at(folder, int(saved["step"]), digest)

    def _at(self, folder: Path, step: int, digest: str) -> Checkpoint:
        """Record that the session holds the weights of a checkpoint."""
        state, sampler = StateRef(str(folder)), SamplerRef(str(folder / ADAPTER))
        self.tip = Checkpoint(self._identity, step, digest, state, sampler)
        return self.tip


@dataclass(frozen=True, slots=True)
class LossTerms:
    """A loss at the n positions of a pack that have a weight. All tensors (n,); the last two are None for
    cross-entropy."""

    loss: Loss
    places: Tensor
    """Indices into the pack's positions, laid end to end."""
    targets: Tensor
    weights: Tensor
    sampled: Tensor | None = None
    advantages: Tensor | None = None

    @classmethod
    def of(cls, data: Sequence[Datum], parts: Sequence[slice], loss: Loss, device: torch.device) -> LossTerms:
        """Return the terms of a part of each datum. Raises DataError if `data` do not fit the loss."""
        names = ("targets", "weights", *(("logprobs", "advantages") if loss.is_policy else ()))
        pairs = list(zip(data, parts, strict=True))
        columns = [torch.tensor([x for d, part in pairs for x in getattr(d, name)[part]]) for name in names]
        if len({len(column) for column in columns}) > 1:
            raise DataError(
                f"loss {loss.name} needs a log-probability and an advantage at each position, "
                "cross_entropy none"
            )
        places = columns[1].nonzero().squeeze(1)
        return cls(loss, places.to(device), *(column[places].to(device) for column in columns))

    def at(self, nll: Tensor, places: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return the weighted terms of targets with these `nll` (nats) at `places`, and their derivatives."""
        weights = self.weights[places]
        if self.sampled is None or self.advantages is None:
            return nll * weights, weights
        advantages = self.advantages[places] * weights
        ratio = (-nll - self.sampled[places]).exp()
        if self.loss.name == "importance_sampling":
            return -ratio * advantages, ratio * advantages
        clipped = ratio.clamp(self.loss.clip_low, self.loss.clip_high)
        if self.loss.name == "cispo":
            return clipped * advantages * nll, clipped * advantages
        plain, bounded = ratio * advantages, clipped * advantages
        return -torch.minimum(plain, bounded), torch.where(plain <= bounded, plain, 0.0)

    def total(self, backbone: Backbone, features: Tensor) -> Tensor:
        """Return the sum of weighted terms (nats, fp32) of the targets by features (n, width)."""
        head = backbone.model.get_output_embeddings()
        if not backbone.shortcuts.head or type(head) is not nn.Linear:
            nll = cross_entropy(backbone.logits(features), self.targets, reduction="none")
            values, slopes = self.at(nll.detach(), slice(None))
            # The derivatives are constants here: this has the loss's gradient, then its value.
            linear_in_nll = (nll * slopes).sum()
            return linear_in_nll + (values.sum() - linear_in_nll).detach()
        dtype = backbone.autocast or torch.float32
        bias = None if head.bias is None else head.bias.to(dtype)
        return _HeadLoss.apply(features, head.weight.to(dtype), bias, self)


class _HeadLoss(torch.autograd.Function):  # type: ignore[misc]
    """features (n, width), frozen head (vocabulary, width) -> loss ()."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, head: Tensor, bias: Tensor | None, terms: LossTerms) -> Tensor:
        grad = torch.empty_like(features)
        total = torch.zeros((), device=features.device)
        with torch.autocast(features.device.type, enabled=False):
            for at in torch.arange(len(terms.targets), device=features.device).split(_CHUNK):
                logits = linear(features[at].to(head.dtype), head, bias).float()
                norm, target = logits.logsumexp(1, keepdim=True), terms.targets[at, None]
                values, slopes = terms.at((norm - logits.gather(1, target))[:, 0], at)
                total += values.sum()
                # d nll / d logits = softmax - one-hot
                steep = slopes[:, None]
                slope = logits.sub_(norm).exp_().mul_(steep).scatter_add_(1, target, -steep)
                grad[at] = (slope.to(head.dtype) @ head).to(grad.dtype)
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.saved_tensors[0] * grads[0], None, None, None
