"""A budget is exceeded by no more than the requests in flight; estimates follow the server's own counts."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.completions.limits import LEARNED_AFTER, Budget, Estimator, rough_tokens
from core.config import BudgetConfig, LimitsConfig
from core.cost import Price, Range, Usage, estimate_run
from core.errors import BudgetSpent
from core.prompts import Message
from tests.core.completions.simulation import run_virtually

CENT = Price(input=10_000, output=10_000)
"""A cent for each token."""


def budget_of(usd: float | None = None, tokens: int | None = None, spent: int = 0) -> Budget:
    return Budget(BudgetConfig(usd=usd, tokens=tokens), CENT, Usage(spent), "judge")


async def spend(budget: Budget, estimate: int, actual: list[int], at_once: int, seed: int) -> int:
    """Send requests until the budget is spent; return the most in flight. A token costs a cent."""
    rng, under_way, most = random.Random(seed), 0, 0
    left = iter(actual)

    async def worker() -> None:
        nonlocal under_way, most
        for used in left:
            try:
                await budget.reserve(Usage(estimate))
            except BudgetSpent:
                return
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(rng.uniform(0.1, 5))
            under_way -= 1
            budget.settle(Usage(estimate), Usage(used))

    await asyncio.gather(*(worker() for _ in range(at_once)))
    return most


@given(
    limit=st.integers(10, 5000),
    estimate=st.integers(1, 200),
    actual=st.lists(st.integers(0, 400), min_size=1, max_size=200),
    at_once=st.integers(1, 30),
    seed=st.integers(0, 10**6),
    in_usd=st.booleans(),
)
def test_budget_is_exceeded_by_at_most_the_requests_in_flight(
    limit: int, estimate: int, actual: list[int], at_once: int, seed: int, in_usd: bool
) -> None:
    async def main() -> tuple[Budget, int]:
        budget = budget_of(usd=limit / 100) if in_usd else budget_of(tokens=limit)
        return budget, await spend(budget, estimate, actual, at_once, seed)

    budget, most = run_virtually(main())
    over = max(0, max(actual) - estimate)
    assert budget.spent.total <= limit + most * over
    assert budget.reserved == Usage()


def test_budget_is_fully_used_despite_high_estimates() -> None:
    async def main() -> int:
        budget = budget_of(tokens=100_000)
        await spend(budget, 4000, [300] * 2000, 64, 0)
        return budget.spent.total

    assert run_virtually(main()) >= 100_000 - 4000


def test_spending_of_earlier_starts_counts() -> None:
    async def main() -> None:
        budget = budget_of(usd=1.0, spent=95)
        await budget.reserve(Usage(4))
        budget.settle(Usage(4), Usage(4))
        with pytest.raises(BudgetSpent) as e:
            await budget.reserve(Usage(4))
        assert str(e.value) == (
            "judge.budget.usd is spent: $0.9900 of $1.0000, and the next request may take $0.0400; raise "
            "judge.budget.usd and run the same command again: stored answers are not requested twice"
        )

    run_virtually(main())


def test_without_a_budget_nothing_is_limited() -> None:
    async def main() -> None:
        budget = budget_of()
        for _ in range(100):
            await budget.reserve(Usage(10**9))

    run_virtually(main())


def test_canceled_reservation_blocks_no_other() -> None:
    async def main() -> None:
        budget = budget_of(tokens=100)
        await budget.reserve(Usage(60))
        first = asyncio.create_task(budget.reserve(Usage(60)))
        second = asyncio.create_task(budget.reserve(Usage(60)))
        await asyncio.sleep(1)
        first.cancel()
        budget.settle(Usage(60), Usage(10))
        await second
        assert budget.reserved == Usage(60)

    run_virtually(main())


def rough(text: str) -> float:
    return rough_tokens([Message("user", text)])


PROMPT = rough("x" * 396)


def test_initial_estimate_is_four_bytes_per_token_and_max_tokens() -> None:
    estimator = Estimator(max_tokens=512)
    assert estimator.reservation(PROMPT) == estimator.reservation(rough("я" * 198)) == Usage(104, 512)


def test_estimates_are_learned_after_twenty_answers() -> None:
    estimator, rng = Estimator(max_tokens=4096), random.Random(0)
    for n in range(LEARNED_AFTER):
        assert not estimator.learned
        content = "y" * rng.randrange(100, 4000)
        estimator.learn(rough(content), Usage((len(content) + 20) // 2, 200 + n))
    assert estimator.learned
    assert estimator.reservation(PROMPT).prompt == pytest.approx(208, rel=0.02)
    assert estimator.reservation(PROMPT).completion == 210
    assert estimator.completion().low < 209.5 < estimator.completion().high


def limits(requests: float | None = None, tokens: float | None = None) -> LimitsConfig:
    return LimitsConfig(concurrency=10, requests_per_minute=requests, tokens_per_minute=tokens)


def test_forecast_takes_the_slowest_bound() -> None:
    calls, prompt, completion = Range(900, 1000, 1100), Range.exact(500), Range(80, 100, 120)
    latency = Range.exact(2.0)
    price = Price(input=1.0, cached_input=0.1, output=4.0)
    by_latency = estimate_run(calls, prompt, completion, price, limits(), latency)
    assert by_latency.usd is not None
    assert by_latency.usd.mean == pytest.approx(0.5 + 0.4)
    assert by_latency.usd.low < 0.9 < by_latency.usd.high
    assert by_latency.seconds == Range(180, 200, 220)
    by_requests = estimate_run(calls, prompt, completion, None, limits(60), latency)
    assert by_requests.usd is None
    assert by_requests.seconds.mean == 1000
    by_tokens = estimate_run(calls, prompt, completion, price, limits(60, 6000), latency, 0.5)
    assert by_tokens.seconds.mean == pytest.approx(6000)
    assert by_tokens.usd is not None
    assert by_tokens.usd.mean == pytest.approx(0.275 + 0.4)
