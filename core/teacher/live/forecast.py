"""What a run of a live teacher will take, for the plan."""

from __future__ import annotations

from dataclasses import dataclass

from core.prices import Price
from core.teacher.live.tokens import Interval

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Speed:
    """What bounds the rate: requests under way, seconds for each, and limits a minute, where there are."""

    concurrency: int
    latency_s: Interval
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """Calls, tokens, US dollars (None without a price) and seconds."""

    calls: Interval
    prompt_tokens: Interval
    completion_tokens: Interval
    usd: Interval | None
    seconds: Interval

    def __add__(self, other: Forecast) -> Forecast:
        """One after the other."""
        return Forecast(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            None if self.usd is None or other.usd is None else self.usd + other.usd,
            self.seconds + other.seconds,
        )


def estimate_run(
    calls: Interval,
    prompt: Interval,
    completion: Interval,
    price: Price | None,
    speed: Speed,
    cached_share: float = 0.0,
) -> Forecast:
    """Forecast `calls` requests of so many tokens each.

    `cached_share` of each prompt is taken to be in the server's cache; 0 is the cautious guess.
    The bounds are those of all ingredients at once, so they are wide rather than narrow.
    """
    prompts, completions = _times(calls, prompt), _times(calls, completion)
    usd = (
        None
        if price is None
        else prompts * _input(price, cached_share) + completions * (price.output / _MILLION)
    )
    tokens = prompts + completions
    bounds = [_times(calls, speed.latency_s) * (1 / speed.concurrency)]
    if speed.requests_per_minute:
        bounds.append(calls * (60 / speed.requests_per_minute))
    if speed.tokens_per_minute:
        bounds.append(tokens * (60 / speed.tokens_per_minute))
    seconds = Interval(max(b.low for b in bounds), max(b.mean for b in bounds), max(b.high for b in bounds))
    return Forecast(calls, prompts, completions, usd, seconds)


def _times(a: Interval, b: Interval) -> Interval:
    return Interval(a.low * b.low, a.mean * b.mean, a.high * b.high)


def _input(price: Price, cached_share: float) -> float:
    cached = price.input if price.cached_input is None else price.cached_input
    return ((1 - cached_share) * price.input + cached_share * cached) / _MILLION
