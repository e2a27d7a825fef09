"""Sends requests within limits and budget, again where a failure may pass, and makes replies durable."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
import uuid
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from core.config.teacher import TeacherConfig
from core.errors import BudgetSpent, TeacherRefused
from core.prices import Price, Prices, Usage, cost
from core.records import Example
from core.store.clock import now
from core.teacher.base import Attempt
from core.teacher.journal import Journal
from core.teacher.live.breaker import Breaker
from core.teacher.live.budget import Budget, Spending
from core.teacher.live.chatreply import CallError, Came
from core.teacher.live.client import ChatClient
from core.teacher.live.clock import RealClock
from core.teacher.live.concurrency import Limiter, Slot
from core.teacher.live.pace import Pace
from core.teacher.live.retrying import Backoff, Pause, refusal, retry_after, should_retry
from core.teacher.live.tokens import Estimator, rough_tokens
from core.teacher.live.usage import Counted
from core.teacher.live.verdict import Verdict, classify
from core.teacher.reply import Reply
from core.teacher.request import TeacherRequest

log = logging.getLogger(__name__)

_UNREAD_AT_MOST = 20
_SILENT_AT_MOST = 3
"""So often is a request sent to an endpoint of which nothing was heard yet: a wrong address stays wrong."""

Tried = Reply | float | None
"""What came of one try: the reply, or seconds until the next one, or None where the text is given up."""


class FormatRefused(Exception):
    """The endpoint does not offer the output format that was asked for; holds its words."""


@dataclass(slots=True)
class Ledger:
    """What this start of the run sent, and what became of it."""

    answered: int = 0
    usage: Usage = field(default_factory=lambda: Usage(0, 0))
    usd: float = 0.0
    retried: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    """Texts that the endpoint will not read, by its words."""
    failed: Counter[str] = field(default_factory=Counter)
    """Texts that it did not answer in all tries, by the last try's words."""
    failed_ids: set[str] = field(default_factory=set)

    @property
    def given_up(self) -> Counter[str]:
        """Texts without an answer, by the endpoint's words."""
        return self.unread + self.failed


