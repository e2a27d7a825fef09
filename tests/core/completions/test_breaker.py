"""Nothing is sent any more once there is no point."""

from __future__ import annotations

import asyncio

import pytest

from core.completions.concurrency import AdaptiveConcurrency
from core.completions.flow_control import CircuitBreaker
from core.completions.rate_limiter import loop_time
from core.config.endpoint import BreakerConfig
from core.errors import BreakerOpen, TeacherError, TeacherRefused
from tests.core.completions.simulation import run_virtually


def test_after_a_refusal_nothing_is_sent_and_what_is_under_way_ends() -> None:
    async def main() -> tuple[int, int, int]:
        breaker, limiter = CircuitBreaker(BreakerConfig()), AdaptiveConcurrency(256)
        sent = known = ended = 0

        async def one(number: int) -> None:
            nonlocal sent, known, ended
            async with limiter.slot() as slot:
                breaker.check()
                sent += 1
                await asyncio.sleep(1 + number % 7 / 10)
                ended += 1
                if number >= 100:
                    known = known or sent
                    breaker.refuse(TeacherRefused("HTTP 402"))
                else:
                    slot.done(1.0, "ok")

        results = await asyncio.gather(*(one(n) for n in range(1000)), return_exceptions=True)
        assert all(r is None or isinstance(r, TeacherRefused) for r in results)
        return sent, known, ended

    sent, known, ended = run_virtually(main())
    assert sent == known == ended


def dead_for(breaker: CircuitBreaker, at_once: int) -> asyncio.Future[list[None]]:
    async def worker() -> None:
        while not breaker.open:
            await asyncio.sleep(5)
            breaker.failure("HTTP 503")

    return asyncio.gather(*(worker() for _ in range(at_once)))


@pytest.mark.parametrize("at_once", [1, 64])
def test_a_dead_endpoint_is_given_up_within_minutes(at_once: int) -> None:
    async def main() -> float:
        breaker = CircuitBreaker(BreakerConfig())
        await dead_for(breaker, at_once)
        with pytest.raises(BreakerOpen, match=r"does not work: .* failed.* HTTP 503;.* run the same command"):
            breaker.check()
        return loop_time()

    assert run_virtually(main()) <= 130


def test_a_hiccup_of_many_at_once_is_borne() -> None:
    async def main() -> bool:
        breaker = CircuitBreaker(BreakerConfig())
        for _ in range(3):
            for _ in range(90):
                breaker.failure("HTTP 502")
            for _ in range(150):
                breaker.success()
            await asyncio.sleep(60)
        return breaker.open

    assert not run_virtually(main())


def test_half_of_all_failing_opens_it_although_none_fail_in_a_row() -> None:
    async def main() -> float:
        breaker = CircuitBreaker(BreakerConfig())
        while not breaker.open:
            breaker.success()
            breaker.failure("HTTP 500")
            await asyncio.sleep(0.5)
        return loop_time()

    # The window is full after 100 pairs; from then on it has to last as long as failures in a row.
    assert 50 + 120 <= run_virtually(main()) <= 50 + 121


def test_an_outage_of_half_a_minute_is_borne_however_many_are_under_way() -> None:
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
        return breaker.open

    assert not run_virtually(main())


def test_the_first_reason_stays() -> None:
    async def main() -> None:
        breaker = CircuitBreaker(BreakerConfig())
        breaker.refuse(TeacherRefused("first"))
        breaker.refuse(TeacherError("second"))
        with pytest.raises(TeacherRefused, match="first"):
            breaker.check()

    run_virtually(main())
