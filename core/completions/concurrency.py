"""How many requests are in flight at once, adapted to how the server responds."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Collection
from statistics import median, quantiles
from typing import Literal

from core.completions.rate_limiter import loop_time

Outcome = Literal["ok", "refused", "failed"]
"""ok: answered; refused: 429 or a server that reports overload; failed: anything else."""

_ON_REFUSAL = 0.8
_ON_LATENCY = 0.7


class AdaptiveConcurrency:
    """Bounds how many requests are in flight, by how the server responds: `async with` takes a place.

    Doubles each round trip until the first sign of trouble (slow start), then adds half its square
    root each round trip (the queue that Netflix' concurrency-limits allows, which recovers 256 in
    few round trips) and multiplies on trouble, at most once in a round trip: a refusal, or a
    latency that has left its baseline, as TCP Vegas (Brakmo and Peterson 1995) and the Gradient2
    limit of Netflix concurrency-limits (2018) detect a queue. Never below 1 or above `maximum`.
    """

    def __init__(self, maximum: int, start: int = 8) -> None:
        self._maximum = maximum
        self._limit = float(min(start, maximum))
        self._slow_start = True
        self.inflight = 0
        self._most = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._watch = LatencyWatch()
        self._dipped_from: float | None = None
        self._taken = True
        self._fell_at = -1.0
        self._round_from = loop_time()

    @property
    def limit(self) -> int:
        return int(self._limit)

    async def __aenter__(self) -> None:
        """Wait for a place, in the order of the calls."""
        if self.inflight < self.limit and not self._waiting:
            self._enter()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn has just come
                self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def report(self, latency: float, outcome: Outcome, tokens: int | None = None) -> None:
        """Report a request that ended now and took `latency` seconds; the `tokens` of its completion make
        latencies comparable.
        """
        started = loop_time() - latency
        # Where every request is refused, concurrency is not the cause: rate limiter and pause handle that.
        if outcome == "refused" and self._taken:
            self._trouble(started, _ON_REFUSAL)
        elif outcome == "ok":
            self._taken = self._taken or started >= self._fell_at
            first = self._watch.add(latency, tokens, current=started >= self._round_from)
            used = self._most >= 0.8 * self.limit
            if self._slow_start and self._watch.calm and used:
                self._set(self._limit + (self._limit if first else 1))
            # In slow start the limit runs ahead of the answers: a round must not wait for it.
            if self._watch.full(1 if self._slow_start else self.limit):
                self._round(used)
        self._admit()

    def _round(self, used: bool) -> None:
        sent_from = self._round_from
        self._round_from, self._most = loop_time(), self.inflight
        if self._dipped_from is not None:
            self._set(max(self._limit, self._dipped_from * self._watch.reconsider()))
            self._dipped_from = None
            return
        trips = max(1.0, len(self._watch.round) / max(self.limit, self._watch.LEAST))
        ratio = self._watch.close()
        if ratio > self._watch.TOO_SLOW:
            factor = 1 / ratio if self._slow_start else max(_ON_LATENCY, self._watch.QUEUEING / ratio)
            self._trouble(sent_from, factor)
        elif self._watch.doubtful:
            # Halve the limit for a round trip, to measure the latency without a queue again.
            before = self._limit
            self._trouble(self._round_from, 0.5)
            self._dipped_from = before
        elif ratio <= self._watch.QUEUEING and used and not self._slow_start:
            self._set(self._limit + trips * max(1.0, 0.5 * self._limit**0.5))

    def _trouble(self, started: float, factor: float) -> None:
        if started < self._fell_at:
            return
        self._slow_start = False
        self._dipped_from = None
        self._taken = False
        self._fell_at = self._round_from = loop_time()
        self._watch.drop()
        self._set(self._limit * factor)

    def _set(self, limit: float) -> None:
        self._limit = min(max(limit, 1.0), float(self._maximum))

    def _enter(self) -> None:
        self.inflight += 1
        self._most = max(self._most, self.inflight)

    def _leave(self) -> None:
        self.inflight -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self.inflight < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._enter()
                turn.set_result(None)


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
    Medians, since completions differ in length; if the number of tokens is known, latencies are
    divided by it, and the fixed part of a request is assumed to be a fifth of the first completions.
    A round is as long as its median needs to be distinguished from chance: of n values whose logarithms have
    the standard deviation s it is off by 1.25 s / sqrt(n) (the median's asymptotic standard error).
    """

    QUEUEING = 1.25
    """Up to here times the baseline there is room for more."""
    TOO_SLOW = 1.6
    """From here on there is a queue that has to shrink."""

    LEAST = 32
    """Answers of a round, at least."""

    def __init__(self) -> None:
        self.round: list[float] = []
        self._recent: deque[float] = deque(maxlen=_EARLY)
        self._first: list[float] = []
        self._baseline: float | None = None
        self._typical = 0.0
        self._measured = 0
        self._unconfirmed = 0
        self._slow = 0
        self._short = 0.0
        """The median of the last round."""
        self._needed = self.LEAST
        self.doubtful = False
        """Whether the baseline was not seen for long, and should be measured again."""

    def add(self, latency: float, tokens: int | None, current: bool) -> bool:
        """Add an answer, `current` if its request was sent in this round; return whether it completes
        the first baseline."""
        if tokens is not None and self._measured < _EARLY:
            self._measured += 1
            self._typical += (tokens - self._typical) / self._measured
        # The size of the completion; with the typical one in place of an unknown one.
        size = (self._typical if tokens is None else tokens) + 0.2 * self._typical + 1
        sample = latency / size if self._measured else latency
        self._recent.append(sample)
        if current:
            self.round.append(sample)
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

    def full(self, limit: int) -> bool:
        """Whether the round has enough answers to be compared."""
        n = len(self.round)
        if n < max(limit, self._needed):
            return False
        self._needed = max(self.LEAST, min(_enough(self.round, _PRECISE), _MOST))
        return n >= self._needed

    def close(self) -> float:
        """End the round, and return its latency as a multiple of the baseline."""
        short = self._short = median(self.round)
        self.round.clear()
        if self._baseline is None:
            self._baseline = short
            return 1.0
        ratio = short / self._baseline
        self._baseline += (_DOWN if ratio < 1 else _UP) * (short - self._baseline)
        self._unconfirmed = 0 if ratio <= 1.1 else self._unconfirmed + 1
        if self._unconfirmed >= _DOUBT_AFTER:
            self._unconfirmed, self.doubtful = 0, True
        self._slow = self._slow + 1 if ratio > self.TOO_SLOW else 0
        if self._slow >= _ACCEPT_AFTER:
            # Sending less did not help: this is how slow the server is now, not a queue of ours.
            self._slow, self._baseline = 0, short
            return 1.0
        return ratio

    def reconsider(self) -> float:
        """End a round with half the requests, whose latency is the new baseline.

        Returns the share of the earlier requests that had room: 1 if their round was as fast.
        """
        before, self._short = self._short, median(self.round)
        self.round.clear()
        self._baseline = self._short
        self.doubtful = False
        return min(1.0, self.QUEUEING * self._short / before)

    def drop(self) -> None:
        """Forget the round: it belongs to another limit."""
        self.round.clear()
        self._recent.clear()


def _enough(latencies: Collection[float], error: float) -> int:
    """How many values it takes for a relative error of their median."""
    logs = [math.log(max(value, 1e-9)) for value in latencies]
    low, _, high = quantiles(logs, n=4)
    spread = (high - low) / 1.349  # of a normal distribution; quartiles ignore outliers
    return math.ceil((1.25 * spread / error) ** 2)
