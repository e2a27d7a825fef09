"""Sends requests within limits and budget, again where a failure may pass, and makes replies durable."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from dataclasses import dataclass, field

from core.config.teacher import TeacherConfig
from core.errors import BudgetSpent, TeacherRefused
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
from core.teacher.live.prices import Price, Prices, Usage, cost
from core.teacher.live.retrying import Backoff, Pause, refusal, retry_after, should_retry
from core.teacher.live.tokens import Estimator, rough_tokens
from core.teacher.live.verdict import Verdict, classify
from core.teacher.reply import Reply
from core.teacher.request import TeacherRequest

_STARVED = "insufficient_system_resource"
"""DeepSeek's finish reason for an answer that it could not end: billed, and no answer."""
_UNREAD_AT_MOST = 20


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

    @property
    def spent(self) -> Spending:
        """What this run spent so far, earlier starts included."""
        return self._budget.spent

    async def send(self, request: TeacherRequest, example: Example, attempt: Attempt) -> Reply | None:
        """The reply, durable; None where this one text cannot be answered.

        Raises TeacherError where nothing more may be sent, FormatRefused where another output format
        is needed, and StoreError where the reply could not be made safe.
        """
        tried = 0
        while True:
            try:
                return await self._once(request, example, attempt)
            except CallError as e:
                tried += 1
                verdict = classify(e.status, e.code, e.message, should_retry(e.headers))
                wait = self._judge(verdict, e, tried)
                if wait is None:
                    return None
                if not verdict.slow_down:  # a slow-down holds everybody back, this one included
                    await self._clock.sleep(wait)

    async def close(self) -> None:
        """End the connections."""
        await self._client.close()

    async def _once(self, request: TeacherRequest, example: Example, attempt: Attempt) -> Reply:
        rough = rough_tokens(request.messages)
        worst = Usage(self._estimator.prompt(rough), self._estimator.completion())
        came, held = await self._in_turn(request, worst)
        # The place is free again: the disk is not waited for in it.
        used = Spending()
        try:
            used = self._count(came)
            self._pace.settle(worst.total, used.tokens or worst.total)
            if came.usage is not None:
                self._estimator.learn(rough, came.usage)
            if came.finish_reason == _STARVED:
                raise CallError("the server broke the answer off for want of resources", 503, _STARVED)
            self._breaker.success()
            reply = _reply(request, example, attempt, came, self.journal.run)
            await self.journal.append(reply)
            return reply
        finally:
            self._budget.settle(held, used)

    async def _in_turn(self, request: TeacherRequest, worst: Usage) -> tuple[Came, Spending]:
        """Wait for a place, money and the pace, and send: what came, and what is held back for it."""
        async with self._limiter.slot() as slot:
            await self._pause.over()
            held = await self._reserve(Spending(self._usd(worst), worst.total))
            try:
                at = await self._pace.take(worst.total)
                self._breaker.check()
                return await self._asked(request, slot, at, worst.total), held
            except BaseException:
                self._budget.settle(held, Spending())
                raise

    async def _asked(self, request: TeacherRequest, slot: Slot, at: float, estimate: int) -> Came:
        """Send, and tell those who watch the endpoint how it went."""
        try:
            came = await self._client.ask(request)
        except CallError as e:
            took = self._clock.monotonic() - at
            slot.done(took, "refused" if e.status in (429, 503, 529) else "failed")
            if e.status == 429:
                self._pace.refused(at, estimate)
            raise
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

    def _count(self, came: Came) -> Spending:
        self.ledger.answered += 1
        if came.usage is None:
            return Spending()
        before, usage = self.ledger.usage, came.usage
        self.ledger.usage = Usage(
            before.prompt + usage.prompt, before.completion + usage.completion, before.cached + usage.cached
        )
        usd = self._usd(usage)
        self.ledger.usd += usd
        return Spending(usd, usage.total)

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


def _reply(request: TeacherRequest, example: Example, attempt: Attempt, came: Came, run: str) -> Reply:
    usage = came.usage
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
        prompt_tokens=usage.prompt if usage else None,
        cached_tokens=usage.cached if usage else None,
        completion_tokens=usage.completion if usage else None,
        latency_s=round(came.seconds, 3),
        output_format=request.output_format,
        at=now(),
    )
