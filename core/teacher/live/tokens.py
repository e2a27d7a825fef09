"""How many tokens a request takes, before it is sent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from core.prices import Usage
from core.prompts import Message

BYTES_PER_TOKEN = 4.0
"""Of English in the vocabularies in use; other scripts take up to three times the tokens, which the
first answers tell."""
_PER_MESSAGE = 4
LEARNT_AFTER = 20


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and the bounds between which it lies with a probability of about .95."""

    low: float
    mean: float
    high: float

    @classmethod
    def exact(cls, value: float) -> Interval:
        """A value without a doubt."""
        return cls(value, value, value)

    def __mul__(self, factor: float) -> Interval:
        return Interval(self.low * factor, self.mean * factor, self.high * factor)

    def __add__(self, other: Interval) -> Interval:
        """Bounds of the sum, where both may err the same way."""
        return Interval(self.low + other.low, self.mean + other.mean, self.high + other.high)


class _Mean:
    """A running mean with its standard error (Welford 1962)."""

    def __init__(self) -> None:
        self.n, self.mean, self._m2 = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        self.n += 1
        delta = value - self.mean
        self.mean += delta / self.n
        self._m2 += delta * (value - self.mean)

    def interval(self) -> Interval:
        error = 1.96 * math.sqrt(self._m2 / (self.n - 1) / self.n) if self.n > 1 else math.inf
        return Interval(max(0.0, self.mean - error), self.mean, self.mean + error)


class Estimator:
    """Tokens of prompts and completions: bytes/4 and `max_tokens` at first, learnt after 20 answers."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._ratio = _Mean()
        self._completions = _Mean()

    @property
    def learnt(self) -> bool:
        """Whether the server's own counts are used."""
        return self._ratio.n >= LEARNT_AFTER

    def prompt(self, rough: float) -> int:
        """Tokens of a prompt that is `rough` by `rough_tokens`, rounded up."""
        return math.ceil(self.prompt_interval(rough).mean)

    def prompt_interval(self, rough: float) -> Interval:
        """As `prompt`, with bounds; from half to three times as many until learnt."""
        return self._ratio.interval() * rough if self.learnt else Interval(0.5 * rough, rough, 3 * rough)

    def completion(self) -> int:
        """Tokens to reserve for an answer: all that it may have, until the mean is learnt."""
        return math.ceil(self._completions.mean) if self.learnt else self._max_tokens

    def completion_interval(self) -> Interval:
        """The mean completion; until learnt, somewhere up to `max_tokens`, most likely a tenth of it."""
        if self.learnt:
            return self._completions.interval()
        return Interval(0.0, 0.1 * self._max_tokens, float(self._max_tokens))

    def learn(self, rough: float, usage: Usage) -> None:
        """Take in what the server counted for an answer to a prompt that is `rough`."""
        self._ratio.add(usage.prompt / rough)
        self._completions.add(usage.completion)


def rough_tokens(messages: Sequence[Message]) -> float:
    """Tokens of a prompt by its bytes alone."""
    size = sum(len(m.role) + len(m.content.encode("utf-8", "surrogatepass")) for m in messages)
    return size / BYTES_PER_TOKEN + _PER_MESSAGE * max(1, len(messages))
