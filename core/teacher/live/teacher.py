"""A live teacher: every text is put to an endpoint until the policy has enough, each answer kept.

Two passes. The first asks whatever the journal lacks, many texts at once, in whatever order answers
come. The second reads the journal in the order of the rows, so that what comes out does not depend
on who answered first, on a restart, or on who paid.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from core.config.teacher import TeacherConfig
from core.errors import TeacherError
from core.progress import Progress
from core.prompts import Prompts
from core.records import Example, TeacherAnswer
from core.teacher.base import Answered, Attempt, AttemptPolicy
from core.teacher.journal import Journal
from core.teacher.labels import LabelNames
from core.teacher.live.client import FORMATS
from core.teacher.live.sending import FormatRefused, Ledger, Sender
from core.teacher.live.tokens import rough_tokens
from core.teacher.parsing import parse
from core.teacher.reply import Reply
from core.teacher.request import TeacherRequest

T = TypeVar("T")
OpenJournal = Callable[[], AbstractContextManager[Journal]]
PLAIN = "plain"


class LiveTeacher:
    """Asks an OpenAI-compatible endpoint. `journal` opens the journal of the run's root."""

    def __init__(
        self,
        config: TeacherConfig,
        prompts: Prompts,
        rulebook: str,
        names: LabelNames,
        journal: OpenJournal,
    ) -> None:
        self.config, self.prompts, self.rulebook, self.names = config, prompts, rulebook, names
        self.policy = AttemptPolicy(config.attempts, config.keep, config.temperature, config.hint)
        self._open = journal
        self._format = PLAIN
        self._facts: dict[str, Any] = {}

    @property
    def model(self) -> str:
        """The model's name at the endpoint."""
        return self.config.model

    def answers(self, examples: Iterable[Example], total: int, progress: Progress) -> Iterator[Answered]:
        """Raises TeacherError where the endpoint refuses, fails too often, or the budget is spent."""
        rows = examples if isinstance(examples, Sequence) else list(examples)
        with self._open() as journal:
            ledger = _run(self._ask_all(rows, total, journal, progress))
            reused = 0
            for example in rows:
                given = self._given(example, journal)
                reused += len(given)
                yield Answered(example, tuple(given))
            self._facts = _facts(self._format, ledger, journal, reused)

    def facts(self) -> Mapping[str, Any]:
        """The output format, and the ledger: requests, tokens and money of this start and of the run."""
        return self._facts

    def rough(self, example: Example) -> float:
        """Tokens of a first attempt's prompt, by its bytes."""
        return rough_tokens(self.prompts.teacher_messages(example.text, self.rulebook))

    def take_format(self, journal: Journal) -> bool:
        """Take the output format that was settled; False where none was."""
        settled = journal.settled_format(self.config.base_url, self.config.model)
        self._format = settled or next(iter(FORMATS))
        return settled is not None

    async def _ask_all(
        self, rows: Sequence[Example], total: int, journal: Journal, progress: Progress
    ) -> Ledger:
        sender = Sender(self.config, journal)
        try:
            if rows and not self.take_format(journal):
                await self._settle(rows[0], journal, sender)
            await self._ask_rest(rows, total, journal, sender, progress)
            return sender.ledger
        finally:
            await sender.close()

    async def _settle(self, example: Example, journal: Journal, sender: Sender) -> None:
        """The run's first request, sent alone: key, model and output format are right, or it stops here."""
        attempt = self.policy.next(example.label, ())
        assert attempt is not None, "a policy asks at least once"
        for name in FORMATS:
            self._format = name
            try:
                reply = await sender.send(self.request(example, attempt), example, attempt)
            except FormatRefused as e:
                if name == PLAIN:
                    raise TeacherError(f"{self.config.base_url} refuses even a plain request: {e}") from e
                continue
            if reply is None:
                words = next(iter(sender.ledger.given_up), "no answer")
                raise TeacherError(
                    f"{self.config.base_url} did not answer the first request ({words}); check "
                    "teacher.base_url and teacher.model, and run the same command again"
                )
            break
        self._format = journal.settle_format(self.config.base_url, self.config.model, self._format)

    async def _ask_rest(
        self, rows: Sequence[Example], total: int, journal: Journal, sender: Sender, progress: Progress
    ) -> None:
        """Workers take texts in order; one that waits before a retry holds no place at the endpoint."""
        waiting, done = iter(rows), 0

        async def work() -> None:
            nonlocal done
            for example in waiting:
                await self._ask(example, journal, sender)
                done += 1
                progress.update(done, total, _note(sender))

        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(rows), 2 * self.config.limits.concurrency)):
                group.create_task(work())

    async def _ask(self, example: Example, journal: Journal, sender: Sender) -> None:
        answers: list[TeacherAnswer] = []
        while (attempt := self.policy.next(example.label, answers)) is not None:
            request = self.request(example, attempt)
            reply = journal.get(request.key) or await sender.send(request, example, attempt)
            if reply is None:
                return
            answers.append(self._read(example, attempt, reply))

    def _given(self, example: Example, journal: Journal) -> list[TeacherAnswer]:
        """What the journal has of a text, as far as the policy asks."""
        answers: list[TeacherAnswer] = []
        while (attempt := self.policy.next(example.label, answers)) is not None:
            reply = journal.get(self.request(example, attempt).key)
            if reply is None:
                break
            answers.append(self._read(example, attempt, reply))
        return answers

    def request(self, example: Example, attempt: Attempt) -> TeacherRequest:
        """What an attempt at a text asks, in the settled format."""
        gold = example.label if attempt.hinted else None
        return TeacherRequest(
            endpoint=self.config.base_url,
            model=self.config.model,
            messages=self.prompts.teacher_messages(example.text, self.rulebook, gold=gold),
            attempt=attempt.number,
            temperature=attempt.temperature,
            max_tokens=self.config.max_tokens,
            output_format=self._format,
            extra=self.config.extra_body,
        )

    def _read(self, example: Example, attempt: Attempt, reply: Reply) -> TeacherAnswer:
        parsed = parse(reply.raw_output, self.config.parse, self.names)
        return TeacherAnswer(
            example_id=example.id,
            sample=attempt.number,
            model=reply.model,
            raw_output=reply.raw_output,
            parse_ok=parsed.ok,
            parse_source=parsed.source,
            label=parsed.label,
            reasoning=parsed.reasoning,
            error=parsed.error,
            finish_reason=reply.finish_reason,
            temperature=reply.temperature,
            hinted=attempt.hinted,
        )


