"""The first pass of a live teacher: ask whatever the journal lacks, many texts at once."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from core.errors import TeacherError
from core.progress import Progress
from core.records import Example, TeacherAnswer
from core.teacher.journal import Journal
from core.teacher.live.client import FORMATS
from core.teacher.live.questions import PLAIN, Questions
from core.teacher.live.sending import FormatRefused, Ledger, Sender


class Asking:
    """Puts texts to the endpoint until the policy has enough of each. Opened in a running event loop."""

    def __init__(self, questions: Questions, journal: Journal, progress: Progress) -> None:
        self._questions, self._journal, self._progress = questions, journal, progress
        self._sender = Sender(questions.config, journal)
        self._done = self._asked = 0

    async def all(self, rows: Collection[Example], total: int) -> Ledger:
        """Ask what is missing of each text. Raises TeacherError where nothing more may be sent."""
        try:
            if rows and not self._questions.take_format(self._journal):
                await self._settle(next(iter(rows)))
            await self._rest(rows, total)
            return self._sender.ledger
        finally:
            await self._sender.close()

    async def _settle(self, example: Example) -> None:
        """The run's first request, sent alone: key, model and output format are right, or it stops here."""
        questions, config = self._questions, self._questions.config
        attempt = questions.policy.next(example.label, ())
        assert attempt is not None, "a policy asks at least once"
        for name in FORMATS:
            questions.output_format = name
            request = questions.request(example, attempt)
            # A run that was killed right after its first answer finds it here.
            reply = self._journal.get(request.key)
            try:
                reply = reply or await self._sender.send(request, example, attempt)
            except FormatRefused as e:
                if name == PLAIN:
                    raise TeacherError(f"{config.base_url} refuses even a plain request: {e}") from e
                continue
            if reply is None:
                words = next(iter(self._sender.ledger.given_up), "no answer")
                raise TeacherError(
                    f"{config.base_url} did not answer the first request ({words}); check "
                    "teacher.base_url and teacher.model, and run the same command again"
                )
            break
        settled = self._journal.settle_format(config.base_url, config.model, questions.output_format)
        questions.output_format = settled

    async def _rest(self, rows: Collection[Example], total: int) -> None:
        """Workers take texts in order; one that waits before a retry holds no place at the endpoint."""
        waiting = iter(rows)

        async def work() -> None:
            for example in waiting:
                await self._ask(example)
                self._done += 1
                self._progress.update(self._done, total, self._note(total))

        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(rows), 2 * self._questions.config.limits.concurrency)):
                group.create_task(work())

    async def _ask(self, example: Example) -> None:
        answers: list[TeacherAnswer] = []
        asked = False
        while (attempt := self._questions.policy.next(example.label, answers)) is not None:
            request = self._questions.request(example, attempt)
            reply = self._journal.get(request.key)
            if reply is None:
                self._asked += not asked
                asked = True
                reply = await self._sender.send(request, example, attempt)
            if reply is None:
                return
            answers.append(self._questions.read(example, attempt, reply))

    def _note(self, total: int) -> str:
        """What the run has spent, and what the texts to come will take if they are like those asked."""
        spent, ledger = self._sender.spent, self._sender.ledger
        left = (total - self._done) / max(self._asked, 1)
        if spent.usd:
            return f"${spent.usd:.4f} spent, about ${ledger.usd * left:.4f} to come"
        return f"{spent.tokens} tokens spent, about {ledger.usage.total * left:.0f} to come"
