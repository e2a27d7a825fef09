"""What an engine is: a thing that trains and samples LoRA adapters. All tokens, no text.

The vocabulary is that of the Tinker service, so that a local engine and a remote one are
one thing to the pipeline: a `Session` trains, a `Sampler` answers, a `Checkpoint` is a value
that names both its resumable state and what a sampler is opened from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from core.engines.losses import CROSS_ENTROPY, Loss
from core.errors import ModelError

_REMOTE = re.compile(r"tinker://[^/]+/(?P<kind>[^/]+)/[^/]+")


@dataclass(frozen=True, slots=True)
class Datum:
    """One training sequence. `targets[i]` is the token that follows `tokens[i]`.

    All have the same length. `weights`, none below 0, multiply each position's term of the loss; the
    loss of a batch is the plain sum over all its data, so whoever makes a batch has already divided.
    A policy gradient needs `logprobs`, those that the sampler gave the targets (nats), and `advantages`.
    """

    tokens: tuple[int, ...]
    targets: tuple[int, ...]
    weights: tuple[float, ...]
    logprobs: tuple[float, ...] = ()
    advantages: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class AdamParams:
    """One optimiser step's settings, all of them sent with every step."""

    learning_rate: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    grad_clip_norm: float
    """Largest global L2 norm of the gradient; 0 switches clipping off."""


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """The adapter: rank, scale, which layers, and the seed of its start."""

    rank: int
    alpha: float
    dropout: float
    seed: int
    train_mlp: bool = True
    train_attention: bool = True
    train_unembed: bool = False


@dataclass(frozen=True, slots=True)
class StateRef:
    """Where resumable training state lies. A folder for the local engine, a path on a server for
    a remote one. Not a SamplerRef: sampling from a state, or resuming from a sampler's weights
    (which carry no optimiser), is an error that the types forbid, and for a path on a server also
    its making: ModelError."""

    location: str

    def __post_init__(self) -> None:
        _refuse_other_kind(self.location, "weights", "training state")


@dataclass(frozen=True, slots=True)
class SamplerRef:
    """Where the weights for sampling lie; see StateRef."""

    location: str

    def __post_init__(self) -> None:
        _refuse_other_kind(self.location, "sampler_weights", "sampler's weights")


def _refuse_other_kind(location: str, kind: str, what: str) -> None:
    if not location.startswith("tinker://"):
        return
    found = _REMOTE.fullmatch(location)
    if found is None or found["kind"] != kind:
        raise ModelError(f"{location} is no path of a {what}; such a path reads tinker://<run>/{kind}/<name>")


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """Which engine made a checkpoint, and over which base model."""

    kind: Literal["local", "tinker"]
    server: str | None
    base_digest: str
    """sha256 of the base model's weights and tokenizer files, or the server's name for them."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved point of training: a value, usable in any process."""

    engine: EngineIdentity
    step: int
    digest: str
    """sha256 over the adapter's bytes: what two equal runs agree on. Of weights that stay on a
    server, sha256 over the server and the path of their state."""
    state: StateRef
    sampler: SamplerRef


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one optimiser step reported. A metric the engine does not give is None."""

    loss: float
    """Weighted sum of the loss's terms (nats) before the update."""
    grad_norm: float | None
    tokens: int
    """Prompt and completion tokens of the batch, without padding."""


