"""The first pass of a live teacher: ask whatever the journal lacks, many texts at once."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
from collections.abc import Collection, Iterator
from typing import NoReturn

from core.completions.client import FORMATS
from core.completions.journal import Journal
from core.completions.reply import Reply
from core.completions.request import TeacherRequest
from core.errors import PassingError, StoreError, TeacherError
from core.progress import Progress
from core.records import Example, TeacherAnswer
from core.teacher.base import Attempt
from core.teacher.live.canary import Canary
from core.teacher.live.old import find_old_limits
from core.teacher.live.questions import Questions
from core.teacher.live.sending import REJECTED_AT_MOST, FormatRefused, Ledger, Sender

log = logging.getLogger(__name__)

_OTHERS_S = 3.0
_WITHOUT_SUCCESS = 4
_WINDOW = 4096
"""Texts held at once; of two runs at once, those under way are few of these."""


class Asking:
    """Puts texts to the endpoint until the policy has enough of each. Opened in a running event loop."""

    def __init__(
        self,
        questions: Questions,
        journal: Journal,
        progress: Progress,
        rows: Collection[Example],
        total: int,
    ) -> None:
        self._questions, self._journal, self._progress = questions, journal, progress
        self._canary = Canary(questions, journal, rows)
        self._sender = Sender(questions, journal, self._canary)
        self._rows, self._total = rows, total
        self._done = self._asked = 0
        self._unread: set[str] = set()
        self._under_way: dict[str, asyncio.Event] = {}
        self._simpler = asyncio.Lock()
        self._rejections = self._simpler_worked = self._simpler_failed = 0

    async def all(self) -> Ledger:
        """Ask what is missing of each text. Raises TeacherError where nothing more may be sent."""
        rows = self._rows
        try:
            if rows:
                settled = self._questions.take_format(self._journal)
                find_old_limits(self._questions, rows, self._journal)
                if not settled:
                    await self._settle(rows)
            await self._rest(rows)
            self._canary.check()
            await self._once_more(rows)
            return self._sender.ledger
        except Exception:
            await self._sender.drain()
            raise
        finally:
            await self._canary.close()
            await self._sender.close()

    async def _settle(self, rows: Collection[Example]) -> None:
        """The run's first request, sent alone: key, model and output format are right, or it stops here.

        A text that the endpoint will not read says nothing of these; the next one is sent in its place. Where
        the journal has an answer to everything, nothing is sent, and nothing is settled.
        """
        questions, any_missing = self._questions, False
        for example in rows:
            attempt = questions.policy.next(example.label, questions.given(example, self._journal))
            if attempt is None:
                continue
            any_missing = True
            if await self._settled_by(example, attempt):
                config = questions.config
                questions.output_format = self._journal.settle_format(
                    config.base_url, config.model, questions.output_format
                )
                return
            self._unread.add(example.id)
            if self._rejections + self._sender.ledger.unread.total() >= REJECTED_AT_MOST:
                self._sender.stop_unread()
        if any_missing:
            self._stop_unsettled()

    async def _settled_by(self, example: Example, attempt: Attempt) -> bool:
        """Ask for a text's next answer in one format after the other; False: it will not be read."""
        doubtful = list[str]()
        for name in FORMATS:
            try:
                answered = await self._try_format(name, example, attempt)
            except FormatRefused as e:
                self._rejections += 1
                log.info("the endpoint rejects the output format %s (%s); trying a simpler one", name, e)
                if e.may_pass:
                    doubtful.append(name)
                continue
            if not answered and self._sender.ledger.failed:
                self._stop_unsettled()
            if answered:
                await self._reconsider(doubtful, example, attempt)
            return answered
        return False

    async def _try_format(self, name: str, example: Example, attempt: Attempt) -> bool:
        """Make a format the present one, and ask in it; whether there is an answer."""
        self._questions.output_format = name
        request = self._questions.request(example, attempt)
        return await self._sender.send(request, example, attempt, trial=True) is not None

    async def _reconsider(self, doubtful: list[str], example: Example, attempt: Attempt) -> None:
        """Try a format again that failed with a server error: that may have been an outage, now over."""
        answered_in = self._questions.output_format
        for name in doubtful:
            with contextlib.suppress(FormatRefused):
                if await self._try_format(name, example, attempt):
                    return
        self._questions.output_format = answered_in

    def _stop_unsettled(self) -> NoReturn:
        words = next(iter(self._sender.ledger.given_up), "no answer")
        raise TeacherError(
            f"{self._questions.config.base_url} did not answer the first request ({words}); check "
            "teacher.base_url and teacher.model, and run the same command again"
        )

    async def _rest(self, rows: Collection[Example]) -> None:
        """Workers take texts in turn; one that waits before a retry holds no place at the endpoint."""
        waiting = self._shuffled(rows)

        async def work() -> None:
            for example in waiting:
                await self._ask(example)
                self._done += 1
                self._progress.update(self._done, self._total, self._note())

        others = asyncio.create_task(self._read_others())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(rows), 2 * self._questions.config.limits.concurrency)):
                    group.create_task(work())
        finally:
            others.cancel()

    async def _once_more(self, rows: Collection[Example]) -> None:
        """An outage that outlasted all tries of some texts is over when others are answered."""
        ledger = self._sender.ledger
        again = [example for example in rows if example.id in ledger.failed_ids]
        if again and ledger.answered:
            log.info("asking once more for the %d texts that failed in all tries", len(again))
            ledger.failed.clear()
            self._done -= len(again)
            await self._rest(again)

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
            reply = self._questions.stored(request, self._journal)
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
            if (reply := self._questions.stored(request, self._journal)) is not None:
                return reply
        self._under_way[request.key] = done = asyncio.Event()
        try:
            return await self._sender.send(request, example, attempt)
        except FormatRefused as e:
            return await self._in_a_simpler_format(request, example, attempt, e)
        finally:
            del self._under_way[request.key]
            done.set()

    async def _in_a_simpler_format(
        self, request: TeacherRequest, example: Example, attempt: Attempt, refused: FormatRefused
    ) -> Reply | None:
        """The answer in a simpler format where the settled one is rejected: of a router's backends, some may
        not offer it. The settled format stays settled.

        Where simpler formats are rejected too, the format is not the reason, and after a few such texts
        rejections are taken as they are. Where no text of this start was answered in the settled format, it
        stops after a few.
        """
        if not self._simpler_worked:
            async with self._simpler, self._sender.in_doubt():
                if not self._simpler_worked and self._simpler_failed < _WITHOUT_SUCCESS:
                    return await self._try_simpler(request, example, attempt, refused)
        if not self._simpler_worked:
            self._sender.give_up(refused, example)
            return None
        return await self._try_simpler(request, example, attempt, refused)

    async def _try_simpler(
        self, request: TeacherRequest, example: Example, attempt: Attempt, refused: FormatRefused
    ) -> Reply | None:
        names = list(FORMATS)
        for name in names[names.index(request.output_format) + 1 :]:
            simpler = dataclasses.replace(request, output_format=name)
            try:
                reply = await self._sender.send(simpler, example, attempt, trial=True)
            except FormatRefused:
                continue
            self._simpler_worked += reply is not None
            self._simpler_failed += reply is None
            if reply is not None and request.output_format not in self._sender.accepted:
                self._stop_rejected(request, refused)
            return reply
        return None

    def _stop_rejected(self, request: TeacherRequest, refused: FormatRefused) -> None:
        """Stop where the settled format was rejected for several texts and accepted for none."""
        if self._simpler_worked < _WITHOUT_SUCCESS:
            return
        file = self._journal.format_file(request.endpoint, request.model)
        raise TeacherError(
            f"{request.endpoint} refuses the output format {request.output_format}, which it took before "
            f"({refused}); run the same command again, or, where that does not help, remove {file}: what has "
            "no usable answer is then asked for in another format"
        ) from refused

    def _note(self) -> str:
        """What the run has spent, and what the texts to come will take if they are like those asked."""
        spent, ledger = self._sender.spent, self._sender.ledger
        left = (self._total - self._done) / max(self._asked, 1)
        if spent.usd:
            return f"${spent.usd:.4f} spent, about ${ledger.usd * left:.4f} to come"
        return f"{spent.tokens} tokens spent, about {ledger.usage.total * left:.0f} to come"
