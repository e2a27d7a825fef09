"""RateLimiter, concurrency, pause and breaker on one endpoint do not work against each other."""

from __future__ import annotations

import asyncio
import random

import pytest

from core.completions.budget import Budget, Spending
from core.completions.concurrency import AdaptiveConcurrency
from core.completions.flow_control import Backoff, CircuitBreaker, Pause
from core.completions.rate_limiter import RateLimiter
from core.config.endpoint import BreakerConfig
from tests.core.completions.simulation import BucketLimit, Server, VirtualClock, WindowLimit, run_virtually


class Caller:
    """Sends requests the way a teacher does: a place, then its turn, then a last look at the breaker."""

    def __init__(self, server: Server, maximum: int) -> None:
        self.server, self.clock, self.rng = server, VirtualClock(), random.Random(0)
        self.breaker = CircuitBreaker(self.clock, BreakerConfig())
        self.limiter, self.pace = AdaptiveConcurrency(self.clock, maximum), RateLimiter(self.clock)
        self.pause, self.budget = Pause(self.clock, self.rng), Budget(None, None)

    async def ask(self) -> None:
        tried = 0
        while True:
            async with self.limiter.slot() as slot:
                await self.pause.over()
                held = await self.budget.reserve(Spending(0, 100))
                at = await self.pace.take(100)
                self.breaker.check()
                reply = await self.server.ask()
                took = self.clock.monotonic() - at
                good = reply.status == 200
                self.budget.settle(held, Spending(0, 100 if good else 0))
                slot.done(took, "ok" if good else "refused")
                if good:
                    self.breaker.success()
                    return self.pace.settle(100, 100)
                self.pace.refused(at, 100)
                tried += 1
                self.pause.hold(Backoff(tries=99).wait(min(tried, 2), None, self.rng) or 0)

    async def run(self, workers: int, until: float) -> None:
        async def worker() -> None:
            while self.clock.monotonic() < until:
                await self.ask()

        await asyncio.gather(*(worker() for _ in range(workers)))


@pytest.mark.parametrize("kind", ["bucket", "minutes"])
@pytest.mark.parametrize("latency", [1.0, 8.0])
def test_a_hidden_limit_is_used_with_few_refusals_by_all_parts_together(kind: str, latency: float) -> None:
    async def main() -> Server:
        server = Server(
            latency, spread=0.4, admit=BucketLimit(600, 2) if kind == "bucket" else WindowLimit(600)
        )
        await Caller(server, 256).run(256, 900)
        return server

    server = run_virtually(main())
    good, bad = server.between(300, 900), server.between(300, 900, 429)
    assert good >= 0.9 * 6000
    assert bad / (good + bad) <= 0.05


def test_without_limits_the_parts_together_cost_nothing() -> None:
    async def main() -> Server:
        server = Server(1.0, spread=0.3)
        await Caller(server, 256).run(256, 100)
        return server

    server = run_virtually(main())
    # A lognormal spread of 0.3 makes the mean latency 1.046 of the median.
    assert server.between(10, 100) / 90 >= 0.95 * 256 / 1.046
