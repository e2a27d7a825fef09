"""How many requests and tokens a minute are sent, and what a run may spend.

The rate follows the config, the server's headers and its refusals. The budget reserves what a request is
expected to take.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core.completions.failures import LimitKind, read_rate_limit
from core.config import BudgetConfig
from core.cost import Price, Range, Usage, cost
from core.errors import BudgetSpent
from core.prompts import Message

MINUTE = 60.0
_UNBOUND = 1e9
_LOOK_S = 1.0
"""A sleeper checks again this often, since settling and hints may have changed how long to wait."""


def loop_time() -> float:
    """Return the running event loop's monotonic time, in seconds."""
    return asyncio.get_running_loop().time()


class RateLimiter:
    """Lets requests through evenly, in the order in which they came.

    The rate is the minimum of what the config allows (in any minute, including the burst), what the
    server's headers suggest, and, after a 429, what the server was seen to accept. One request waits
    at the gate while the others queue behind it.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        burst_s: float = 2.0,
    ) -> None:
        now = loop_time()
        self._gate = asyncio.Lock()
        given: dict[LimitKind, float | None] = {"requests": requests_per_minute, "tokens": tokens_per_minute}
        # A bucket lets no more than the limit through in any minute, its burst included.
        self._limits = {
            kind: (limit or _UNBOUND * MINUTE) / (MINUTE + burst_s) for kind, limit in given.items()
        }
        self._buckets = {kind: TokenBucket(rate, burst_s, now) for kind, rate in self._limits.items()}
        self._hints: dict[LimitKind, tuple[float, float]] = {}
        self._probed = ProbedRate()
        self._paused_until, self._spread = now, 0.0

    def pause(self, wait_s: float) -> None:
        """Let nothing through for so many seconds, or until the end of a longer pause: a 429 to one request
        concerns all. They resume spread out.
        """
        until = loop_time() + wait_s
        if until > self._paused_until:
            self._paused_until, self._spread = until, min(1.0, 0.1 * wait_s)

    async def take(self, tokens: int) -> float:
        """Wait for the turn of a request of an estimated `tokens`; return the moment it may be sent."""
        while (left := self._paused_until - loop_time()) > 1e-6:
            await asyncio.sleep(left + random.uniform(0, self._spread))
        async with self._gate:
            while True:
                now = loop_time()
                for kind, bucket in self._buckets.items():
                    bucket.set_rate(self._rate(kind, now), now)
                wait = max(self._buckets["requests"].wait(1, now), self._buckets["tokens"].wait(tokens, now))
                if wait <= 0:
                    break
                await asyncio.sleep(min(wait, _LOOK_S))
            self._buckets["requests"].spend(1, now)
            self._buckets["tokens"].spend(tokens, now)
            self._probed.sent(now)
            return now

    def settle(self, estimated: int, used: int) -> None:
        """Correct the estimate of an answered request by what the server counted."""
        now = loop_time()
        self._buckets["tokens"].spend(used - estimated, now)
        self._probed.delivered(now)

    def refused(self, sent_at: float, estimated: int) -> None:
        """Slow down after a 429 to the request let through at `sent_at`; it used none of its tokens."""
        now = loop_time()
        self._buckets["tokens"].spend(-estimated, now)
        if self._probed.refused(sent_at, now):
            self._buckets["requests"].empty(now)

    def hint(self, headers: Mapping[str, str]) -> None:
        """Follow a response's x-ratelimit headers until the reset that they name."""
        if not any("limit" in name.lower() for name in headers):
            return
        for kind in self._limits:
            limit = read_rate_limit(headers, kind)
            if limit is not None and limit.rate is not None:
                self._hints[kind] = (limit.rate, loop_time() + limit.reset_s)

    def _rate(self, kind: LimitKind, now: float) -> float:
        rate = self._limits[kind]
        hinted, until = self._hints.get(kind, (rate, now))
        if now < until:
            rate = min(rate, hinted)
        probed = self._probed.rate(now) if kind == "requests" else None
        return rate if probed is None else min(rate, probed)