@dataclass(frozen=True, slots=True)
class SaveLabel:
    """Who saves: goes into names on a server, so that two writers of one key never collide."""

    key: str
    """Key of the stage's object."""
    writer: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a server bills, and the requests for samples they went out with."""

    trained: int = 0
    prefilled: int = 0
    """Prompt tokens of samples and scores; what the server had in its cache is counted too."""
    sampled: int = 0
    requests: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.trained + other.trained,
            self.prefilled + other.prefilled,
            self.sampled + other.sampled,
            self.requests + other.requests,
        )

    def to_json(self) -> dict[str, int]:
        """What a summary says of samples and scores."""
        return {
            "prefilled_tokens": self.prefilled,
            "sampled_tokens": self.sampled,
            "requests": self.requests,
        }


@runtime_checkable
class Metered(Protocol):
    """A session or sampler that is paid for by the token."""

    @property
    def usage(self) -> Usage:
        """Until now."""


class Pending(Protocol):
    """A step that was submitted; `result` waits for it and raises what it raised."""

    def result(self) -> StepResult: ...


class Session(Protocol):
    """A live training client. One thread at a time."""

    @property
    def tip(self) -> Checkpoint | None:
        """The checkpoint whose weights the session holds exactly, None once a step went beyond."""

    def submit(
        self, batch: Sequence[Datum], adam: AdamParams, *, step: int, loss: Loss = CROSS_ENTROPY
    ) -> Pending:
        """Queue forward, backward and the update for step number `step` (from 0)."""

    def save(self, folder: Path, *, step: int, label: SaveLabel | None = None) -> Checkpoint:
        """Save adapter, optimiser, schedule position and random state; `folder` gets what
        Engine.refs needs. Steps whose results nobody has asked for yet may be on their way: the
        save follows them, and their results can be asked for afterwards."""

    def lend(self, folder: Path, *, step: int, label: SaveLabel | None = None) -> SamplerRef:
        """Save the present weights for a sampler that is opened at once and soon forgotten; `folder` gets
        what there is to keep of them on this machine."""

    def close(self) -> None:
        """End the session; nothing stays on its way."""


@dataclass(frozen=True, slots=True)
class ChoiceScores:
    """Log-probabilities of whole choices, each directly after its prompt.

    `logprobs[i][j]` is log P(choice j | prompt i) in nats, summed over the choice's tokens. A row
    that failed is empty, and `errors` says why: it must never become a label.
    """

    logprobs: tuple[tuple[float, ...], ...]
    exact: bool
    """False where the server gave only a bound for a choice it did not list."""
    bounds: tuple[tuple[int, int], ...] = ()
    """The (row, choice) pairs whose value is only an upper bound."""
    errors: Mapping[int, str] = field(default_factory=dict)
    """For each row that failed, a sentence."""
    method: str = "forward pass"
    """How the values were come by, for the record."""


@dataclass(frozen=True, slots=True)
class GenerateParams:
    """How to generate. Temperature 0 is greedy."""

    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    stop_tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """One generated completion; `tokens` without the stop token. One that failed has no tokens."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Literal["stop", "length", "error"]
    error: str | None = None
    """A sentence, where `finish` is "error"."""
    stop: tuple[int, float] | None = None
    """The stop token that ended it and its log-probability (nats), where the engine gives them."""


@runtime_checkable
class Sampler(Protocol):
    """Weights that answer. Never shares a model object with a Session."""

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        choices: Sequence[Sequence[int]],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> ChoiceScores:
        """Score each of `choices` (token sequences) after each of `prompts`, in order."""

    def logprobs(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability of every token but the first: row i has len(sequences[i]) - 1 values."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: GenerateParams,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Generation]:
        """Complete each prompt, in order; `progress` is told (rows done, rows)."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the loop may rely on; checked before step 0."""

    overlaps_evaluation: bool
    exact_scoring: bool
    grad_clipping: bool
    losses: frozenset[str] = field(default_factory=lambda: frozenset({"cross_entropy"}))


class Engine(Protocol):
    """Opens sessions and samplers over one base model."""

    @property
    def identity(self) -> EngineIdentity: ...

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def fingerprint(self) -> dict[str, str]:
        """Whatever decides bits: versions, device, dtype, threads. Recorded with each checkpoint."""

    def open(self, lora: LoraSpec, from_state: StateRef | None, *, optimiser: bool = True) -> Session:
        """A training session: new from `lora`'s seed, or continued exactly from a saved state.

        Without `optimiser` only the state's weights are taken: the seed may then be another, and the
        optimiser begins anew.
        """

    def sampler(self, ref: SamplerRef | None) -> Sampler:
        """A sampler over a checkpoint's weights, or over the base model where `ref` is None."""

    def refs(self, folder: Path) -> tuple[StateRef, SamplerRef]:
        """Where state and sampler's weights of the checkpoint lie that a session saved in `folder`."""

    def waits(self, tell: Callable[[str], None]) -> AbstractContextManager[None]:
        """Within it, this thread's waits for a server are told in words, every second or so."""

    def knows(self, checkpoint: Checkpoint) -> bool:
        """Whether the checkpoint is still there: a server forgets those whose time is over. Files
        of this machine are there, or their manifest does not hold."""
