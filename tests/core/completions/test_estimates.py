"""Token counts are rough at first, and the server's own after twenty answers."""

from __future__ import annotations

import random

import pytest

from core.completions.budget import LEARNED_AFTER, Estimator, rough_tokens
from core.config.endpoint import LimitsConfig
from core.cost import Price, Range, Usage, estimate_run
from core.prompts import Message


def rough(text: str) -> float:
    return rough_tokens([Message("user", text)])


PROMPT = rough("x" * 396)


def test_at_first_a_token_is_four_bytes_and_an_answer_all_it_may_be() -> None:
    estimator = Estimator(max_tokens=512)
    assert estimator.reservation(PROMPT) == estimator.reservation(rough("я" * 198)) == Usage(104, 512)


def test_twenty_answers_teach_both_ratios() -> None:
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


def test_a_forecast_is_the_slowest_of_its_bounds() -> None:
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
