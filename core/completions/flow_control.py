"""When requests to an endpoint are sent, how many at once, which are repeated, and when to stop."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import random
from collections import deque
from collections.abc import Collection
from statistics import median, quantiles
from typing import Literal

from core.completions.client import ServerReply
from core.completions.failures import OVERLOAD_STATUSES, CallError, retry_after
from core.completions.limits import RateLimiter, loop_time
from core.config import BreakerConfig, Endpoint
from core.errors import BreakerOpen

_TRIES_WITHOUT_RESPONSE = 3
"""Tries of a request to an endpoint that has never responded: a wrong address stays wrong."""
_BASE_S, _CAP_S, _LONGEST_S = 1.0, 60.0, 600.0
"""The first and the longest wait before a retry; a request is given up if the server asks for more than the
last."""


class FlowControl:
    """Everything that decides when one endpoint may be asked. Created in a running event loop.

    A request takes a place in `concurrency` (how many are in flight at once), then its turn (pauses, requests
    and tokens a minute, the circuit breaker), and reports how it went.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        limits = endpoint.limits
        self.breaker = CircuitBreaker(limits.breaker, endpoint.section)
        self.concurrency = AdaptiveConcurrency(limits.concurrency)
        self.rate = RateLimiter(limits.requests_per_minute, limits.tokens_per_minute)
        self._tries, self._has_response = limits.tries, False

    async def turn(self, tokens: int) -> float:
        """Wait for the turn of a request of an estimated `tokens`; return the moment it may be sent.

        Raises what opened the breaker. Pass the tokens to `rate.settle` if nothing is sent.
        """
        at = await self.rate.take(tokens)
        self.breaker.check()
        return at

    def replied(self, reply: ServerReply) -> None:
        """Report a reply, so that its latency and its headers count."""
        self._has_response = True
        self.concurrency.report(reply.seconds, "ok", reply.usage.completion if reply.usage else None)
        self.rate.hint(reply.headers)

    def failed(self, error: CallError, at: float, tokens: int) -> None:
        """Report the failure of a request of an estimated `tokens` that was sent at `at`."""
        self._has_response = self._has_response or error.status is not None
        is_refused = error.status in OVERLOAD_STATUSES
        self.concurrency.report(loop_time() - at, "refused" if is_refused else "failed")
        if error.status == 429:
            self.rate.refused(at, tokens)

    def wait_before_retry(self, error: CallError, tries: int) -> float | None:
        """Return the seconds until a request is sent again after `tries`; None to give it up."""
        if error.status != 429:
            self.breaker.failure(error.words)
        wait = retry_delay(tries, self._tries, retry_after(error.headers, dt.datetime.now(dt.UTC)))
        if wait is None or (not self._has_response and tries >= _TRIES_WITHOUT_RESPONSE):
            return None
        if error.slow_down:
            self.rate.pause(wait)
            return 0.0
        return wait


def retry_delay(tried: int, tries: int, asked: float | None = None) -> float | None:
    """Return the seconds before the next try after `tried` (from 1) of `tries`; None: give the request up.

    Full jitter: a uniform draw up to 2^(tried - 1) s, no more than a minute (Brooker, "Exponential Backoff
    And Jitter", AWS Architecture Blog, 2015). What the server `asked` for comes before it.
    """
    if tried >= tries or (asked is not None and asked > _LONGEST_S):
        return None
    if asked is None:
        return random.uniform(0, min(_CAP_S, _BASE_S * 2 ** (tried - 1)))
    # A tenth more than was asked for, so that not all requests return in one moment.
    return asked + random.uniform(0, max(0.1 * asked, 0.1))


class CircuitBreaker:
    """Checked right before each request is sent: `check` raises once it is open.

    It stays open; the next run starts with a closed one. Requests in flight are not canceled: their replies
    are paid for and are kept. A 429 is flow control and not a failure: do not report it.
    """

    def __init__(self, config: BreakerConfig, section: str = "teacher") -> None:
        """`section` is the config section of the endpoint, for messages."""
        self._config, self._section = config, section
        self._failures = 0
        self._failing_since = 0.0
        self._share_since: float | None = None
        self._window: deque[bool] = deque(maxlen=config.window)
        self.error: Exception | None = None

    def check(self) -> None:
        """Raise the error that opened it, if any."""
        if self.error is not None:
            raise self.error

    def refuse(self, error: Exception) -> None:
        """Open at once: a refusal of the key, the account or the model, or the budget spent."""
        self.error = self.error or error

    def success(self) -> None:
        """Count a request that was answered, whatever the answer."""
        self._failures = 0
        self._window.append(True)

    def failure(self, words: str) -> None:
        """Count a failed request: no answer, 5xx, or given up. `words` are the server's."""
        now, config = loop_time(), self._config
        self._failing_since = now if self._failures == 0 else self._failing_since
        self._failures += 1
        self._window.append(False)
        lasted = now - self._failing_since
        # Many requests fail together in a hiccup of a second, so a number alone means little.
        if self._failures >= config.failures and lasted >= config.patience_s:
            self._trip(f"{self._failures} requests in a row failed, for {lasted:.0f} seconds", words)
        failed = self._window.count(False)
        if len(self._window) < config.window or failed / len(self._window) < config.rate:
            self._share_since = None
            return
        self._share_since = now if self._share_since is None else self._share_since
        if now - self._share_since >= config.patience_s:
            self._trip(f"{failed} of the last {len(self._window)} requests failed", words)

    def _trip(self, what: str, words: str) -> None:
        section = self._section
        message = (
            f"the endpoint does not work: {what}, the last with {words}; check whether it is up "
            f"({section}.base_url), and run the same command again: stored answers are not requested twice. "
            f"{section}.limits.breaker sets how many failures are tolerated"
        )
        self.refuse(BreakerOpen(message))


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
