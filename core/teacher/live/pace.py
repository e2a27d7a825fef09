"""How many requests and tokens a minute are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from core.teacher.live.bucket import MINUTE, Bucket
from core.teacher.live.clock import Clock
from core.teacher.live.probing import ProbedRate
from core.teacher.live.ratelimits import Kind, read_rate_limit

_UNBOUND = 1e9
# A sleeper looks again so often, since settling and hints may have changed how long to wait.
_LOOK_S = 1.0


class Pace:
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
        self._buckets: dict[Kind, Bucket] = {}
        given: dict[Kind, float | None] = {"requests": requests_per_minute, "tokens": tokens_per_minute}
        for kind, limit in given.items():
            self._buckets[kind] = Bucket.within(limit or _UNBOUND * MINUTE, burst_s, now)
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
        kinds: tuple[Kind, ...] = ("requests", "tokens")
        for kind in kinds:
            limit = read_rate_limit(headers, kind)
            if limit is not None and limit.rate is not None:
                self._hints[kind] = (limit.rate, self._clock.monotonic() + limit.reset_s)

    def requests_per_second(self) -> float | None:
        """The rate at the moment; None: there is no limit."""
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
