"""Concurrency, rate limiter, pauses and budget work together on one endpoint."""

from __future__ import annotations

import asyncio
import random

import pytest

from core.completions.client import ServerReply
from core.completions.failures import CallError
from core.completions.flow_control import FlowControl
from core.completions.limits import Budget, loop_time
from core.config import BudgetConfig, Endpoint, LimitsConfig
from core.cost import Usage
from tests.core.completions.simulation import BucketLimit, Server, WindowLimit, run_virtually


class Caller:
    """Sends requests the way a teacher does, each of 100 tokens."""

    def __init__(self, server: Server, maximum: int) -> None:
        limits = LimitsConfig(concurrency=maximum, tries=99)
        endpoint = Endpoint(model="m", base_url="http://h/v1", limits=limits)
        random.seed(0)
        self.server, self.budget = server, Budget(BudgetConfig())
        self.flow = FlowControl(endpoint)

    async def ask(self) -> None:
        tries = 0
        while True:
            async with self.flow.concurrency:
                await self.budget.reserve(Usage(100))
                at = await self.flow.turn(100)
                good = (await self.server.ask()).status == 200
                self.budget.settle(Usage(100), Usage(100 if good else 0))
                if good:
                    self.flow.replied(ServerReply("", None, "stop", "", None, loop_time() - at))
                    self.flow.rate.settle(100, 100)
                    return self.flow.breaker.success()
                error = CallError("", 429)
                self.flow.failed(error, at, 100)
            tries += 1
            self.flow.wait_before_retry(error, min(tries, 2))

    async def run(self, workers: int, until: float) -> None:
        async def worker() -> None:
            while loop_time() < until:
                await self.ask()

        await asyncio.gather(*(worker() for _ in range(workers)))


@pytest.mark.parametrize("kind", ["bucket", "minutes"])
@pytest.mark.parametrize("latency", [1.0, 8.0])
def test_hidden_limit_is_used_with_few_refusals(kind: str, latency: float) -> None:
    async def main() -> Server:
        server = Server(
            latency, spread=0.4, admit=BucketLimit(600, 2) if kind == "bucket" else WindowLimit(600)
        )
        await Caller(server, 256).run(256, 600)
        return server

    server = run_virtually(main())
    good, bad = server.between(300, 600), server.between(300, 600, 429)
    assert good >= 0.9 * 3000
    assert bad / (good + bad) <= 0.05


def test_flow_control_costs_nothing_without_limits() -> None:
    async def main() -> Server:
        server = Server(1.0, spread=0.3)
        await Caller(server, 256).run(256, 100)
        return server

    server = run_virtually(main())
    # A lognormal spread of 0.3 makes the mean latency 1.046 of the median.
    assert server.between(10, 100) / 90 >= 0.95 * 256 / 1.046
