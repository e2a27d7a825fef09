"""How many requests and tokens a minute are sent: by the config, the server's headers and its refusals."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import re
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal, Protocol


class Clock(Protocol):
    """A monotonic clock and a sleep, both in seconds."""

    def monotonic(self) -> float:
        """Seconds from some fixed moment; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""


class RealClock:
    """The machine's clock and asyncio's sleep."""

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


_UNBOUND = 1e9
# A sleeper looks again so often, since settling and hints may have changed how long to wait.
_LOOK_S = 1.0


class RateLimiter:
    """Lets requests through evenly, in the order in which they came.

    The rate is the least of what the config allows (in any minute, the burst included), what the
    server's headers suggest, and, after a 429, what the server was seen to take. One request waits
    at the gate while the others queue behind it, so nothing wakes a crowd.
    """

    def __init__(
        self,
        clock: Clock,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        burst_s: float = 2.0,
    ) -> None:
        now = clock.monotonic()
        self._clock = clock
        self._gate = asyncio.Lock()
        self._limits: dict[Kind, float] = {"requests": _UNBOUND, "tokens": _UNBOUND}
        self._buckets: dict[Kind, TokenBucket] = {}
        given: dict[Kind, float | None] = {"requests": requests_per_minute, "tokens": tokens_per_minute}
        for kind, limit in given.items():
            self._buckets[kind] = TokenBucket.within(limit or _UNBOUND * MINUTE, burst_s, now)
            self._limits[kind] = self._buckets[kind].rate
        self._hints: dict[Kind, tuple[float, float]] = {}
        self._probed = ProbedRate()

    async def take(self, tokens: int) -> float:
        """Wait for the turn of a request of an estimated `tokens`; the moment it may be sent."""
        async with self._gate:
            while (wait := self._wait(tokens)) > 0:
                await self._clock.sleep(min(wait, _LOOK_S))
            now = self._clock.monotonic()
            self._buckets["requests"].spend(1, now)
            self._buckets["tokens"].spend(tokens, now)
            self._probed.sent(now)
            return now

    def settle(self, estimated: int, used: int) -> None:
        """A request was answered: correct its estimate by what the server counted."""
        now = self._clock.monotonic()
        self._buckets["tokens"].spend(used - estimated, now)
        self._probed.delivered(now)

    def refused(self, sent_at: float, estimated: int) -> None:
        """A 429 to the request let through at `sent_at`: slow down; it used none of its tokens."""
        now = self._clock.monotonic()
        self._buckets["tokens"].spend(-estimated, now)
        if self._probed.refused(sent_at, now):
            self._buckets["requests"].empty(now)

    def hint(self, headers: Mapping[str, str]) -> None:
        """Follow a response's x-ratelimit headers until the reset that they name."""
        if not any("limit" in name.lower() for name in headers):
            return
        kinds: tuple[Kind, ...] = ("requests", "tokens")
        for kind in kinds:
            limit = read_rate_limit(headers, kind)
            if limit is not None and limit.rate is not None:
                self._hints[kind] = (limit.rate, self._clock.monotonic() + limit.reset_s)

    def requests_per_second(self) -> float | None:
        """The present rate; None without a limit."""
        rate = self._rate("requests", self._clock.monotonic())
        return rate if rate < _UNBOUND else None

    def _wait(self, tokens: int) -> float:
        now = self._clock.monotonic()
        for kind, bucket in self._buckets.items():
            bucket.set_rate(self._rate(kind, now), now)
        return max(self._buckets["requests"].wait(1, now), self._buckets["tokens"].wait(tokens, now))

    def _rate(self, kind: Kind, now: float) -> float:
        rate = self._limits[kind]
        hinted, until = self._hints.get(kind, (rate, now))
        if now < until:
            rate = min(rate, hinted)
        probed = self._probed.rate(now) if kind == "requests" else None
        return rate if probed is None else min(rate, probed)


MINUTE = 60.0


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

    @classmethod
    def within(cls, a_minute: float, burst_s: float, now: float) -> TokenBucket:
        """A bucket that lets no more than `a_minute` through in any minute, its burst included.

        Holds exactly for units of one; a demand larger than the bucket passes it by what it is larger.
        """
        return cls(a_minute / (MINUTE + burst_s), burst_s, now)

    @property
    def rate(self) -> float:
        """Units a second."""
        return self._rate

    def set_rate(self, rate: float, now: float) -> None:
        """Fill at another rate from now on; what a smaller bucket cannot hold is lost."""
        self._fill(now)
        self._rate = rate
        self._level = min(self._level, self._capacity)

    def empty(self, now: float) -> None:
        """Lose what was saved up; a debt stays."""
        self._fill(now)
        self._level = min(self._level, 0.0)

    def wait(self, units: float, now: float) -> float:
        """Seconds until `units` may pass; 0 or less: now."""
        self._fill(now)
        missing = min(units, self._capacity) - self._level
        wait = missing / self._rate
        # A wait that is lost in the clock's rounding would never end.
        return wait if wait > 1e-6 else 0.0

    def spend(self, units: float, now: float) -> None:
        """Take `units` out; negative units are given back."""
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
# Requests a second: one in ten seconds is little enough for any server.
_LEAST_RATE = 0.1


