"""What asking a live teacher will take, before anything is asked: for the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from core.config.teacher import TeacherConfig
from core.records import Example
from core.teacher.base import Attempt
from core.teacher.journal import Journal
from core.teacher.live.forecast import Forecast, Speed, estimate_run
from core.teacher.live.prices import Usage
from core.teacher.live.sending import price_of
from core.teacher.live.teacher import LiveTeacher
from core.teacher.live.tokens import LEARNT_AFTER, Estimator, Interval

_LOOKED_AT = 200
_LATENCY = Interval(1.0, 5.0, 30.0)
"""Seconds an answer takes before any was seen; a guess."""


def forecast(teacher: LiveTeacher, rows: Sequence[Example], journal: Journal) -> tuple[Forecast, str]:
    """The forecast for what the journal lacks, and where its token counts come from, in words."""
    config = teacher.config
    estimator, latency, missing = _learnt(teacher, rows, journal)
    prompts = [estimator.prompt_interval(teacher.rough(e)) for e in rows[:_LOOKED_AT]]
    n = max(len(prompts), 1)
    prompt = Interval(*(sum(getattr(p, part) for p in prompts) / n for part in ("low", "mean", "high")))
    calls = Interval(missing, missing, missing * config.attempts + missing * config.hint)
    found = estimate_run(
        calls, prompt, estimator.completion_interval(), price_of(config), _speed(config, latency)
    )
    counter = "learnt from the answers there are" if estimator.learnt else "a token for 4 bytes, a guess"
    return found, counter


def told(found: Forecast, counter: str, model: str) -> Iterator[str]:
    """The forecast in lines for people."""
    yield f"asking {model}: {_range(found.calls)} calls, tokens counted by: {counter}"
    prompt, completion = _range(found.prompt_tokens), _range(found.completion_tokens)
    yield f"  {prompt} prompt tokens, {completion} completion tokens"
    if found.usd is None:
        yield "  the price is not known: see teacher.prices"
    else:
        yield f"  ${found.usd.mean:.2f} (${found.usd.low:.2f} to ${found.usd.high:.2f})"
    yield f"  {found.seconds.mean:.0f} s ({found.seconds.low:.0f} to {found.seconds.high:.0f} s)"


def _learnt(
    teacher: LiveTeacher, rows: Sequence[Example], journal: Journal
) -> tuple[Estimator, Interval, int]:
    """Go through the first attempts: which are missing, and what those that are there took."""
    estimator, missing = Estimator(teacher.config.max_tokens), 0
    seconds: list[float] = []
    teacher.take_format(journal)
    for example in rows:
        reply = journal.get(teacher.request(example, Attempt(0, 0.0)).key)
        if reply is None:
            missing += 1
        elif reply.prompt_tokens is not None and len(seconds) < _LOOKED_AT:
            usage = Usage(reply.prompt_tokens, reply.completion_tokens or 0, reply.cached_tokens or 0)
            estimator.learn(teacher.rough(example), usage)
            seconds.append(reply.latency_s)
    if len(seconds) < LEARNT_AFTER:
        return estimator, _LATENCY, missing
    ordered = sorted(seconds)
    mean = sum(seconds) / len(seconds)
    return estimator, Interval(ordered[0], mean, ordered[-1]), missing


def _speed(config: TeacherConfig, latency: Interval) -> Speed:
    limits = config.limits
    return Speed(limits.concurrency, latency, limits.requests_per_minute, limits.tokens_per_minute)


def _range(value: Interval) -> str:
    if value.low == value.high:
        return f"{value.mean:.0f}"
    return f"{value.mean:.0f} ({value.low:.0f} to {value.high:.0f})"
