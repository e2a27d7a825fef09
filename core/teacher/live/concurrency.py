"""How many requests are under way at once."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Literal

from core.teacher.live.clock import Clock
from core.teacher.live.latency import LatencyWatch

Outcome = Literal["ok", "refused", "failed"]
"""ok: answered; refused: 429 or a server that says it is overloaded; failed: anything else."""

_ON_REFUSAL = 0.8
_ON_LATENCY = 0.7
_DIP = 0.5


class Limiter:
    """Bounds how many requests are under way, by how the server takes them.

    Doubles each round trip until the first sign of trouble (slow start), then adds half its square
    root each round trip (the queue that Netflix' concurrency-limits allows, which recovers 256 in
    few round trips) and multiplies on trouble, at most once in a round trip: a refusal, or a
    latency that has left its baseline, as TCP Vegas (Brakmo and Peterson 1995) and the Gradient2
    limit of Netflix concurrency-limits (2018) tell a queue. Never below 1 or above `maximum`.
    """

    def __init__(self, clock: Clock, maximum: int, start: int = 8) -> None:
        self._clock = clock
        self._maximum = maximum
        self._limit = float(min(start, maximum))
        self._slow_start = True
        self._inflight = 0
        self._most = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._watch = LatencyWatch()
        self._dipped_from: float | None = None
        self._taken = True
        self._fell_at = -1.0
        self._round_from = clock.monotonic()

    @property
    def limit(self) -> int:
        """How many may be under way now."""
        return int(self._limit)

    @property
    def inflight(self) -> int:
        """How many are under way."""
        return self._inflight

    def slot(self) -> Slot:
        """`async with limiter.slot() as slot:` waits for its turn, in the order of asking."""
        return Slot(self, self._clock)

    async def acquire(self) -> None:
        """Wait for a place."""
        if self._inflight >= self.limit or self._waiting:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._give_up(turn)
                raise
        else:
            self._enter()

    def release(self) -> None:
        """Give a place back."""
        self._inflight -= 1
        self._admit()

    def learn(self, started: float, latency: float, outcome: Outcome, tokens: int | None) -> None:
        """Take in how a request went that `started` then and took `latency` seconds."""
        # Where all is refused, it is no matter of how many at once: pace and pause deal with that.
        if outcome == "refused" and self._taken:
            self._trouble(started, _ON_REFUSAL)
        elif outcome == "ok":
            self._taken = self._taken or started >= self._fell_at
            self._answered(started, latency, tokens)
        self._admit()

    def _answered(self, started: float, latency: float, tokens: int | None) -> None:
        first = self._watch.add(latency, tokens, current=started >= self._round_from)
        used = self._most >= 0.8 * self.limit
        if self._slow_start and self._watch.calm and used:
            self._set(self._limit + (self._limit if first else 1))
        # In slow start the limit runs ahead of the answers: a round must not wait for it.
        if self._watch.full(1 if self._slow_start else self.limit):
            self._round(used)

    def _round(self, used: bool) -> None:
        sent_from = self._round_from
        self._round_from, self._most = self._clock.monotonic(), self._inflight
        if self._dipped_from is not None:
            self._set(max(self._limit, self._dipped_from * self._watch.reconsider()))
            self._dipped_from = None
            return
        trips = max(1.0, self._watch.answers / max(self.limit, self._watch.LEAST))
        ratio = self._watch.close()
        if ratio > self._watch.TOO_SLOW:
            factor = 1 / ratio if self._slow_start else max(_ON_LATENCY, self._watch.QUEUEING / ratio)
            self._trouble(sent_from, factor)
        elif self._watch.doubtful:
            self._dip()
        elif ratio <= self._watch.QUEUEING and used and not self._slow_start:
            self._set(self._limit + trips * max(1.0, 0.5 * self._limit**0.5))

    def _dip(self) -> None:
        """Below the knee for a round trip, the latency says again what it is without a queue."""
        before = self._limit
        self._trouble(self._round_from, _DIP)
        self._dipped_from = before

    def _trouble(self, started: float, factor: float) -> None:
        if started < self._fell_at:
            return
        self._slow_start = False
        self._dipped_from = None
        self._taken = False
        self._fell_at = self._round_from = self._clock.monotonic()
        self._watch.drop()
        self._set(self._limit * factor)

    def _set(self, limit: float) -> None:
        self._limit = min(max(limit, 1.0), float(self._maximum))

    def _enter(self) -> None:
        self._inflight += 1
        self._most = max(self._most, self._inflight)

    def _admit(self) -> None:
        while self._waiting and self._inflight < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._enter()
                turn.set_result(None)

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        if turn.done() and not turn.cancelled():
            self.release()
        else:
            # Cancelled ones are passed over when their turn comes.
            turn.cancel()


class Slot:
    """A place among the requests under way, given back at the end of `async with`."""

    def __init__(self, limiter: Limiter, clock: Clock) -> None:
        self._limiter = limiter
        self._clock = clock
        self.started = 0.0

    async def __aenter__(self) -> Slot:
        await self._limiter.acquire()
        self.started = self._clock.monotonic()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._limiter.release()

    def done(self, latency: float, outcome: Outcome, tokens: int | None = None) -> None:
        """Say how the request went; `tokens`, the completion's, makes latencies comparable."""
        now = self._clock.monotonic()
        self._limiter.learn(now - latency, latency, outcome, tokens)
