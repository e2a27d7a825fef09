"""Whether requests take longer than they would without a queue."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from statistics import median, quantiles

_EARLY = 8
_UP, _DOWN = 0.01, 0.5
_DOUBT_AFTER = 20
_ACCEPT_AFTER = 4
_FIRST_AT_MOST = 64
_MOST = 600
_PRECISE, _ROUGH = 0.08, 0.25
"""Standard errors of a median's logarithm that a round, and the first baseline, may have."""


class LatencyWatch:
    """The latency of a round trip against its baseline, in seconds, or seconds a token.

    The baseline falls fast and rises slowly, so that it follows the server and not its queue.
    Medians, since completions differ in length; where the number of tokens is known, they are
    divided by it, with what a request costs besides taken to be a fifth of the first completions.
    A round is as long as its median needs to be told from chance: of n values whose logarithms have
    the standard deviation s it is off by 1.25 s / sqrt(n) (the median's asymptotic standard error).
    """

    QUEUEING = 1.25
    """Up to here times the baseline there is room for more."""
    TOO_SLOW = 1.6
    """From here on there is a queue that has to shrink."""

    LEAST = 32
    """Answers of a round, at least."""

    def __init__(self) -> None:
        self._round: list[float] = []
        self._recent: deque[float] = deque(maxlen=_EARLY)
        self._first: list[float] = []
        self._baseline: float | None = None
        self._typical = 0.0
        self._measured = 0
        self._unconfirmed = 0
        self._slow = 0
        self._short = 0.0
        self._needed = self.LEAST
        self.doubtful = False
        """Whether the baseline was not seen for long, and should be looked at again."""

    def add(self, latency: float, tokens: int | None, current: bool) -> bool:
        """Take in an answer, `current` where it was asked for in this round; whether it is the one
        that made the first baseline."""
        sample = latency / self._unit(tokens)
        self._recent.append(sample)
        if current:
            self._round.append(sample)
        if self._baseline is not None:
            return False
        self._first.append(sample)
        n = len(self._first)
        if n < _EARLY or (n < _FIRST_AT_MOST and n < _enough(self._first, _ROUGH)):
            return False
        self._baseline = median(self._first)
        return True

    @property
    def calm(self) -> bool:
        """Whether the last few answers were about as fast as the baseline, and there is one."""
        return self._baseline is not None and median(self._recent or [0.0]) <= 1.3 * self._baseline

    @property
    def answers(self) -> int:
        """How many answers the round has."""
        return len(self._round)

    def full(self, limit: int) -> bool:
        """Whether the round has enough answers to be judged."""
        n = len(self._round)
        if n < max(limit, self._needed):
            return False
        self._needed = max(self.LEAST, min(_enough(self._round, _PRECISE), _MOST))
        return n >= self._needed

    def close(self) -> float:
        """End the round: its latency, as a multiple of the baseline."""
        short = self._short = median(self._round)
        self._round.clear()
        if self._baseline is None:
            self._baseline = short
            return 1.0
        ratio = short / self._baseline
        self._baseline += (_DOWN if ratio < 1 else _UP) * (short - self._baseline)
        return self._judged(ratio, short)

    def reconsider(self) -> float:
        """End a round made with half the requests: how much of the former ones had room.

        What it took is the new baseline; the share is 1 where the former round was as fast.
        """
        before, self._short = self._short, median(self._round)
        self._round.clear()
        self._baseline = self._short
        self.doubtful = False
        return min(1.0, self.QUEUEING * self._short / before)

    def drop(self) -> None:
        """Forget the round: it belongs to another limit."""
        self._round.clear()
        self._recent.clear()

    def _judged(self, ratio: float, short: float) -> float:
        self._unconfirmed = 0 if ratio <= 1.1 else self._unconfirmed + 1
        if self._unconfirmed >= _DOUBT_AFTER:
            self._unconfirmed, self.doubtful = 0, True
        self._slow = self._slow + 1 if ratio > self.TOO_SLOW else 0
        if self._slow >= _ACCEPT_AFTER:
            # Sending less did not help: this is how slow the server is now, not a queue of ours.
            self._slow, self._baseline = 0, short
            return 1.0
        return ratio

    def _unit(self, tokens: int | None) -> float:
        """What a latency is divided by: the size of the completion, where it is known."""
        if tokens is not None and self._measured < _EARLY:
            self._measured += 1
            self._typical += (tokens - self._typical) / self._measured
        if not self._measured:
            return 1.0
        return (self._typical if tokens is None else tokens) + 0.2 * self._typical + 1


def _enough(latencies: Collection[float], error: float) -> int:
    """How many values it takes for their median to be off by so much, as a share of it."""
    logs = [math.log(max(value, 1e-9)) for value in latencies]
    low, _, high = quantiles(logs, n=4)
    spread = (high - low) / 1.349  # of a normal distribution; quartiles do not mind outliers
    return math.ceil((1.25 * spread / error) ** 2)