class Sender:
    """One endpoint and everything that says when it may be asked. Opened in a running event loop."""

    def __init__(self, config: TeacherConfig, journal: Journal) -> None:
        self.config, self.journal, self.ledger = config, journal, Ledger()
        self._client = ChatClient(config)
        clock, limits, rng = RealClock(), config.limits, random.Random()
        self._clock, self._rng = clock, rng
        self._limiter = Limiter(clock, limits.concurrency)
        self._pace = Pace(clock, limits.requests_per_minute, limits.tokens_per_minute)
        self._pause, self._backoff = Pause(clock, rng), Backoff(tries=limits.tries)
        self._breaker = Breaker(clock, limits.breaker)
        self._estimator = Estimator(config.max_tokens)
        self._price = price_of(config)
        self._budget = Budget(config.budget.usd, config.budget.tokens, spent_before(journal, self._price))
        self._heard = self._warned = False
        self.settling = False
        """Whether the output format is still open: a failure that may be due to it is then FormatRefused."""
        self._sent: set[asyncio.Task[Any]] = set()

    @property
    def spent(self) -> Spending:
        """What this run spent so far, earlier starts included."""
        return self._budget.spent

    async def send(self, request: TeacherRequest, example: Example, attempt: Attempt) -> Reply | None:
        """The reply, durable; None where this one text cannot be answered.

        Raises TeacherError where nothing more may be sent, FormatRefused where another output format
        is needed, and StoreError where the reply could not be made safe.
        """
        tried = 1
        while isinstance(found := await self._let_end(self._try(request, example, attempt, tried)), float):
            await self._clock.sleep(found)
            tried += 1
        return found

    async def drain(self) -> None:
        """Wait for the answers under way, which are paid for, and keep them."""
        if self._sent:
            log.info("nothing more is sent; waiting for %d answers that are under way", len(self._sent))
            await asyncio.wait(self._sent)

    async def close(self) -> None:
        """End the connections."""
        for task in self._sent:
            task.cancel()
        await self._client.close()

    async def _let_end(self, trying: Coroutine[Any, Any, Tried]) -> Tried:
        """In a task of its own: where the caller is cancelled, what was sent already goes on."""
        task = asyncio.create_task(trying)
        # One that goes on alone fails for nobody.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task not in self._sent:
                task.cancel()
            raise

    async def _try(self, request: TeacherRequest, example: Example, attempt: Attempt, tried: int) -> Tried:
        try:
            return await self._once(request, example, attempt)
        except CallError as e:
            # Here, and not where it is awaited: until a refusal is judged, others are sent.
            verdict = classify(e.status, e.code, e.message, should_retry(e.headers))
            try:
                if self.settling and verdict.maybe_format and request.output_format != "plain":
                    raise FormatRefused(verdict.words) from e
                wait = self._judge(verdict, e, tried)
            finally:
                await self._keep_failed(_reply(request, example, attempt, _failed(e), self.journal.run))
            if wait is None and verdict.kind == "retry":
                self.ledger.failed_ids.add(example.id)
            # A slow-down holds everybody back, this one included.
            return 0.0 if wait is not None and verdict.slow_down else wait

    async def _once(self, request: TeacherRequest, example: Example, attempt: Attempt) -> Reply:
        rough = rough_tokens(request.messages)
        worst = Usage(self._estimator.prompt(rough), self._estimator.completion())
        came, held = await self._in_turn(request, worst)
        if isinstance(came, Reply):
            return came
        # The place is free again: the disk is not waited for in it.
        used = Spending()
        try:
            used = self._count(came, held)
            self._pace.settle(worst.total, used.tokens or worst.total)
            if came.counted is not None and not came.counted.is_partial:
                self._estimator.learn(rough, came.counted.usage)
            self._breaker.success()
            reply = _reply(request, example, attempt, came, self.journal.run)
            await self.journal.append(reply)
            return reply
        finally:
            self._budget.settle(held, used)

    async def _in_turn(self, request: TeacherRequest, worst: Usage) -> tuple[Came | Reply, Spending]:
        """Wait for a place, money and the pace, and send: what came, and what is held back for it.

        The wait may be long: a reply that another run was given meanwhile is taken instead.
        """
        async with self._limiter.slot() as slot:
            await self._pause.over()
            held = await self._reserve(Spending(self._usd(worst), worst.total))
            try:
                at = await self._pace.take(worst.total)
                self._breaker.check()
                if (reply := self.journal.get(request.key)) is not None:
                    self._pace.settle(worst.total, 0)
                    self._budget.settle(held, Spending())
                    return reply, Spending()
                self._note_sent()
                return await self._asked(request, slot, at, worst.total), held
            except CallError as e:
                self._budget.settle(held, self._add(e.counted))
                raise
            except BaseException:
                self._budget.settle(held, Spending())
                raise

    def _note_sent(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "a request is sent by a task"
        self._sent.add(task)
        task.add_done_callback(self._sent.discard)

    async def _asked(self, request: TeacherRequest, slot: Slot, at: float, estimate: int) -> Came:
        """Send, and tell those who watch the endpoint how it went."""
        try:
            came = await self._client.ask(request)
        except CallError as e:
            self._heard = self._heard or e.status is not None
            took = self._clock.monotonic() - at
            slot.done(took, "refused" if e.status in (429, 503, 529) else "failed")
            if e.status == 429:
                self._pace.refused(at, estimate)
            raise
        self._heard = True
        slot.done(came.seconds, "ok", came.usage.completion if came.usage else None)
        self._pace.hint(came.headers)
        return came

    async def _reserve(self, estimate: Spending) -> Spending:
        try:
            return await self._budget.reserve(estimate)
        except BudgetSpent as e:
            self._breaker.refuse(e)
            raise

    def _usd(self, usage: Usage) -> float:
        return cost(usage, self._price) if self._price else 0.0

    def _count(self, came: Came, held: Spending) -> Spending:
        """What an answer used; where the server does not say, the budget counts what was held back."""
        self.ledger.answered += 1
        used = self._add(came.counted)
        if came.counted is None:
            return self._unmetered(held)
        if came.counted.is_partial:
            return Spending(max(used.usd, held.usd), max(used.tokens, held.tokens))
        return used

    def _add(self, counted: Counted | None) -> Spending:
        """Add to the ledger what a reply used, be it an answer or a failure that was paid for."""
        if counted is None:
            return Spending()
        before, usage = self.ledger.usage, counted.usage
        self.ledger.usage = Usage(
            before.prompt + usage.prompt, before.completion + usage.completion, before.cached + usage.cached
        )
        usd = self._usd(usage)
        self.ledger.usd += usd
        if counted.conflict and not self._warned:
            self._warned = True
            log.warning(
                "%s reports token counts that contradict each other (%s); of such counts the larger is used",
                self.config.base_url,
                counted.conflict,
            )
        return Spending(usd, usage.total)

    async def _keep_failed(self, reply: Reply) -> None:
        """Write down what a failed reply used, so that the next start of the run counts it too.

        Its key is no request's: it answers nothing.
        """
        if reply.prompt_tokens is not None or reply.completion_tokens is not None:
            await self.journal.append(replace(reply, key=uuid.uuid4().hex))

    def _unmetered(self, held: Spending) -> Spending:
        budget = self.config.budget
        if budget.usd is None and budget.tokens is None:
            return Spending()
        if self.ledger.usage.total == 0:
            self._breaker.refuse(
                TeacherRefused(
                    f"{self.config.base_url} does not say how many tokens an answer took, so that no budget "
                    "can be kept; remove teacher.budget, and run the same command again"
                )
            )
        return held

    def _judge(self, verdict: Verdict, error: CallError, tried: int) -> float | None:
        """Seconds to wait before the next try; None gives this text up. Raises what stops everything."""
        if verdict.kind == "refused":
            stop = refusal(verdict, self.config.base_url, self.config.model, self.config.api_key_env)
            self._breaker.refuse(stop)
            raise stop from error
        if verdict.kind == "format_unsupported":
            raise FormatRefused(verdict.words) from error
        if verdict.kind == "bad_request":
            self._unread(verdict.words)
            return None
        wait = self._backoff.wait(tried, retry_after(error.headers, dt.datetime.now(dt.UTC)), self._rng)
        if not self._heard and tried >= _SILENT_AT_MOST:
            wait = None
        if error.status != 429:
            self._breaker.failure(verdict.words)
        if wait is None:
            self.ledger.failed[verdict.words] += 1
            return None
        self.ledger.retried[verdict.words.partition(":")[0]] += 1
        if verdict.slow_down:
            self._pause.hold(wait)
        return wait

    def _unread(self, words: str) -> None:
        """One text is left out; but where no text is read, it is the request that is wrong."""
        self.ledger.unread[words] += 1
        if self.ledger.answered == 0 and self.ledger.unread.total() >= _UNREAD_AT_MOST:
            stop = TeacherRefused(
                f"{self.config.base_url} will not read any text ({words}); mend what it says of the "
                "request (teacher.max_tokens, teacher.extra_body), and run the same command again"
            )
            self._breaker.refuse(stop)
            raise stop


def price_of(config: TeacherConfig) -> Price | None:
    """The model's price. Raises ConfigError where a budget in money has none to go by."""
    prices = Prices(config.prices)
    return prices.demand(config.model) if config.budget.usd is not None else prices.price_of(config.model)


def spent_before(journal: Journal, price: Price | None) -> Spending:
    """What the journal says that earlier starts of this run spent."""
    found = journal.spent(journal.run)
    usage = Usage(found.prompt_tokens, found.completion_tokens, found.cached_tokens)
    return Spending(cost(usage, price) if price else 0.0, usage.total)


def _failed(error: CallError) -> Came:
    """A failed reply without its content."""
    return Came("", None, "error", "", error.counted, 0.0)


def _reply(request: TeacherRequest, example: Example, attempt: Attempt, came: Came, run: str) -> Reply:
    usage, counted = came.usage, came.counted
    is_partial = counted is not None and counted.is_partial
    return Reply(
        key=request.key,
        run=run,
        example_id=example.id,
        attempt=attempt.number,
        temperature=attempt.temperature,
        hinted=attempt.hinted,
        model=came.model or request.model,
        raw_output=came.content,
        reasoning_content=came.reasoning,
        finish_reason=came.finish_reason,
        prompt_tokens=usage.prompt or (None if is_partial else 0) if usage else None,
        cached_tokens=usage.cached if usage else None,
        completion_tokens=usage.completion or (None if is_partial else 0) if usage else None,
        latency_s=round(came.seconds, 3),
        output_format=request.output_format,
        at=now(),
    )
