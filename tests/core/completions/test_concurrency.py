"""Concurrency follows what the server can handle."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from statistics import median

import pytest

from core.completions.flow_control import AdaptiveConcurrency, Outcome
from core.completions.limits import loop_time
from tests.core.completions.simulation import Server, run_virtually


async def load(server: Server, maximum: int, until: float) -> AdaptiveConcurrency:
    """As many workers as the most requests in flight, sending without a pause."""
    limiter = AdaptiveConcurrency(maximum)

    async def worker() -> None:
        while loop_time() < until:
            async with limiter:
                start = loop_time()
                reply = await server.ask()
                limiter.report(loop_time() - start, "ok" if reply.status == 200 else "refused")

    await asyncio.gather(*(worker() for _ in range(maximum)))
    return limiter


def loaded(make: Callable[[], Server], maximum: int, until: float) -> Server:
    async def main() -> Server:
        server = make()
        await load(server, maximum, until)
        return server

    return run_virtually(main())


def mean_of(spread: float) -> float:
    """The mean of a lognormal latency whose median is 1."""
    return math.exp(spread**2 / 2)


@pytest.mark.parametrize("spread", [0.0, 0.3, 0.6])
def test_concurrency_reaches_the_maximum_without_limits(spread: float) -> None:
    slow = loaded(lambda: Server(1.0, spread=spread), 256, 100)
    most = 256 / mean_of(spread)
    assert slow.between(10, 100) / 90 >= 0.95 * most
    assert slow.between(0, 100) / 100 >= 0.94 * most
    fast = loaded(lambda: Server(0.1, spread=spread), 64, 10)
    assert fast.between(0, 10) / 10 >= 0.95 * 640 / mean_of(spread)


@pytest.mark.parametrize("spread", [1.0, 1.4])
@pytest.mark.parametrize(("maximum", "seed"), [(64, 0), (64, 1), (256, 0)])
def test_heavy_latency_tail_does_not_reduce_concurrency(spread: float, maximum: int, seed: int) -> None:
    server = loaded(lambda: Server(0.4, spread=spread, seed=seed), maximum, 100)
    assert server.between(0, 100) / 100 >= 0.93 * maximum / (0.4 * mean_of(spread))


def test_slow_start_doubles_requests_in_flight() -> None:
    async def main() -> list[int]:
        server = Server(1.0)
        running = asyncio.create_task(load(server, 256, 8))
        inside = []
        for second in range(8):
            await asyncio.sleep(second + 0.5 - loop_time())
            inside.append(server.inside)
        await running
        return inside

    assert run_virtually(main()) == [8, 16, 32, 64, 128, 256, 256, 256]


@pytest.mark.parametrize("at_once", [4, 16, 64])
@pytest.mark.parametrize("spread", [0.0, 0.3, 0.6])
def test_queueing_server_keeps_a_short_queue(at_once: int, spread: float) -> None:
    until = 400 if at_once < 16 else 200  # enough requests
    server = loaded(lambda: Server(1.0, at_once=at_once, spread=spread), 256, until)
    assert server.between(50, until) / (until - 50) >= 0.95 * at_once / mean_of(spread)
    assert median(server.latencies(50, until)) <= 2.0


@pytest.mark.parametrize("at_once", [16, 64])
def test_refusing_server_rejects_few_requests(at_once: int) -> None:
    def make() -> Server:
        server = Server(1.0, spread=0.3)
        server.admit = lambda now: server.inside < at_once
        return server

    server = loaded(make, 256, 200)
    good, bad = server.between(50, 200), server.between(50, 200, 429)
    assert good / 150 >= 0.85 * at_once / mean_of(0.3)
    assert bad / (good + bad) <= 0.03


def test_uniformly_slower_server_keeps_its_concurrency() -> None:
    async def main() -> Server:
        server = Server(1.0, spread=0.3)

        async def worse() -> None:
            await asyncio.sleep(60)
            server.latency = 3.0

        await asyncio.gather(worse(), load(server, 64, 400))
        return server

    assert run_virtually(main()).between(200, 400) / 200 >= 0.9 * 64 / 3 / mean_of(0.3)


def test_longer_completions_do_not_reduce_concurrency() -> None:
    async def main() -> int:
        limiter = AdaptiveConcurrency(64)

        async def worker() -> None:
            while loop_time() < 300:
                async with limiter:
                    tokens = 100 if loop_time() < 100 else 250
                    await asyncio.sleep(tokens / 100)
                    limiter.report(tokens / 100, "ok", tokens)

        lowest = 64

        async def watch() -> None:
            nonlocal lowest
            await asyncio.sleep(50)
            while loop_time() < 300:
                lowest = min(lowest, limiter.limit)
                await asyncio.sleep(1)

        await asyncio.gather(watch(), *(worker() for _ in range(64)))
        return lowest

    assert run_virtually(main()) == 64


def test_one_wave_of_refusals_causes_one_decrease() -> None:
    async def main() -> int:
        limiter = AdaptiveConcurrency(100, start=100)

        async def one(outcome: Outcome) -> None:
            async with limiter:
                await asyncio.sleep(1)
                limiter.report(1.0, outcome)

        await asyncio.gather(*(one("refused") for _ in range(100)))
        return limiter.limit

    assert run_virtually(main()) == 80


def test_concurrency_is_unchanged_while_everything_is_refused() -> None:
    async def main() -> int:
        limiter = AdaptiveConcurrency(100, start=100)

        async def one() -> None:
            async with limiter:
                await asyncio.sleep(0.1)
                limiter.report(0.1, "refused")

        await asyncio.gather(*(one() for _ in range(2000)))
        return limiter.limit

    assert run_virtually(main()) == 80


def test_limit_stays_between_one_and_the_maximum() -> None:
    async def main() -> tuple[int, int]:
        limiter = AdaptiveConcurrency(10)
        most = 0

        async def one(number: int) -> None:
            nonlocal most
            async with limiter:
                most = max(most, limiter.inflight)
                await asyncio.sleep(1)
                limiter.report(1.0, "refused" if number % 2 else "ok")

        await asyncio.gather(*(one(n) for n in range(200)))
        return most, limiter.limit

    assert run_virtually(main()) == (8, 1)


def test_place_is_released_after_errors_and_cancellation() -> None:
    async def main() -> int:
        limiter = AdaptiveConcurrency(1, start=1)

        async def one(fail: bool) -> None:
            async with limiter:
                await asyncio.sleep(1)
                if fail:
                    raise OSError

        tasks = [asyncio.create_task(one(fail)) for fail in (True, False, False, True, False)]
        await asyncio.sleep(0.5)
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return limiter.inflight

    assert run_virtually(main()) == 0
