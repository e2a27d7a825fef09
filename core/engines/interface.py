"""The interface of engines, which train and sample LoRA adapters over one base model.

They read and return tokens. As in the Tinker service, a `Session` trains, a `Sampler` scores and generates,
and a `Checkpoint` names a resumable training state and a sampler's weights.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

from core.engines.sampling import Sampler
from core.errors import StageError

if TYPE_CHECKING:
    from core.base_model import ModelSource
    from core.cost import TrainingPrice

ADAPTER = "adapter"
"""Where an engine that is not remote saves a checkpoint's adapter: a subfolder, in PEFT's layout."""

LossName = Literal["cross_entropy", "importance_sampling", "ppo", "cispo"]


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss by name: a sum over positions of `weight * term`, as in Tinker.

    A term depends on the target's log-probability now (log p) and, for a policy gradient, when it was sampled
    (log q), and on its advantage A. `clip_low` and `clip_high`, around 1, bound the ratio of ppo and cispo.

    cross_entropy: -log p.
    importance_sampling: -(p/q) A, whose gradient is the off-policy policy gradient.
    ppo: -min((p/q) A, clip(p/q) A) (Schulman et al. 2017).
    cispo: -clip(p/q) A log p, with the clipped ratio as a constant (Chen et al. 2025, MiniMax-M1).
    """

    name: LossName
    clip_low: float = 0.0
    clip_high: float = math.inf

    @property
    def is_policy(self) -> bool:
        """Whether data need advantages and the sampler's log-probabilities."""
        return self.name != "cross_entropy"

    @property
    def clips(self) -> bool:
        """Whether the bounds are used."""
        return self.name in ("ppo", "cispo")

    def term(self, logprob: float, sampled: float = 0.0, advantage: float = 0.0) -> float:
        """Return the term of one position, for weight 1. Log-probabilities are in nats."""
        if self.name == "cross_entropy":
            return -logprob
        ratio = math.exp(logprob - sampled)
        clipped = min(max(ratio, self.clip_low), self.clip_high)
        if self.name == "cispo":
            return -clipped * advantage * logprob
        if self.name == "ppo":
            return -min(ratio * advantage, clipped * advantage)
        return -ratio * advantage


CROSS_ENTROPY = Loss("cross_entropy")
ALL_LOSSES: frozenset[str] = frozenset(get_args(LossName))


@dataclass(frozen=True, slots=True)
class Device:
    """What a model on this machine computes on: "auto" (a GPU if there is one), "cpu" or "cuda"."""

    name: str = "auto"
    threads: int | None = None
    """CPU threads; None leaves torch's choice."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the pipeline may rely on; known from an engine's settings."""

    remote: bool = False
    """Checkpoints are on a server: the chosen adapter is downloaded for the bundle."""
    checkpoints_expire: bool = False
    """Checkpoints may be deleted: ask `checkpoint_exists` before using one again."""
    metered: bool = False
    """Tokens are billed: samplers report `usage`, and runs report costs."""
    overlaps_evaluation: bool = False
    """Checkpoints can be evaluated while training continues."""
    local_weights: bool = True
    """`student.model` names weights and a tokenizer on this machine, not a server's model."""
    can_merge: bool = True
    """The base model is on this machine, so that an adapter can be merged into it."""
    grad_clipping: bool = True
    """Gradients are clipped to `AdamParams.grad_clip_norm`."""
    losses: frozenset[str] = frozenset({CROSS_ENTROPY.name})
    """Names of the losses that `Session.submit` computes."""


@dataclass(frozen=True, slots=True)
class Datum:
    """One training sequence. `targets[i]` follows `tokens[i]`; all given fields have the same length.

    `weights`, none below 0, multiply each position's term of the loss; the loss of a batch is the plain sum.
    A policy gradient needs the targets' `logprobs` when they were sampled (nats), and `advantages`.
    """

    tokens: tuple[int, ...]
    targets: tuple[int, ...]
    weights: tuple[float, ...]
    logprobs: tuple[float, ...] = ()
    advantages: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class AdamParams:
    """The settings of one optimizer step, sent with every step."""

    learning_rate: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    grad_clip_norm: float
    """Largest global L2 norm of the gradient; 0 switches clipping off."""


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """The adapter: rank, scale, adapted layers, and the seed of its initial weights."""

    rank: int
    alpha: float
    dropout: float
    seed: int
    train_mlp: bool = True
    train_attention: bool = True
    train_unembed: bool = False


@dataclass(frozen=True, slots=True)
class StateRef:
    """Where a resumable training state is: a folder, or a path on a server."""

    location: str


@dataclass(frozen=True, slots=True)
class SamplerRef:
    """Where the weights of a sampler are, which include no optimizer."""

    location: str


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """Which engine, by its registered name, saved a checkpoint, and over which base model."""

    kind: str
    server: str | None
    base_digest: str
    """sha256 over the base model's weights and tokenizer files, or over a server's name for the model."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved point of training, valid in any process."""

    engine: EngineIdentity
    step: int
    digest: str
    """sha256 over the adapter's bytes, or, for weights that stay on a server, over server and location."""
    state: StateRef
    sampler: SamplerRef


@dataclass(frozen=True, slots=True)
class DownloadedAdapter:
    """An adapter that was downloaded from the path `source` on a server, in PEFT's layout.

    `files` has a sha256 by name, `left_out` the server's other files, and `completed` the fields that its
    configuration lacked and that were derived from the weights.
    """

    source: str
    files: Mapping[str, str]
    bytes: int
    left_out: tuple[str, ...] = ()
    completed: tuple[str, ...] = ()


RemoteKind = Literal["state", "sampler", "adapter"]