class TokenBucket:
    """Fills at `rate` units a second up to `burst_s` seconds' worth, but no less than one unit.

    A demand larger than the bucket is let through when it is full and leaves a debt, which delays
    what comes after; so the mean rate holds for demands of any size. Units are requests or tokens.
    """

    def __init__(self, rate: float, burst_s: float, now: float) -> None:
        self._rate = rate
        self._burst_s = burst_s
        self._level = self._capacity
        self._filled_at = now

    def set_rate(self, rate: float, now: float) -> None:
        """Fill at another rate from now on; what exceeds a smaller bucket is lost."""
        self._fill(now)
        self._rate = rate
        self._level = min(self._level, self._capacity)

    def empty(self, now: float) -> None:
        """Drop what was saved up; a debt stays."""
        self._fill(now)
        self._level = min(self._level, 0.0)

    def wait(self, units: float, now: float) -> float:
        """Return the seconds until `units` may pass; 0: now."""
        self._fill(now)
        missing = min(units, self._capacity) - self._level
        wait = missing / self._rate
        # A wait that is lost in the clock's rounding would never end.
        return wait if wait > 1e-6 else 0.0

    def spend(self, units: float, now: float) -> None:
        """Take `units` out; negative units are returned."""
        self._fill(now)
        self._level = min(self._level - units, self._capacity)

    @property
    def _capacity(self) -> float:
        return max(1.0, self._rate * self._burst_s)

    def _fill(self, now: float) -> None:
        self._level = min(self._level + (now - self._filled_at) * self._rate, self._capacity)
        self._filled_at = now


_SHORT_S, _LONG_S = 10.0, 60.0
_BACK_OFF = 0.9
_RECOVERY_S = 15.0
_RECOVERY_REQUESTS = 60.0
_COUNTED = 30
_PROBE = 0.05
_LEAST_RATE = 0.1
"""Requests a second: one in ten seconds is little enough for any server."""


class ProbedRate:
    """Requests a second that a server was seen to accept: no limit until it first refuses.

    After a refusal the rate falls to nine tenths of what was delivered, then follows the cubic of
    TCP CUBIC (Ha, Rhee and Xu 2008; RFC 9438): back to the delivered rate fast, flat around it, and
    slowly beyond. Refusals of requests sent before the last fall change nothing.
    """

    def __init__(self) -> None:
        self._sent: deque[float] = deque()
        self._answered: deque[float] = deque()
        self._first: float | None = None
        self._plateau: float | None = None
        self._start = 0.0
        self._fell_at = 0.0

    def sent(self, now: float) -> None:
        self._first = now if self._first is None else self._first
        _append(self._sent, now)

    def delivered(self, now: float) -> None:
        _append(self._answered, now)

    def refused(self, sent_at: float, now: float) -> bool:
        """Count a refusal of a request sent at `sent_at`; return whether the rate fell for it."""
        if self._plateau is not None and sent_at < self._fell_at:
            return False
        before = self.rate(now)
        if before is None:
            before = self._seen(self._sent, _SHORT_S, now)
        # Few answers in the short look would be mostly chance.
        span = min(max(_SHORT_S, _COUNTED / max(before, _LEAST_RATE)), _LONG_S)
        short, long = self._seen(self._answered, span, now), self._seen(self._answered, _LONG_S, now)
        # A server that counts in minutes answers nothing once one is used up, so the short look
        # falls to nothing, and only the long one shows what to return to.
        self._start = max(_BACK_OFF * min(short, long, before), 0.5 * before, _LEAST_RATE)
        self._plateau = max(long, self._start)
        self._fell_at = now
        return True

    def rate(self, now: float) -> float | None:
        """Return the requests a second at `now`; None: nothing was refused so far."""
        if self._plateau is None:
            return None
        # A cycle of few requests would make its one refusal a large share of them.
        recovery = min(max(_RECOVERY_S, _RECOVERY_REQUESTS / self._plateau), _LONG_S)
        x = (now - self._fell_at) / recovery - 1
        fall = self._plateau - self._start
        # Beyond the plateau a small fall must not mean a small step, nor a deep one a leap.
        return self._plateau + (fall if x < 0 else _PROBE * self._plateau) * x**3

    def _seen(self, moments: deque[float], span: float, now: float) -> float:
        """Events a second over the last `span` seconds, or since the first request."""
        count = sum(1 for moment in moments if moment > now - span)
        return count / max(min(span, now - (self._first or 0.0)), 1.0)


def _append(moments: deque[float], now: float) -> None:
    moments.append(now)
    while moments[0] < now - _LONG_S:
        moments.popleft()


BYTES_PER_TOKEN = 4.0
"""Of English in the vocabularies in use; other scripts take up to three times the tokens, which the
first answers show."""
_PER_MESSAGE = 4
LEARNED_AFTER = 20


@dataclass(slots=True)
class RequestLedger:
    """What this start of the run sent, and the outcomes."""

    answered: int = 0
    usage: Usage = field(default_factory=Usage)
    retried: Counter[str] = field(default_factory=Counter)
    """Requests that were sent again, by reason."""
    unread: Counter[str] = field(default_factory=Counter)
    """Requests that the endpoint rejects for their text, by its words."""
    failed: dict[str, str] = field(default_factory=dict)
    """Ids of requests that were not answered in all tries, with the last try's words."""

    @property
    def given_up(self) -> Counter[str]:
        """Requests without an answer, by the endpoint's words."""
        return self.unread + Counter(self.failed.values())


