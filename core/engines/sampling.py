"""The interface of samplers, which score choices and generate, and what they share. Logprobs are in nats."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from core.errors import DataError

Rows = Sequence[Sequence[int]]
"""Token sequences."""
Report = Callable[[int, int], None]
"""Receives (rows done, rows)."""


@dataclass(frozen=True, slots=True)
class ChoiceScores:
    """`logprobs[i][j]` is log P(choice j | prompt i), summed over the choice's tokens.

    A row that failed is empty and has a sentence in `errors`; it must never become a label.
    """

    logprobs: tuple[tuple[float, ...], ...]
    exact: bool
    """Whether `bounds` is empty."""
    bounds: tuple[tuple[int, int], ...] = ()
    """The (row, choice) pairs whose value is only an upper bound."""
    errors: Mapping[int, str] = field(default_factory=dict)
    method: str = "forward pass"
    """How the values were computed, for the record."""


def score_differences(one: ChoiceScores, other: ChoiceScores) -> dict[int, float]:
    """Return, by row, the largest difference of a log-probability (nats), infinite if only one is -infinity.

    Rows that failed on either side, or have only a bound, are left out.
    """
    unfit = {row for scores in (one, other) for row in (*scores.errors, *(row for row, _ in scores.bounds))}
    pairs = enumerate(zip(one.logprobs, other.logprobs, strict=True))
    return {
        row: max(0.0 if a == b else abs(a - b) for a, b in zip(*both, strict=True))
        for row, both in pairs
        if row not in unfit
    }


@dataclass(frozen=True, slots=True)
class GenerateParams:
    """How to generate. Temperature 0 is greedy."""

    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    stop_tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """One completion; `tokens` exclude the stop token. A failed completion has no tokens."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Literal["stop", "length", "error"]
    error: str | None = None
    """A sentence if `finish` is "error"."""
    stop: tuple[int, float] | None = None
    """The stop token that ended it and its log-probability, if the engine reports them."""


@runtime_checkable
class Sampler(Protocol):
    """Weights that score and generate. Use it from one thread at a time; it shares no model with a Session.

    All methods raise DataError for an empty prompt, choice or sequence.
    """

    def score(self, prompts: Rows, choices: Rows, *, progress: Report | None = None) -> ChoiceScores:
        """Score each of `choices` (token sequences) after each of `prompts`, in order."""

    def logprobs(self, sequences: Rows) -> list[list[float]]:
        """Log-probability of every token but the first: row i has len(sequences[i]) - 1 values."""

    def generate(
        self, prompts: Rows, params: GenerateParams, *, progress: Report | None = None
    ) -> list[Generation]:
        """Continue each prompt until a stop token or `max_tokens`, in order.

        Log-probabilities are the model's own, before temperature. The random numbers of a row come from
        (seed, its position in `prompts`).
        """

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ChoicePlan:
    """Which forward passes score which choices; choices that share all but their last token share one."""

    heads: tuple[tuple[int, ...], ...]
    """Token sequences to run after a prompt; none begins another."""
    members: tuple[tuple[int, ...], ...]
    """For each head, the choices that it scores."""
    choices: tuple[tuple[int, ...], ...]
    tokens: tuple[int, ...]
    """Every token of every choice once, sorted."""


def choice_plan(choices: Rows) -> ChoicePlan:
    """Plan the passes: one for each longest distinct sequence of all tokens but the last."""
    heads: list[tuple[int, ...]] = []
    for head in sorted({tuple(choice[:-1]) for choice in choices}, key=len, reverse=True):
        if not any(longer[: len(head)] == head for longer in heads):
            heads.append(head)
    members: list[list[int]] = [[] for _ in heads]
    for i, choice in enumerate(choices):
        head = tuple(choice[:-1])
        members[next(j for j, longer in enumerate(heads) if longer[: len(head)] == head)].append(i)
    return ChoicePlan(
        heads=tuple(heads),
        members=tuple(tuple(group) for group in members),
        choices=tuple(tuple(choice) for choice in choices),
        tokens=tuple(sorted({token for choice in choices for token in choice})),
    )


def require_tokens(rows: Rows, what: str) -> None:
    """Raise DataError if a row is empty."""
    for i, row in enumerate(rows):
        if not row:
            raise DataError(f"{what} {i} has no tokens, so there is nothing to score or continue; drop it")


def derived_seed(seed: int, part: int) -> int:
    """Return a seed below 2**56 for one part of a run; batching and resuming do not change it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{part}".encode()).digest()[:7], "big")
