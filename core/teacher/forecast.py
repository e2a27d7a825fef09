"""What the requests of a live teacher will take, before anything is sent: for the plan."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from functools import reduce
from operator import add

from core.completions.budget import LEARNED_AFTER, Estimator, rough_tokens
from core.completions.completer import stored_completions
from core.completions.journal import Journal
from core.completions.reply import Reply
from core.config import Config
from core.config.endpoint import Endpoint
from core.cost import Forecast, Range, Usage, estimate_run, price_of
from core.data.writing import scan_examples
from core.records import Example, SplitName
from core.store.manifest import Manifest
from core.store.objects import Store
from core.teacher.live import LiveTeacher
from core.teacher.stage import SampleSettings, open_teacher


def forecast(
    teacher: LiveTeacher, rows: Collection[Example], journal: Journal, taken: Taken | None = None
) -> tuple[Forecast, str]:
    """Return the forecast for what the journal lacks, and where its token counts come from, in words.

    Reads all texts and their stored answers; what these took (tokens, the cached share of prompts,
    seconds, attempts per text) is expected of the others. `taken` is what other texts' answers took,
    without attempts; these are added to it.
    """
    config, policy, context = teacher.config, teacher.policy, teacher.context(journal)
    taken = taken or Taken(config.endpoint)
    context.take_format()
    # Texts without an answer, with some but not enough, and with enough; requests that are left, and the
    # least of them that the policy asks for; attempts of the finished texts, and bytes of the other prompts.
    fresh = begun = finished = left = least = attempts = 0
    rough = 0.0
    for example in rows:
        given = stored_completions(context, example, teacher.next_request)
        first = given[0].request if given else teacher.next_request(example, ())
        assert first is not None, "a policy asks at least once"
        prompt, labels = rough_tokens(first.messages), [each.parsed.label for each in given]
        for each in given:
            taken.add(each.reply, prompt)
        if policy.next(example.label, labels) is None:
            finished += 1
            attempts += len(given)
            continue
        fresh += not given
        begun += bool(given)
        left += config.attempts + config.hint - len(given)
        least += max(1, min(policy.keep - labels.count(example.label), policy.attempts - len(labels)))
        rough += prompt
    mean = float(least)
    if finished >= LEARNED_AFTER:
        mean = min(max(fresh * attempts / finished + begun, least), left)
    found = estimate_run(
        Range(least, mean, left),
        taken.estimator.prompt(rough / max(fresh + begun, 1)),
        taken.estimator.completion(),
        price_of(config.endpoint),
        config.endpoint.limits,
        taken.latency(),
        taken.cached_share(),
    )
    counter = "a token for 4 bytes, a guess"
    if taken.estimator.learned:
        counter = f"the server's own counts in {len(taken.seconds)} answers"
    return found, counter


def forecast_lines(config: Config, store: Store, parts: Manifest, journal: Journal) -> Iterator[str]:
    """Yield lines for people: the forecast for each split that a live teacher answers, and their sum.

    `parts` are the files of the splits. What the answers to one split took is expected of the next, too.
    """
    splits: tuple[SplitName, ...] = ("train", *config.teacher.label_splits)
    taken, forecasts = Taken(config.teacher.endpoint), []
    for name in splits:
        teacher = open_teacher(SampleSettings.of(config, name), lambda: contextlib.nullcontext(journal))
        assert isinstance(teacher, LiveTeacher)
        rows = scan_examples(store.file(parts, f"{name}.csv"))
        found, counter = forecast(teacher, rows, journal, taken)
        about = f" about {name}" if len(splits) > 1 else ""
        prompt, completion = _range(found.prompt_tokens), _range(found.completion_tokens)
        yield f"asking {teacher.model}{about}: {_range(found.calls)} calls, tokens counted by: {counter}"
        yield f"  {prompt} prompt tokens, {completion} completion tokens"
        yield f"  {_money(found)}"
        yield f"  {_time(found)}"
        forecasts.append(found)
    if len(splits) > 1:
        total = reduce(add, forecasts)
        yield f"in all: {_range(total.calls)} calls; {_money(total)}; {_time(total)}"


class Taken:
    """What answers took: tokens, the cached share of prompts, seconds."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.estimator = Estimator(endpoint.max_tokens)
        self.seconds: list[float] = []
        self._prompt = self._cached = 0

    def add(self, answer: Reply, rough: float) -> None:
        """Add an answer to a prompt that is `rough` tokens by its bytes."""
        if answer.prompt_tokens is None:
            return
        cached = answer.cached_tokens or 0
        self.estimator.learn(rough, Usage(answer.prompt_tokens, answer.completion_tokens or 0, cached))
        if self.seconds:  # the very first request, unlike all later ones, found nothing cached
            self._prompt += answer.prompt_tokens
            self._cached += cached
        self.seconds.append(answer.latency_s)

    def latency(self) -> Range:
        """Return the seconds of an answer, guessed until learned."""
        if len(self.seconds) < LEARNED_AFTER:
            return Range(1.0, 5.0, 30.0)
        return Range(min(self.seconds), sum(self.seconds) / len(self.seconds), max(self.seconds))

    def cached_share(self) -> float:
        """Return the share of prompts in the server's cache; 0, the cautious guess, until learned."""
        return self._cached / self._prompt if self.estimator.learned and self._prompt else 0.0


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
