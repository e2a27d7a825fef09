"""Tries are spread out, what the server asks for is kept, and a 429 to one is a pause for all."""

from __future__ import annotations

import asyncio
import datetime as dt
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.completions.failures import RetryDecision, classify, refusal
from core.completions.flow_control import Backoff, Pause
from core.completions.headers import retry_after, should_retry
from core.completions.rate_limiter import loop_time
from core.config.endpoint import Endpoint
from tests.core.completions.simulation import run_virtually

NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3),
        ({"retry-after": "0"}, 0),
        ({"retry-after-ms": "250", "Retry-After": "3"}, 0.25),
        ({"Retry-After": "Sun, 01 Mar 2026 12:00:20 GMT"}, 20),
        ({"Retry-After": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0),
        # The server's clock is an hour behind ours.
        ({"Retry-After": "Sun, 01 Mar 2026 11:00:20 GMT", "Date": "Sun, 01 Mar 2026 11:00:00 GMT"}, 20),
        ({"Retry-After": "later"}, None),
        ({"Retry-After": "-1"}, None),
    ],
)
def test_what_a_server_asks_for_is_read_in_every_form(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after(headers, NOW) == wait


@pytest.mark.parametrize(("value", "said"), [("true", True), ("False", False), ("", None), ("maybe", None)])
def test_x_should_retry_is_read(value: str, said: bool | None) -> None:
    assert should_retry({"X-Should-Retry": value}) is said
    assert should_retry({}) is None


@given(tried=st.integers(1, 30), seed=st.integers())
def test_a_wait_is_within_its_bounds(tried: int, seed: int) -> None:
    backoff = Backoff(tries=31, base_s=1, cap_s=60)
    wait = backoff.wait(tried, None, random.Random(seed))
    assert wait is not None
    assert 0 <= wait <= min(60, 2 ** (tried - 1))


@given(asked=st.floats(0, 600), seed=st.integers())
def test_nothing_comes_before_it_was_asked_for(asked: float, seed: int) -> None:
    wait = Backoff().wait(1, asked, random.Random(seed))
    assert wait is not None
    assert asked <= wait <= asked * 1.1 + 0.1 + 1e-9


def test_a_request_is_given_up_after_its_tries_or_where_the_server_wants_too_long() -> None:
    backoff, rng = Backoff(tries=3), random.Random(0)
    assert [backoff.wait(n, None, rng) is None for n in (1, 2, 3)] == [False, False, True]
    assert backoff.wait(1, 3600, rng) is None


def test_waits_are_spread_over_their_whole_range() -> None:
    rng = random.Random(0)
    waits = [Backoff().wait(4, None, rng) or 0 for _ in range(1000)]
    assert min(waits) < 0.2
    assert max(waits) > 7.8
    assert sum(waits) / 1000 == pytest.approx(4, abs=0.3)


def test_all_wait_for_a_pause_and_start_spread_out() -> None:
    async def main() -> list[float]:
        pause = Pause(random.Random(0))
        await pause.over()
        assert loop_time() == 0
        started = []

        async def one() -> None:
            await pause.over()
            started.append(loop_time())

        pause.hold(10)
        tasks = [asyncio.create_task(one()) for _ in range(50)]
        await asyncio.sleep(1)
        pause.hold(20)
        pause.hold(0.5)
        await asyncio.gather(*tasks)
        return started

    started = run_virtually(main())
    assert min(started) >= 21
    assert max(started) <= 22
    assert len(set(started)) == 50


@pytest.mark.parametrize(
    ("verdict", "remedy"),
    [
        (classify(401, None, "no"), "check the key in MY_KEY"),
        (classify(404, None, "no such model"), "check teacher.model and teacher.base_url"),
        (classify(402, None, "Insufficient Balance"), "check the account's balance"),
    ],
)
def test_a_refusal_says_what_to_mend_and_how_to_go_on(verdict: RetryDecision, remedy: str) -> None:
    said = str(refusal(verdict, Endpoint(base_url="https://here", model="a-model", api_key_env="MY_KEY")))
    assert remedy in said
    assert "run the same command again" in said
