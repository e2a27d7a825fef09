"""Requests are sent evenly within known limits, and unknown limits are found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.completions.limits import RateLimiter, loop_time
from tests.core.completions.simulation import (
    BucketLimit,
    Server,
    SlidingLimit,
    WindowLimit,
    run_virtually,
)


async def taken(pace: RateLimiter, requests: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Send requests one after another, each after a pause; return when each was let through."""
    out = []
    for rest, tokens in requests:
        await asyncio.sleep(rest)
        out.append((await pace.take(tokens), tokens))
    return out


def in_any_minute(sent: list[tuple[float, int]]) -> int:
    """The most units in any minute that starts with a request."""
    return max(sum(n for at, n in sent if start <= at < start + 60) for start, _ in sent)


@settings(max_examples=30)
@given(
    limit=st.integers(1, 300),
    burst=st.floats(0.5, 10),
    rests=st.lists(st.floats(0, 30), min_size=1, max_size=200),
)
def test_requests_in_any_minute_stay_within_the_limit(limit: int, burst: float, rests: list[float]) -> None:
    async def main() -> list[tuple[float, int]]:
        pace = RateLimiter(limit, burst_s=burst)
        return await taken(pace, [(rest if rest > 25 else 0.0, 1) for rest in rests])

    assert in_any_minute(run_virtually(main())) <= limit


@settings(max_examples=30)
@given(
    limit=st.integers(100, 10_000),
    sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=60),
)
def test_tokens_in_any_minute_exceed_the_limit_by_less_than_one_request(limit: int, sizes: list[int]) -> None:
    async def main() -> list[tuple[float, int]]:
        pace = RateLimiter(tokens_per_minute=limit)
        return await taken(pace, [(0.0, size) for size in sizes])

    assert in_any_minute(run_virtually(main())) <= limit + max(sizes)


def test_known_limit_is_fully_used() -> None:
    async def main() -> float:
        pace = RateLimiter(600)
        sent = await taken(pace, [(0.0, 1)] * 3000)
        return 3000 / (sent[-1][0] / 60)

    assert run_virtually(main()) >= 0.95 * 600


def test_overestimated_tokens_are_returned() -> None:
    async def main() -> float:
        pace = RateLimiter(tokens_per_minute=60_000)
        for _ in range(500):
            await pace.take(4000)
            pace.settle(4000, 500)
        return loop_time()

    assert 500 * 500 / run_virtually(main()) >= 0.9 * 1000


def test_requests_pass_in_order_of_arrival() -> None:
    async def main() -> list[int]:
        pace = RateLimiter(60)
        order = []

        async def one(number: int) -> None:
            await pace.take(1)
            order.append(number)

        await asyncio.gather(*(one(n) for n in range(20)))
        return order

    assert run_virtually(main()) == list(range(20))


def test_canceled_waiting_request_blocks_no_other() -> None:
    async def main() -> float:
        pace = RateLimiter(60)
        await pace.take(1)
        first, second = asyncio.create_task(pace.take(1)), asyncio.create_task(pace.take(1))
        await asyncio.sleep(0.1)
        first.cancel()
        return await second

    assert run_virtually(main()) < 3


async def traffic(server: Server, workers: int, until: float, hints: bool) -> None:
    pace = RateLimiter()

    async def worker() -> None:
        while loop_time() < until:
            at = await pace.take(1)
            reply = await server.ask()
            if hints:
                pace.hint(reply.headers)
            if reply.status == 429:
                pace.refused(at, 1)
            else:
                pace.settle(1, 1)

    await asyncio.gather(*(worker() for _ in range(workers)))


def used_and_refused(
    limit: Callable[[], BucketLimit | WindowLimit | SlidingLimit],
    a_minute: int,
    latency: float,
    hints: bool = False,
) -> tuple[float, float]:
    """Shares of the limit used, and of requests refused, from the fifth minute to the fifteenth."""

    async def main() -> Server:
        admit = limit()
        server = Server(latency, spread=0.4, admit=admit)
        if isinstance(admit, BucketLimit | WindowLimit):
            server.headers = admit.headers
        await traffic(server, max(20, int(a_minute / 60 * latency * 3)), 900, hints)
        return server

    server = run_virtually(main())
    good, bad = server.between(300, 900), server.between(300, 900, 429)
    return good / (a_minute * 10), bad / (good + bad)


@pytest.mark.parametrize("a_minute", [60, 600])
@pytest.mark.parametrize("latency", [1.0, 10.0])
@pytest.mark.parametrize("kind", ["no burst", "burst", "minutes", "sliding"])
def test_unknown_limit_is_found_and_used(kind: str, latency: float, a_minute: int) -> None:
    def limit() -> BucketLimit | WindowLimit | SlidingLimit:
        if kind == "minutes":
            return WindowLimit(a_minute)
        if kind == "sliding":
            return SlidingLimit(a_minute)
        return BucketLimit(a_minute, 1 if kind == "no burst" else 60)

    used, refused = used_and_refused(limit, a_minute, latency)
    assert used >= 0.90
    assert refused <= 0.05


@pytest.mark.parametrize("a_minute", [60, 600])
@pytest.mark.parametrize("latency", [1.0, 10.0])
@pytest.mark.parametrize("kind", ["refilled", "minutes"])
def test_following_headers_avoids_refusals(kind: str, latency: float, a_minute: int) -> None:
    def limit() -> BucketLimit | WindowLimit:
        return WindowLimit(a_minute) if kind == "minutes" else BucketLimit(a_minute, 60)

    used, refused = used_and_refused(limit, a_minute, latency, hints=True)
    assert used >= 0.95
    assert refused <= 0.01


def test_rate_is_kept_in_real_time() -> None:
    async def main() -> float:
        pace = RateLimiter(6000, burst_s=0.1)
        start = loop_time()
        for _ in range(60):
            await pace.take(1)
        return loop_time() - start

    assert asyncio.run(main()) >= 0.45
