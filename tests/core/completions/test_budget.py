"""A budget is never passed by more than what is under way, and its last cent is used."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.completions.budget import Budget
from core.config.endpoint import BudgetConfig
from core.cost import Price, Usage
from core.errors import BudgetSpent
from tests.core.completions.simulation import run_virtually

CENT = Price(input=10_000, output=10_000)
"""A cent for each token."""


def budget_of(usd: float | None = None, tokens: int | None = None, spent: int = 0) -> Budget:
    return Budget(BudgetConfig(usd=usd, tokens=tokens), CENT, Usage(spent), "judge")


async def spend(budget: Budget, estimate: int, actual: list[int], at_once: int, seed: int) -> int:
    """Ask until the budget is spent; how many were under way at most. A token costs a cent."""
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


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(10, 5000),
    estimate=st.integers(1, 200),
    actual=st.lists(st.integers(0, 400), min_size=1, max_size=200),
    at_once=st.integers(1, 30),
    seed=st.integers(0, 10**6),
    in_usd=st.booleans(),
)
def test_a_budget_is_never_passed_by_more_than_what_is_under_way(
    limit: int, estimate: int, actual: list[int], at_once: int, seed: int, in_usd: bool
) -> None:
    async def main() -> tuple[Budget, int]:
        budget = budget_of(usd=limit / 100) if in_usd else budget_of(tokens=limit)
        return budget, await spend(budget, estimate, actual, at_once, seed)

    budget, most = run_virtually(main())
    over = max(0, max(actual) - estimate)
    assert budget.spent.total <= limit + most * over
    assert budget.reserved == Usage()


def test_a_budget_is_used_although_estimates_are_far_too_high() -> None:
    async def main() -> int:
        budget = budget_of(tokens=100_000)
        await spend(budget, 4000, [300] * 2000, 64, 0)
        return budget.spent.total

    assert run_virtually(main()) >= 100_000 - 4000


def test_what_earlier_starts_spent_counts() -> None:
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


def test_no_budget_is_no_limit() -> None:
    async def main() -> None:
        budget = budget_of()
        for _ in range(100):
            await budget.reserve(Usage(10**9))

    run_virtually(main())


def test_a_waiter_that_is_cancelled_holds_nothing_and_blocks_nobody() -> None:
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