def _note(sender: Sender) -> str:
    spent = sender.spent
    return f"${spent.usd:.4f}, {spent.tokens} tokens" if spent.usd else f"{spent.tokens} tokens"


def _facts(output_format: str, ledger: Ledger, journal: Journal, answers: int) -> dict[str, Any]:
    run = journal.spent(journal.run)
    return {
        "output_format": output_format,
        "ledger": {
            "asked_now": ledger.answered,
            "reused": answers - ledger.answered,
            "usd_now": round(ledger.usd, 6),
            "tokens_now": ledger.usage.total,
            "cached_tokens_now": ledger.usage.cached,
            "requests_of_the_run": run.requests,
            "prompt_tokens_of_the_run": run.prompt_tokens,
            "cached_tokens_of_the_run": run.cached_tokens,
            "completion_tokens_of_the_run": run.completion_tokens,
            "retried": dict(ledger.retried.most_common()),
            "given_up": dict(ledger.given_up.most_common(20)),
        },
    }


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run in a loop of our own; a thread has it where this one is inside a loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_unwrapped(work))
    out: list[T] = []
    failed: list[BaseException] = []

    def in_thread() -> None:
        try:
            out.append(asyncio.run(_unwrapped(work)))
        except BaseException as e:
            failed.append(e)

    thread = threading.Thread(target=in_thread, name="teacher")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return out[0]


async def _unwrapped(work: Coroutine[Any, Any, T]) -> T:
    """The first of several failures: they share one cause, and one sentence is enough."""
    try:
        return await work
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
