"""Virtual time and simulated servers: hours of traffic in a second, the same on every machine."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    """A selector that does not wait: it moves the loop's time to the next thing due."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everything waits for something that never comes")
        # What is due in less than the loop's resolution counts as due.
        self.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time: sleeping takes none."""

    def __init__(self) -> None:
        self.jumping = _Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


@dataclass
class Reply:
    """A status and headers."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """Serves `at_once` requests, each for a latency with a spread; others wait in its queue.

    `admit` is asked at arrival, with the time, and refuses with 429.
    """

    latency: float = 1.0
    at_once: int = 10**9
    spread: float = 0.0
    admit: Callable[[float], bool] = lambda now: True
    headers: Callable[[float], Mapping[str, str]] = lambda now: {}
    seed: int = 0
    replies: list[tuple[float, int, float]] = field(default_factory=list)
    """When each reply was given, its status, and how long it took."""

    def __post_init__(self) -> None:
        self._room = asyncio.Semaphore(self.at_once)
        self._random = random.Random(self.seed)
        self.inside = 0

    async def ask(self) -> Reply:
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        status = 200
        if not self.admit(arrived):
            status = 429
            await asyncio.sleep(0.05)
        else:
            self.inside += 1
            try:
                async with self._room:
                    await asyncio.sleep(self.latency * self._random.lognormvariate(0, self.spread))
            finally:
                self.inside -= 1
        now = loop.time()
        self.replies.append((now, status, now - arrived))
        return Reply(status, self.headers(now))

    def between(self, start: float, end: float, status: int = 200) -> int:
        """How many replies of a status were given in a span of time."""
        return sum(1 for at, code, _ in self.replies if start <= at < end and code == status)

    def latencies(self, start: float, end: float) -> list[float]:
        return [took for at, code, took in self.replies if start <= at < end and code == 200]


class BucketLimit:
    """A hidden limit that refills all the time, with a burst of some seconds."""

    def __init__(self, a_minute: float, burst_s: float) -> None:
        self.rate, self.capacity = a_minute / 60, max(1.0, a_minute / 60 * burst_s)
        self.level, self.at = self.capacity, 0.0

    def __call__(self, now: float) -> bool:
        self.fill(now)
        if self.level < 1:
            return False
        self.level -= 1
        return True

    def fill(self, now: float) -> None:
        self.level = min(self.capacity, self.level + (now - self.at) * self.rate)
        self.at = now

    def headers(self, now: float) -> Mapping[str, str]:
        """Headers as OpenAI sends them: the whole limit again once the bucket is full."""
        self.fill(now)
        reset = (self.capacity - self.level) / self.rate
        minutes, seconds = divmod(reset, 60)
        return {
            "x-ratelimit-limit-requests": str(int(self.capacity)),
            "x-ratelimit-remaining-requests": str(int(self.level)),
            "x-ratelimit-reset-requests": f"{int(minutes)}m{seconds:.3f}s" if minutes else f"{reset:.3f}s",
        }


class WindowLimit:
    """A limit that counts in fixed minutes."""

    def __init__(self, a_minute: int) -> None:
        self.limit, self.minute, self.used = a_minute, -1, 0

    def __call__(self, now: float) -> bool:
        if int(now // 60) != self.minute:
            self.minute, self.used = int(now // 60), 0
        self.used += 1
        return self.used <= self.limit

    def headers(self, now: float) -> Mapping[str, str]:
        left = max(0, self.limit - self.used) if int(now // 60) == self.minute else self.limit
        return {
            "X-RateLimit-Limit-Requests": str(self.limit),
            "X-RateLimit-Remaining-Requests": str(left),
            "X-RateLimit-Reset-Requests": f"{60 - now % 60:.0f}",
        }


class SlidingLimit:
    """A limit over the last minute at any moment."""

    def __init__(self, a_minute: int) -> None:
        self.limit = a_minute
        self.taken: deque[float] = deque()

    def __call__(self, now: float) -> bool:
        while self.taken and self.taken[0] <= now - 60:
            self.taken.popleft()
        if len(self.taken) >= self.limit:
            return False
        self.taken.append(now)
        return True
