"""Retries are spread out, a 429 pauses all requests, and an open breaker stops them."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.completions.flow_control import AdaptiveConcurrency, CircuitBreaker, retry_delay
from core.completions.limits import RateLimiter, loop_time
from core.config import BreakerConfig
from core.errors import BreakerOpen, TeacherError, TeacherRefused
from tests.core.completions.simulation import run_virtually


@given(tried=st.integers(1, 30))
def test_retry_delay_is_within_its_bounds(tried: int) -> None:
    wait = retry_delay(tried, 31)
    assert wait is not None
    assert 0 <= wait <= min(60, 2 ** (tried - 1))


@given(asked=st.floats(0, 600))
def test_no_retry_before_the_requested_time(asked: float) -> None:
    wait = retry_delay(1, 8, asked)
    assert wait is not None
    assert asked <= wait <= asked * 1.1 + 0.1 + 1e-9


def test_request_is_given_up_after_all_tries_or_too_long_a_wait() -> None:
    assert [retry_delay(n, 3) is None for n in (1, 2, 3)] == [False, False, True]
    assert retry_delay(1, 3, 3600) is None


def test_retry_delays_cover_their_whole_range() -> None:
    random.seed(0)
    waits = [retry_delay(4, 8) or 0 for _ in range(1000)]
    assert min(waits) < 0.2
    assert max(waits) > 7.8
    assert sum(waits) / 1000 == pytest.approx(4, abs=0.3)


def test_pause_holds_all_requests_and_spreads_their_restart() -> None:
    async def main() -> list[float]:
        limiter = RateLimiter()
        started = []

        async def one() -> None:
            await limiter.take(1)
            started.append(loop_time())

        limiter.pause(10)
        tasks = [asyncio.create_task(one()) for _ in range(50)]
        await asyncio.sleep(1)
        limiter.pause(20)
        limiter.pause(0.5)
        await asyncio.gather(*tasks)
        return started

    started = run_virtually(main())
    assert min(started) >= 21
    assert max(started) <= 22
    assert len(set(started)) == 50


def test_after_a_refusal_only_requests_in_flight_finish() -> None:
    async def main() -> tuple[int, int, int]:
        breaker, limiter = CircuitBreaker(BreakerConfig()), AdaptiveConcurrency(256)
        sent = known = ended = 0

        async def one(number: int) -> None:
            nonlocal sent, known, ended
            async with limiter:
                breaker.check()
                sent += 1
                await asyncio.sleep(1 + number % 7 / 10)
                ended += 1
                if number >= 100:
                    known = known or sent
                    breaker.refuse(TeacherRefused("HTTP 402"))
                else:
                    limiter.report(1.0, "ok")

        results = await asyncio.gather(*(one(n) for n in range(1000)), return_exceptions=True)
        assert all(r is None or isinstance(r, TeacherRefused) for r in results)
        return sent, known, ended

    sent, known, ended = run_virtually(main())
    assert sent == known == ended


def dead_for(breaker: CircuitBreaker, at_once: int) -> asyncio.Future[list[None]]:
    async def worker() -> None:
        while breaker.error is None:
            await asyncio.sleep(5)
            breaker.failure("HTTP 503")

    return asyncio.gather(*(worker() for _ in range(at_once)))


@pytest.mark.parametrize("at_once", [1, 64])
def test_dead_endpoint_opens_the_breaker_within_minutes(at_once: int) -> None:
    async def main() -> float:
        breaker = CircuitBreaker(BreakerConfig())
        await dead_for(breaker, at_once)
        with pytest.raises(BreakerOpen, match=r"does not work: .* failed.* HTTP 503;.* run the same command"):
            breaker.check()
        return loop_time()

    assert run_virtually(main()) <= 130


def test_short_burst_of_failures_keeps_the_breaker_closed() -> None:
    async def main() -> bool:
        breaker = CircuitBreaker(BreakerConfig())
        for _ in range(3):
            for _ in range(90):
                breaker.failure("HTTP 502")
            for _ in range(150):
                breaker.success()
            await asyncio.sleep(60)
        return breaker.error is not None

    assert not run_virtually(main())


def test_breaker_opens_if_half_of_all_requests_fail() -> None:
    async def main() -> float:
        breaker = CircuitBreaker(BreakerConfig())
        while breaker.error is None:
            breaker.success()
            breaker.failure("HTTP 500")
            await asyncio.sleep(0.5)
        return loop_time()

    # The window is full after 100 pairs; from then on it has to last as long as failures in a row.
    assert 50 + 120 <= run_virtually(main()) <= 50 + 121


def test_outage_of_30_s_is_survived_at_any_concurrency() -> None:
    async def main() -> bool:
        breaker = CircuitBreaker(BreakerConfig())
        for _ in range(30):
            for _ in range(256):
                breaker.failure("HTTP 502")
            await asyncio.sleep(1)
        for _ in range(200):
            breaker.success()
        await asyncio.sleep(600)
        breaker.failure("HTTP 502")
        return breaker.error is not None

    assert not run_virtually(main())


def test_breaker_keeps_the_first_error() -> None:
    async def main() -> None:
        breaker = CircuitBreaker(BreakerConfig())
        breaker.refuse(TeacherRefused("first"))
        breaker.refuse(TeacherError("second"))
        with pytest.raises(TeacherRefused, match="first"):
            breaker.check()

    run_virtually(main())
