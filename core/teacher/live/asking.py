"""The first pass of a live teacher: ask whatever the journal lacks, many texts at once."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection, Iterator
from typing import NoReturn

from core.errors import PassingError, StoreError, TeacherError
from core.progress import Progress
from core.records import Example, TeacherAnswer
from core.teacher.base import Attempt
from core.teacher.journal import Journal
from core.teacher.live.client import FORMATS
from core.teacher.live.questions import PLAIN, Questions
from core.teacher.live.sending import FormatRefused, Ledger, Sender
from core.teacher.reply import Reply
from core.teacher.request import TeacherRequest

log = logging.getLogger(__name__)

_OTHERS_S = 3.0
_WINDOW = 4096
"""Texts held at once; of two runs at once, those under way are few of these."""


class Asking:
    """Puts texts to the endpoint until the policy has enough of each. Opened in a running event loop."""

    def __init__(self, questions: Questions, journal: Journal, progress: Progress) -> None:
        self._questions, self._journal, self._progress = questions, journal, progress
        self._sender = Sender(questions.config, journal)
        self._done = self._asked = 0
        self._unread: set[str] = set()
        self._under_way: dict[str, asyncio.Event] = {}

    async def all(self, rows: Collection[Example], total: int) -> Ledger:
        """Ask what is missing of each text. Raises TeacherError where nothing more may be sent."""
        try:
            if rows and not self._questions.take_format(self._journal):
                self._sender.settling = True
                await self._settle(rows)
                self._sender.settling = False
            await self._rest(rows, total)
            await self._once_more(rows, total)
            return self._sender.ledger
        except Exception:
            await self._sender.drain()
            raise
        finally:
            await self._sender.close()

    async def _settle(self, rows: Collection[Example]) -> None:
        """The run's first request, sent alone: key, model and output format are right, or it stops here.

        A text that the endpoint will not read says nothing of these; the next one is sent in its place.
        """
        for example in rows:
            if await self._settled_by(example):
                break
            self._unread.add(example.id)
        else:
            self._stop_unsettled()
        config, questions = self._questions.config, self._questions
        settled = self._journal.settle_format(config.base_url, config.model, questions.output_format)
        questions.output_format = settled

    async def _settled_by(self, example: Example) -> bool:
        """Ask for a text's first answer in one format after the other; False: it will not be read."""
        questions, ledger = self._questions, self._sender.ledger
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
                    raise TeacherError(
                        f"{questions.config.base_url} refuses even a plain request: {e}; check "
                        "teacher.model and teacher.extra_body, and run the same command again"
                    ) from e
                continue
            if reply is None and ledger.failed:
                self._stop_unsettled()
            return reply is not None
        return False

    def _stop_unsettled(self) -> NoReturn:
        words = next(iter(self._sender.ledger.given_up), "no answer")
        raise TeacherError(
            f"{self._questions.config.base_url} did not answer the first request ({words}); check "
            "teacher.base_url and teacher.model, and run the same command again"
        )

    async def _rest(self, rows: Collection[Example], total: int) -> None:
        """Workers take texts in turn; one that waits before a retry holds no place at the endpoint."""
        waiting = self._shuffled(rows)

        async def work() -> None:
            for example in waiting:
                await self._ask(example)
                self._done += 1
                self._progress.update(self._done, total, self._note(total))

        others = asyncio.create_task(self._read_others())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(rows), 2 * self._questions.config.limits.concurrency)):
                    group.create_task(work())
        finally:
            others.cancel()

    async def _once_more(self, rows: Collection[Example], total: int) -> None:
        """An outage that outlasted all tries of some texts is over when others are answered."""
        ledger = self._sender.ledger
        again = [example for example in rows if example.id in ledger.failed_ids]
        if again and ledger.answered:
            log.info("asking once more for the %d texts that failed in all tries", len(again))
            ledger.failed.clear()
            self._done -= len(again)
            await self._rest(again, total)

    def _shuffled(self, rows: Collection[Example]) -> Iterator[Example]:
        """In an order of the run's own: two runs at once seldom ask the same, and find each other's."""
        rng, window = random.Random(self._journal.run), list[Example]()
        for example in rows:
            window.append(example)
            if len(window) == _WINDOW:
                at = rng.randrange(_WINDOW)
                window[at], window[-1] = window[-1], window[at]
                yield window.pop()
        rng.shuffle(window)
        yield from window

    async def _read_others(self) -> None:
        """Every few seconds take in what other runs under the root were answered."""
        while True:
            await asyncio.sleep(_OTHERS_S)
            try:
                await asyncio.to_thread(self._journal.refresh)
            except (StoreError, PassingError) as e:
                log.warning("%s: what other runs are answered meanwhile may be asked for again", e)

    async def _ask(self, example: Example) -> None:
        answers: list[TeacherAnswer] = []
        asked = False
        if example.id in self._unread:
            return
        while (attempt := self._questions.policy.next(example.label, answers)) is not None:
            request = self._questions.request(example, attempt)
            reply = self._journal.get(request.key)
            if reply is None:
                self._asked += not asked
                asked = True
                reply = await self._reply(request, example, attempt)
            if reply is None:
                return
            answers.append(self._questions.read(example, attempt, reply))

    async def _reply(self, request: TeacherRequest, example: Example, attempt: Attempt) -> Reply | None:
        """The endpoint's; texts that are alike wait for the one that asks first."""
        while (other := self._under_way.get(request.key)) is not None:
            await other.wait()
            if (reply := self._journal.get(request.key)) is not None:
                return reply
        self._under_way[request.key] = done = asyncio.Event()
        try:
            return await self._sender.send(request, example, attempt)
        except FormatRefused as e:
            file = self._journal.format_file(request.endpoint, request.model)
            raise TeacherError(
                f"{request.endpoint} refuses the output format {request.output_format}, which it took before "
                f"({e}); run the same command again, or, where that does not mend it, remove {file}: all "
                "is then asked again in another format"
            ) from e
        finally:
            del self._under_way[request.key]
            done.set()

    def _note(self, total: int) -> str:
        """What the run has spent, and what the texts to come will take if they are like those asked."""
        spent, ledger = self._sender.spent, self._sender.ledger
        left = (total - self._done) / max(self._asked, 1)
        if spent.usd:
            return f"${spent.usd:.4f} spent, about ${ledger.usd * left:.4f} to come"
        return f"{spent.tokens} tokens spent, about {ledger.usage.total * left:.0f} to come"