class Budget:
    """Limits of money and tokens, reserved before a request is sent and settled after.

    Spending stays within the limits as long as no answer takes more than was reserved for it, and otherwise
    exceeds them by no more than the requests in flight.
    """

    def __init__(
        self,
        limits: BudgetConfig,
        price: Price | None = None,
        spent: Usage | None = None,
        section: str = "teacher",
    ) -> None:
        """`spent` is what earlier starts of the run used; `section` the config section, for messages."""
        self.limits, self.price, self._section = limits, price, section
        self.spent, self.reserved = spent or Usage(), Usage()
        """Settled so far, earlier starts included; and held back for requests in flight."""
        self._gate = asyncio.Lock()
        self._settled = asyncio.Event()

    async def reserve(self, estimate: Usage) -> None:
        """Reserve `estimate`, in the order of the calls, to be settled later.

        Waits while only the reservations of others are in the way: most answers take less than was reserved.
        Raises BudgetSpent if the remaining budget is too small for this request.
        """
        async with self._gate:
            self._require(estimate)
            while not self._fits(self.spent + self.reserved + estimate):
                self._settled.clear()
                await self._settled.wait()
                self._require(estimate)
            self.reserved += estimate

    def settle(self, reserved: Usage, used: Usage) -> None:
        """Release the reservation of a request that has ended, and add what it used."""
        self.reserved -= reserved
        self.spent += used
        self._settled.set()

    def _fits(self, total: Usage) -> bool:
        usd, tokens = self.limits.usd, self.limits.tokens
        return (usd is None or cost(total, self.price) <= usd) and (tokens is None or total.total <= tokens)

    def _require(self, estimate: Usage) -> None:
        if self._fits(self.spent + estimate):
            return
        usd, tokens = self.limits.usd, self.limits.tokens
        if usd is not None and cost(self.spent + estimate, self.price) > usd:
            name, need = "usd", f"${cost(estimate, self.price):.4f}"
            spent = f"${cost(self.spent, self.price):.4f} of ${usd:.4f}"
        else:
            name, spent, need = "tokens", f"{self.spent.total} tokens of {tokens}", str(estimate.total)
        setting = f"{self._section}.budget.{name}"
        raise BudgetSpent(
            f"{setting} is spent: {spent}, and the next request may take {need}; raise {setting} and run the "
            "same command again: stored answers are not requested twice"
        )


class _Mean:
    """A running mean with its standard error (Welford 1962)."""

    def __init__(self) -> None:
        self.n, self.mean, self._m2 = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        self.n += 1
        delta = value - self.mean
        self.mean += delta / self.n
        self._m2 += delta * (value - self.mean)

    def interval(self) -> Range:
        error = 1.96 * math.sqrt(self._m2 / (self.n - 1) / self.n) if self.n > 1 else math.inf
        return Range(max(0.0, self.mean - error), self.mean, self.mean + error)


class Estimator:
    """Tokens of prompts and completions: bytes/4 and `max_tokens` at first, learned after 20 answers."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._ratio = _Mean()
        self._completions = _Mean()

    @property
    def learned(self) -> bool:
        """Whether the server's own counts are used."""
        return self._ratio.n >= LEARNED_AFTER

    def prompt(self, rough: float) -> Range:
        """Return the tokens of a prompt of `rough` tokens by `rough_tokens`; wide bounds until learned."""
        return self._ratio.interval() * rough if self.learned else Range(0.5 * rough, rough, 3 * rough)

    def completion(self) -> Range:
        """Return the mean completion; until learned, up to `max_tokens`, most likely a tenth of it."""
        if self.learned:
            return self._completions.interval()
        return Range(0.0, 0.1 * self._max_tokens, float(self._max_tokens))

    def reservation(self, rough: float) -> Usage:
        """Return what to reserve: the means, rounded up; for the completion all it may have until learned."""
        completion = self._completions.mean if self.learned else self._max_tokens
        return Usage(math.ceil(self.prompt(rough).mean), math.ceil(completion))

    def learn(self, rough: float, usage: Usage) -> None:
        """Add what the server counted for an answer to a prompt that is `rough`."""
        self._ratio.add(usage.prompt / rough)
        self._completions.add(usage.completion)


def rough_tokens(messages: Sequence[Message]) -> float:
    """Return the tokens of a prompt by its bytes alone."""
    size = sum(len(m.role) + len(m.content.encode("utf-8", "surrogatepass")) for m in messages)
    return size / BYTES_PER_TOKEN + _PER_MESSAGE * max(1, len(messages))
