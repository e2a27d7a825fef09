"""A live teacher: an endpoint is asked about every text until the policy has enough answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

from core.completions.chat import ChatRequest, Completion, Problem, Reply, ResponseSchema, ending
from core.completions.completer import complete_each, stored_completions
from core.completions.journal import Journal
from core.completions.limits import LEARNED_AFTER, Estimator, RequestLedger, rough_tokens
from core.completions.request_context import RequestContext
from core.config import Endpoint, TeacherConfig
from core.cost import Forecast, Range, Usage, cost, estimate_run, price_of
from core.errors import TeacherError
from core.progress import Progress
from core.prompts import TEXT_SLOT, Prompts
from core.records import BINARY, Example, SplitName, TeacherAnswer
from core.teacher.parsing import LabelNames, ParsedAnswer, parse_reply
from core.teacher.samples import Answered, AttemptPolicy, TeacherFacts, TeacherLedger

OpenJournal = Callable[[], AbstractContextManager[Journal]]
Given = Sequence[Completion[ParsedAnswer]]
ANSWER_SCHEMA = ResponseSchema(
    "answer",
    {
        "type": "object",
        "properties": {"reasoning": {"type": "string"}, "label": {"type": "string", "enum": [*BINARY.codes]}},
        "required": ["reasoning", "label"],
        "additionalProperties": False,
    },
    is_in_key=False,
)


class LiveTeacher:
    """Asks an OpenAI-compatible endpoint. `journal` opens the journal of the run's root; `split` is where the
    texts are from, for messages.
    """

    def __init__(
        self,
        config: TeacherConfig,
        prompts: Prompts,
        rulebook: str,
        names: LabelNames,
        journal: OpenJournal,
        split: SplitName = "train",
    ) -> None:
        self.config, self.split = config, split
        self.policy = AttemptPolicy(config.attempts, config.keep, config.temperature, config.hint)
        self._prompts, self._rulebook, self._open = prompts, rulebook, journal
        self._parser = AnswerParser(config, names)
        self._frame = prompts.teacher_messages(TEXT_SLOT, rulebook)
        self._facts = TeacherFacts()

    @property
    def model(self) -> str:
        return self.config.model

    def answers(self, examples: Iterable[Example], total: int, progress: Progress) -> Iterator[Answered]:
        """Yield each text with its answers.

        Raises TeacherError if the endpoint refuses access, fails too often, or the budget is spent, and
        after the last text if some got no answer and may get one another time.
        """
        with self._open() as journal:
            context, ledger, answers = self.context(journal), RequestLedger(), 0
            for example, given in complete_each(
                context, examples, self.next_request, total, progress=progress, ledger=ledger
            ):
                answers += len(given)
                yield Answered(example, tuple(map(_answer, given)))
            self._refuse_missing(ledger, total)
            self._facts = self._facts_of(ledger, context, answers)

    def facts(self) -> TeacherFacts:
        """Return the output format and the ledger."""
        return self._facts

    def context(self, journal: Journal) -> RequestContext[ParsedAnswer]:
        """Return the context of the teacher's requests, to look up what is stored of them."""
        return RequestContext(self.config.endpoint, journal, self._parser, self._frame, ANSWER_SCHEMA)

    def next_request(self, example: Example, given: Given) -> ChatRequest | None:
        """Return the next request about a text after its completions so far; None if these are enough."""
        labels = [each.parsed.label for each in given]
        attempt = self.policy.next(example.label, labels)
        if attempt is None:
            return None
        gold = example.label if attempt.hinted else None
        messages = self._prompts.teacher_messages(example.text, self._rulebook, gold=gold)
        return ChatRequest(example.id, messages, attempt.number, attempt.temperature, attempt.hinted)

    def _refuse_missing(self, ledger: RequestLedger, total: int) -> None:
        """Raise TeacherError if more texts than allowed got no answer."""
        most = self.config.max_missing
        missing = len(ledger.failed) + (0 if most is None else ledger.unread.total())
        if missing <= (most or 0):
            return
        words = "; ".join(f"{words} ({n})" for words, n in ledger.given_up.most_common(3))
        raise TeacherError(
            f"{missing} of {total} texts of {self.split} got no answer: {words}; run the same command again, "
            f"which asks only these, or set teacher.max_missing to {missing} or more to continue without them"
        )

    def _facts_of(
        self, ledger: RequestLedger, context: RequestContext[ParsedAnswer], answers: int
    ) -> TeacherFacts:
        journal, price = context.journal, price_of(self.config.endpoint)
        run = journal.spent(journal.run)
        return TeacherFacts(
            output_format=context.output_format,
            ledger=TeacherLedger(
                run=journal.run,
                asked_now=ledger.answered,
                reused=max(0, answers - ledger.answered),
                usd_now=None if price is None else round(cost(ledger.usage, price), 6),
                tokens_now=ledger.usage.total,
                cached_tokens_now=ledger.usage.cached,
                usd_of_the_run=None if price is None else round(cost(run.budgeted, price), 6),
                requests_of_the_run=run.requests,
                prompt_tokens_of_the_run=run.prompt_tokens,
                cached_tokens_of_the_run=run.cached_tokens,
                completion_tokens_of_the_run=run.completion_tokens,
                unmetered_of_the_run=run.unmetered,
                retried=dict(ledger.retried.most_common()),
                given_up=dict(ledger.given_up.most_common(20)),
            ),
        )