class ProbedRate:
    """Requests a second that a server was seen to take: no limit until it first refuses.

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
        """A request goes out."""
        self._first = now if self._first is None else self._first
        _append(self._sent, now)

    def delivered(self, now: float) -> None:
        """A request was answered."""
        _append(self._answered, now)

    def refused(self, sent_at: float, now: float) -> bool:
        """A request sent at `sent_at` was refused; whether the rate fell for it."""
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
        """Requests a second at `now`; None: nothing was refused so far."""
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


Kind = Literal["requests", "tokens"]
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
# Below this share of its limit a server is taken to have this share left: the rate must not be 0.
_LEAST_SHARE = 0.02
_NAMES: dict[Kind, tuple[str, ...]] = {
    "requests": (
        "x-ratelimit-{}-requests",
        "anthropic-ratelimit-requests-{}",
        "x-ratelimit-{}",
        "ratelimit-{}",
    ),
    "tokens": ("x-ratelimit-{}-tokens", "anthropic-ratelimit-tokens-{}", "x-tokenlimit-{}"),
}
"""Header names of a kind, with a place for limit, remaining and reset; the first that is complete counts."""
_BARE_WINDOW_S = 120.0
"""A header that names no kind may be about a day, over which a run must not be spread."""
_EPOCH_S, _EPOCH_MS = 1e9, 1e11
"""Resets above these are moments and not durations."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Of `limit` units, `remaining` are left, and all of them again in `reset_s` seconds."""

    limit: float | None
    remaining: float
    reset_s: float

    @property
    def rate(self) -> float | None:
        """Units a second that what is left can stand until the reset; None: as many as one likes.

        Right for a server that counts in fixed windows: the rest is spread over the window. Of a
        server that refills all the time it asks to stay above half its limit and lets through, in
        balance, exactly what it refills; so the two need not be distinguished.
        """
        if self.reset_s <= 0:
            return None
        return max(self.remaining, _LEAST_SHARE * (self.limit or 0), 1.0) / self.reset_s


def read_rate_limit(
    headers: Mapping[str, str], kind: Kind, now: dt.datetime | None = None
) -> RateLimit | None:
    """The limit of a kind, in the header names of OpenAI, Anthropic or Together; None where there is none, or
    nonsense. A moment is compared with the response's own Date, else with `now`.
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    for name in _NAMES[kind]:
        limit = _number(lower.get(name.format("limit")))
        remaining = _number(lower.get(name.format("remaining")))
        # Some servers send -1 or a limit of 0 where they mean that there is none.
        if remaining is None or remaining < 0 or limit == 0:
            continue
        reset = reset_seconds(lower.get(name.format("reset"), ""), server_time(lower, now))
        longest = _BARE_WINDOW_S if name.endswith("ratelimit-{}") else math.inf
        if reset is None or reset > longest:
            continue
        return RateLimit(limit, remaining, reset)
    return None


def exhausted_for(headers: Mapping[str, str], now: dt.datetime | None = None) -> float | None:
    """Seconds until every limit of which nothing remains is reset; None where none is used up."""
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    resets = [
        reset_seconds(lower.get(name.format("reset"), ""), server_time(lower, now))
        for names in _NAMES.values()
        for name in names
        if _number(lower.get(name.format("remaining"))) == 0
    ]
    return max((reset for reset in resets if reset is not None), default=None)


def reset_seconds(text: str, now: dt.datetime) -> float | None:
    """Seconds until a reset: a duration, or a moment as an HTTP date, RFC 3339, or Unix seconds or ms."""
    plain = seconds(text)
    if plain is not None and plain >= _EPOCH_S:
        return max(0.0, plain / (1000 if plain >= _EPOCH_MS else 1) - now.timestamp())
    if plain is not None:
        return plain
    moment = date(text)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def server_time(lower: Mapping[str, str], now: dt.datetime | None = None) -> dt.datetime:
    """The response's own Date, since the server's clock is not ours; else `now`, else the present."""
    return date(lower.get("date", "")) or now or dt.datetime.now(dt.UTC)


def date(text: str) -> dt.datetime | None:
    """An HTTP date or RFC 3339; None for other texts."""
    for read in (parsedate_to_datetime, dt.datetime.fromisoformat):
        try:
            moment = read(text)
        except ValueError:
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return None


def seconds(text: str) -> float | None:
    """A duration as OpenAI writes it ("1s", "6m0s", "120ms"), or plain seconds; None: neither."""
    text = text.strip()
    plain = _number(text)
    if plain is not None:
        return plain if plain >= 0 else None
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
