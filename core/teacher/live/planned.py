"""What asking a live teacher will take, before anything is asked: for the plan."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import reduce
from operator import add

from core.completions.budget import LEARNT_AFTER, Estimator, price_of
from core.completions.journal import Journal
from core.config.teacher import TeacherConfig
from core.cost import Forecast, Range, Speed, Usage, estimate_run
from core.records import Example, TeacherAnswer
from core.teacher.live.old import find_old_limits
from core.teacher.live.questions import Questions
from core.teacher.live.teacher import LiveTeacher

_LATENCY = Range(1.0, 5.0, 30.0)
"""Seconds an answer takes before any was seen; a guess."""


def forecast(
    teacher: LiveTeacher, rows: Collection[Example], journal: Journal, taken: Taken | None = None
) -> tuple[Forecast, str]:
    """The forecast for what the journal lacks, and where its token counts come from, in words.

    Goes over all texts and what was answered of them; what the answers there are took (tokens, the
    cached share of prompts, seconds, attempts a text) is what the others are expected to take. `taken`
    is what other texts' answers took, attempts aside; these are taken into it.
    """
    config = teacher.config
    taken = taken or Taken(config)
    seen = _Seen(teacher.questions, taken)
    teacher.questions.take_format(journal)
    find_old_limits(teacher.questions, rows, journal)
    for example in rows:
        seen.text(example, teacher.questions.given(example, journal))
    found = estimate_run(
        seen.calls(),
        taken.estimator.prompt_interval(seen.rough / max(seen.fresh + seen.begun, 1)),
        taken.estimator.completion_interval(),
        price_of(config),
        _speed(config, taken.latency()),
        taken.cached_share(),
    )
    counter = (
        f"the server's own counts in {len(taken.seconds)} answers"
        if taken.estimator.learnt
        else "a token for 4 bytes, a guess"
    )
    return found, counter


def told(found: Forecast, counter: str, whom: str) -> Iterator[str]:
    """The forecast in lines for people; `whom` is the model, and what about where that is not clear."""
    yield f"asking {whom}: {_range(found.calls)} calls, tokens counted by: {counter}"
    prompt, completion = _range(found.prompt_tokens), _range(found.completion_tokens)
    yield f"  {prompt} prompt tokens, {completion} completion tokens"
    yield f"  {_money(found)}"
    yield f"  {_time(found)}"


def in_all(found: Sequence[Forecast]) -> str:
    """Several forecasts, one after the other, in one line."""
    total = reduce(add, found)
    return f"in all: {_range(total.calls)} calls; {_money(total)}; {_time(total)}"


class Taken:
    """What answers took: tokens, the cached share of prompts, seconds."""

    def __init__(self, config: TeacherConfig) -> None:
        self.estimator = Estimator(config.max_tokens)
        self.seconds: list[float] = []
        self._prompt = self._cached = 0

    def add(self, answer: TeacherAnswer, rough: float) -> None:
        """Take in an answer to a prompt that is `rough` tokens by its bytes."""
        if answer.prompt_tokens is None:
            return
        cached = answer.cached_tokens or 0
        self.estimator.learn(rough, Usage(answer.prompt_tokens, answer.completion_tokens or 0, cached))
        if self.seconds:  # the first request of all found nothing cached, and no later one is like it
            self._prompt += answer.prompt_tokens
            self._cached += cached
        self.seconds.append(answer.latency_s or 0.0)

    def latency(self) -> Range:
        """Seconds for an answer."""
        if len(self.seconds) < LEARNT_AFTER:
            return _LATENCY
        return Range(min(self.seconds), sum(self.seconds) / len(self.seconds), max(self.seconds))

    def cached_share(self) -> float:
        """The share of prompts that the server had in its cache; 0, the cautious guess, until learnt."""
        return self._cached / self._prompt if self.estimator.learnt and self._prompt else 0.0


class _Seen:
    """What is there of some texts, gathered text by text."""

    def __init__(self, questions: Questions, taken: Taken) -> None:
        self._questions, self._most = questions, questions.config.attempts + questions.config.hint
        self._taken = taken
        self.fresh = self.begun = self._left = 0
        """Texts without an answer, and those whose answers are not enough yet."""
        self.rough = 0.0
        """Of the prompts of all these, by bytes."""
        self._least = 0
        """Requests that the policy asks for at least."""
        self._finished = self._attempts = 0

    def text(self, example: Example, given: list[TeacherAnswer]) -> None:
        """Take in a text and its answers."""
        rough = self._questions.rough(example)
        if self._questions.policy.next(example.label, given) is None:
            self._finished += 1
            self._attempts += len(given)
        else:
            self.fresh += not given
            self.begun += bool(given)
            self._left += self._most - len(given)
            self._least += self._questions.policy.least(example.label, given)
            self.rough += rough
        for answer in given:
            self._taken.add(answer, rough)

    def calls(self) -> Range:
        """How many requests the texts that lack something will take."""
        most = float(self._left)
        if self._finished < LEARNT_AFTER:
            return Range(self._least, self._least, most)
        mean = self.fresh * self._attempts / self._finished + self.begun
        return Range(self._least, min(max(mean, self._least), most), most)


def _speed(config: TeacherConfig, latency: Range) -> Speed:
    limits = config.limits
    return Speed(limits.concurrency, latency, limits.requests_per_minute, limits.tokens_per_minute)


def _money(found: Forecast) -> str:
    if found.usd is None:
        return "the price is not known: see teacher.prices"
    return f"${found.usd.mean:.4g} (${found.usd.low:.4g} to ${found.usd.high:.4g})"


def _time(found: Forecast) -> str:
    return f"{found.seconds.mean:.0f} s ({found.seconds.low:.0f} to {found.seconds.high:.0f})"


def _range(value: Range) -> str:
    if value.low == value.high:
        return f"{value.mean:.0f}"
    return f"{value.mean:.0f} ({value.low:.0f} to {value.high:.0f})"
