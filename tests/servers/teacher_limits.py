"""What holds requests back: token buckets that refuse, a gate that lets wait, and time."""

from __future__ import annotations

import asyncio
import email.utils
import math
import random
import time
from collections import deque

from tests.servers.teacher_orders import Delay, Limit


class Bucket:
    """Fills with `per_minute` units a minute up to its size."""

    def __init__(self, per_minute: float, size: float) -> None:
        self.per_s, self.size = per_minute / 60, size
        self.level, self._at = size, time.monotonic()

    def missing(self, units: float) -> float:
        """Seconds until so many units are there; 0 when they are. A request above its size needs all."""
        now = time.monotonic()
        self.level = min(self.size, self.level + (now - self._at) * self.per_s)
        self._at = now
        return max(0.0, (min(units, self.size) - self.level) / self.per_s)

    def full_in(self) -> float:
        """Seconds until it is full."""
        return (self.size - self.level) / self.per_s


class RateLimit:
    """The buckets of a limit, and the headers that tell of them."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        rates = {"requests": limit.requests_per_minute, "tokens": limit.tokens_per_minute}
        self.buckets = {
            name: Bucket(rate, max(1.0, rate * limit.burst_s / 60)) for name, rate in rates.items() if rate
        }

    def take(self, tokens: int) -> tuple[str, float] | None:
        """Take a request out; else which bucket lacks it and for how many seconds, nothing taken."""
        units = {"requests": 1, "tokens": tokens}
        waits = {name: bucket.missing(units[name]) for name, bucket in self.buckets.items()}
        name = max(waits, key=lambda n: waits[n], default="")
        if name and waits[name] > 0:
            return name, waits[name]
        for name, bucket in self.buckets.items():
            bucket.level -= units[name]
        return None

    def headers(self) -> dict[str, str]:
        """x-ratelimit-* as OpenAI sends them; none where the limit is hidden."""
        if self.limit.hidden:
            return {}
        found = {}
        for name, bucket in self.buckets.items():
            found[f"x-ratelimit-limit-{name}"] = str(round(bucket.per_s * 60))
            found[f"x-ratelimit-remaining-{name}"] = str(max(0, math.floor(bucket.level)))
            found[f"x-ratelimit-reset-{name}"] = duration(bucket.full_in())
        return found

    def retry_after(self, wait: float) -> dict[str, str]:
        """When to come again, in the form that was asked for; never too early."""
        if self.limit.hidden or self.limit.retry_after == "none":
            return {}
        if self.limit.retry_after == "date":
            return {"Retry-After": email.utils.formatdate(math.ceil(time.time() + wait), usegmt=True)}
        seconds = {"Retry-After": str(math.ceil(wait))}
        if self.limit.retry_after == "milliseconds":
            seconds["retry-after-ms"] = str(math.ceil(wait * 1000))
        return seconds


def duration(seconds: float) -> str:
    """As OpenAI writes it: 12ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"


class Gate:
    """Lets `capacity` in at once, in the order in which they came; None: everybody."""

    def __init__(self) -> None:
        self.capacity: int | None = None
        self.inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def open(self, capacity: int | None) -> None:
        """Change the capacity; those inside stay."""
        self.capacity = capacity
        self._admit()

    async def enter(self) -> None:
        """Wait for a place."""
        if not self._waiting and self._free():
            self.inside += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        await place

    def leave(self) -> None:
        """Give the place to the next."""
        self.inside -= 1
        self._admit()

    def _free(self) -> bool:
        return self.capacity is None or self.inside < self.capacity

    def _admit(self) -> None:
        while self._waiting and self._free():
            place = self._waiting.popleft()
            if not place.done():
                self.inside += 1
                place.set_result(None)


class Work:
    """How long each request takes: the same times in the same order for the same seed."""

    def __init__(self, delay: Delay) -> None:
        self.delay = delay
        self._random = random.Random(delay.seed)

    def seconds(self) -> float:
        """The time of the next request."""
        scale, spread = self.delay.seconds, self.delay.spread
        if self.delay.tail == "lognormal":
            return scale * self._random.lognormvariate(0, spread)
        if self.delay.tail == "pareto":
            return scale * self._random.paretovariate(spread)
        return scale