@dataclass(frozen=True, slots=True)
class RemoteCheckpoint:
    """A training state, a sampler's weights, or an adapter prepared for download, as a server lists it.

    `step` is None for what this project did not save, and `expires` None for what never does.
    """

    location: str
    kind: RemoteKind
    step: int | None
    bytes: int | None
    created: datetime
    expires: datetime | None


@runtime_checkable
class CheckpointServer(Protocol):
    """An engine whose checkpoints can be listed and removed by location."""

    def checkpoints(self) -> list[RemoteCheckpoint]:
        """Return all checkpoints of the user, the latest first."""

    def remove(self, location: str) -> None:
        """Delete one. Raises CheckpointGone."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one optimizer step reported: `loss` is the weighted sum of terms (nats) before the update."""

    loss: float
    grad_norm: float | None
    """None if the engine does not report it."""
    tokens: int
    """Prompt and completion tokens of the batch, without padding."""


@dataclass(frozen=True, slots=True)
class SaveLabel:
    """The key of a stage's object and its writer, for names on a server that never collide."""

    key: str
    writer: str


@dataclass(frozen=True, slots=True)
class EngineUsage:
    """Prompt tokens (cached ones too) and sampled tokens that a server bills, and requests."""

    prefilled: int = 0
    sampled: int = 0
    requests: int = 0

    def __add__(self, other: EngineUsage) -> EngineUsage:
        return EngineUsage(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def to_json(self) -> dict[str, int]:
        """Return the fields that a stage's summary lists for samples and scores."""
        return {"prefilled_tokens": self.prefilled, "sampled_tokens": self.sampled, "requests": self.requests}


@runtime_checkable
class Metered(Protocol):
    """A sampler whose tokens are billed."""

    @property
    def usage(self) -> EngineUsage: ...


class PendingResult(Protocol):
    """A submitted step. `result` waits for it, and raises the step's error."""

    def result(self) -> StepResult: ...


class Session(Protocol):
    """A live training client. Use it from one thread at a time."""

    @property
    def tip(self) -> Checkpoint | None:
        """The checkpoint whose weights the session holds exactly; None after a further step."""

    def submit(
        self, batch: Sequence[Datum], adam: AdamParams, *, step: int, loss: Loss = CROSS_ENTROPY
    ) -> PendingResult:
        """Queue forward, backward and the update of the zero-based step `step`."""

    def save(self, folder: Path, *, step: int, label: SaveLabel | None = None) -> Checkpoint:
        """Save adapter, optimizer and random state after all submitted steps, for Engine.refs to read."""

    def save_weights_for_sampler(
        self, folder: Path, *, step: int, label: SaveLabel | None = None
    ) -> SamplerRef:
        """Save the current weights, into `folder` or on the server, for a sampler that is used briefly."""

    def close(self) -> None:
        """End the session and wait for its requests."""


class Engine(ABC):
    """Opens sessions and samplers over one base model.

    Creating one is cheap: it reads no weights, imports no heavy library and sends no request. The methods
    with a body suit an engine that computes on this machine.
    """

    @property
    @abstractmethod
    def identity(self) -> EngineIdentity:
        """Engine, server and base model; part of every key. Needs no credentials."""

    @property
    @abstractmethod
    def fingerprint(self) -> Mapping[str, str]:
        """Everything that decides bits: versions, device, dtype, threads. Recorded with checkpoints."""

    @abstractmethod
    def open(self, lora: LoraSpec, from_state: StateRef | None, *, optimizer: bool = True) -> Session:
        """Open a training session: new from `lora`'s seed, or continued exactly from a saved state.

        Without `optimizer` only the state's weights are used, and their seed may differ.
        """

    @abstractmethod
    def sampler(self, ref: SamplerRef | None, *, merge: bool = True, owns_engine: bool = False) -> Sampler:
        """Open a sampler over a checkpoint's weights, or over the base model if `ref` is None.

        `merge` lets an engine add the adapter into the base weights, which is faster. With `owns_engine`,
        closing the sampler closes the engine.
        """

    @abstractmethod
    def refs(self, folder: Path) -> tuple[StateRef, SamplerRef]:
        """Return where the checkpoint is that a session saved with `folder`."""

    @property
    def local_model(self) -> ModelSource | None:
        """The base model's files on this machine, if there are any. Raises ModelError."""
        return None

    @property
    def price(self) -> TrainingPrice | None:
        """Price of a token, for a metered engine; None if it is unknown. Raises ConfigError."""
        return None

    def require_credentials(self) -> None:  # noqa: B027  # optional
        """Raise ConfigError if a key that the engine needs is missing or malformed. Sends nothing."""

    def check(self, lora: LoraSpec | None = None) -> None:  # noqa: B027  # optional
        """Check that the server can be reached and supports model and adapter.

        Raises PassingError, ConfigError, ModelError.
        """

    def checkpoint_exists(self, checkpoint: Checkpoint) -> bool:
        """Return whether a checkpoint is still there. Files on this machine are verified elsewhere."""
        return True

    def keep(self, checkpoint: Checkpoint) -> None:  # noqa: B027  # optional
        """Keep a checkpoint that would expire. Raises CheckpointGone."""

    def download_adapter(self, checkpoint: Checkpoint, folder: Path) -> DownloadedAdapter:
        """Download the adapter of a remote checkpoint into a new folder, in PEFT's layout.

        Raises CheckpointGone, StageError, SessionLost, PassingError.
        """
        raise StageError(f"engine {self.identity.kind} has no adapters to download")

    def report_waits(self, report: Callable[[str], None]) -> AbstractContextManager[None]:
        """Within the context, report this thread's waits for a server, about once a second."""
        return nullcontext()

    def close(self) -> None:  # noqa: B027  # optional
        """End what the engine has open on a server."""