def _answer(completion: Completion[ParsedAnswer]) -> TeacherAnswer:
    request, reply, parsed = completion.request, completion.reply, completion.parsed
    return TeacherAnswer(
        example_id=request.id,
        sample=request.attempt,
        model=reply.model,
        raw_output=reply.raw_output,
        parse_ok=parsed.ok,
        parse_source=parsed.source,
        label=parsed.label,
        reasoning=parsed.reasoning,
        error=parsed.error,
        finish_reason=reply.finish_reason,
        temperature=reply.temperature,
        hinted=request.hinted,
        reasoning_content=reply.reasoning_content,
        prompt_tokens=reply.prompt_tokens,
        cached_tokens=reply.cached_tokens,
        completion_tokens=reply.completion_tokens,
        latency_s=reply.latency_s,
    )


class AnswerParser:
    """Reads completions as label and reasoning by the config's `teacher.parse`."""

    def __init__(self, config: TeacherConfig, names: LabelNames) -> None:
        self._config, self._names = config, names

    def parse(self, reply: Reply) -> ParsedAnswer:
        """Return label and reasoning of a completion, or why they cannot be read."""
        return parse_reply(
            reply.raw_output, reply.reasoning_content, reply.finish_reason, self._config.parse, self._names
        )

    def problem(self, reply: Reply, parsed: ParsedAnswer) -> Problem | None:
        if parsed.ok:
            return None
        how, error = ending(reply.finish_reason), (parsed.error or "").partition(":")[0]
        if how in ("truncated", "filtered"):
            found: str = how
        elif error == "empty" and reply.reasoning_content:
            found = "thinking"
        elif error in ("empty", "unknown_label"):
            found = error
        else:
            found = next((name for name in ("several", "reasoning") if name in error), "form")
        what, remedy = _PROBLEMS[found]
        limit = f" (teacher.max_tokens is {self._config.max_tokens})" if found == "truncated" else ""
        return Problem(found, f"{what}{limit}", remedy)


_PROBLEMS = {
    "truncated": (
        "are cut off at the token limit",
        "raise teacher.max_tokens, or turn the model's thinking off in teacher.extra_body",
    ),
    "filtered": (
        "were withheld by the endpoint's content filter",
        "change the filter's settings at the provider, or use another teacher.model",
    ),
    "thinking": (
        "are empty, with text in the reasoning field that contains no answer",
        "raise teacher.max_tokens, or turn the model's thinking off in teacher.extra_body",
    ),
    "empty": ("are empty", "check teacher.model and teacher.extra_body"),
    "unknown_label": (
        "name a label that is not known",
        "add the name to teacher.parse.labels, or name the labels in the prompts file (prompts.file)",
    ),
    "reasoning": (
        "have a label and no reasoning that can be read",
        "ask for both in the prompts file (prompts.file)",
    ),
    "several": (
        "name several labels or reasonings that differ",
        "ask for one answer in the prompts file (prompts.file)",
    ),
    "form": (
        "are not in a form that is read (JSON, or a <label> tag)",
        "describe how the label is written in teacher.parse.label_pattern, or change the prompts file "
        "(prompts.file)",
    ),
}
"""What is wrong with unusable answers, and how to fix it."""


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
