"""Sends requests within limits and budget, again where a failure may pass, and makes replies durable."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from core.completions.budget import Budget, Estimator, Spending, price_of, rough_tokens, spent_before
from core.completions.client import ChatClient
from core.completions.concurrency import AdaptiveConcurrency, Slot
from core.completions.failures import RetryDecision, classify
from core.completions.journal import Journal
from core.completions.rate_limiter import RateLimiter, RealClock
from core.completions.reply import Reply
from core.completions.request import TeacherRequest
from core.completions.response import CallError, Came, Counted
from core.completions.retries import Backoff, CircuitBreaker, Pause, refusal, retry_after, should_retry
from core.cost import Usage, cost
from core.errors import BudgetSpent, TeacherRefused
from core.records import Example
from core.store.clock import now
from core.teacher.base import Attempt
from core.teacher.live.canary import Canary
from core.teacher.live.questions import PLAIN, Questions

log = logging.getLogger(__name__)

_NOT_IMPLEMENTED = 501
REJECTED_AT_MOST = 20
_SILENT_AT_MOST = 3
"""So often is a request sent to an endpoint of which nothing was heard yet: a wrong address stays wrong."""

Tried = Reply | float | None
"""What came of one try: the reply, or seconds until the next one, or None where the text is given up."""


class FormatRefused(Exception):
    """A request failed, perhaps for its output format alone: a simpler one shows whether that is so."""

    def __init__(self, error: CallError, verdict: RetryDecision) -> None:
        super().__init__(verdict.words)
        self.error, self.verdict = error, verdict

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed another time."""
        return self.verdict.kind == "retry" and self.error.status != _NOT_IMPLEMENTED


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


@dataclass(slots=True)
class _Pending:
    """A request, the text it is about, and how often it was sent (from 1)."""

    request: TeacherRequest
    example: Example
    attempt: Attempt
    trial: bool
    tried: int = 1
    permitted: bool = False
    """Whether the canary waits for what becomes of it."""


class Sender:
    """One endpoint and everything that says when it may be asked. Opened in a running event loop."""

    def __init__(self, questions: Questions, journal: Journal, canary: Canary) -> None:
        self.config = config = questions.config
        self.questions, self.journal, self.ledger = questions, journal, Ledger()
        self.canary = canary
        self.accepted: set[str] = set()
        """Output formats in which this start got an answer."""
        self._undoubted = asyncio.Event()
        self._undoubted.set()
        self._client = ChatClient(config)
        clock, limits, rng = RealClock(), config.limits, random.Random()
        self._clock, self._rng = clock, rng
        self._limiter = AdaptiveConcurrency(clock, limits.concurrency)
        self._pace = RateLimiter(clock, limits.requests_per_minute, limits.tokens_per_minute)
        self._pause, self._backoff = Pause(clock, rng), Backoff(tries=limits.tries)
        self._breaker = CircuitBreaker(clock, limits.breaker)
        self._estimator = Estimator(config.max_tokens)
        self._price = price_of(config)
        self._budget = Budget(config.budget.usd, config.budget.tokens, spent_before(journal, self._price))
        self._heard = self._warned = False
        self._sent: set[asyncio.Task[Any]] = set()

    @property
    def spent(self) -> Spending:
        """What this run spent so far, earlier starts included."""
        return self._budget.spent

    async def send(
        self, request: TeacherRequest, example: Example, attempt: Attempt, *, trial: bool = False
    ) -> Reply | None:
        """The reply, durable; None where this one text cannot be answered.

        `trial`: the request shows whether the endpoint takes its output format, so that it is not repeated
        before a simpler one was tried, and is sent while others wait for the result. Raises TeacherError
        where nothing more may be sent, FormatRefused where a simpler format may be accepted, and StoreError
        where the reply could not be made safe.
        """
        pending = _Pending(request, example, attempt, trial)
        while isinstance(found := await self._let_end(self._try(pending)), float):
            await self._clock.sleep(found)
            pending.tried += 1
        return found

    @contextlib.asynccontextmanager
    async def in_doubt(self) -> AsyncIterator[None]:
        """Send only trials meanwhile: others would be rejected for the same reason."""
        self._undoubted.clear()
        try:
            yield
        finally:
            self._undoubted.set()

    def give_up(self, refused: FormatRefused, example: Example) -> None:
        """The format is not the reason: act on the failure as on that of a plain request."""
        verdict = refused.verdict
        if verdict.kind == "refused":
            self._refuse(verdict, refused.error)
        if verdict.kind == "retry":
            self.ledger.failed[verdict.words] += 1
            self.ledger.failed_ids.add(example.id)
        else:
            self._unread(verdict.words)

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

    async def _try(self, pending: _Pending) -> Tried:
        try:
            return await self._once(pending)
        except CallError as e:
            # Here, and not where it is awaited: until a refusal is judged, others are sent.
            verdict = classify(e.status, e.code, e.message, should_retry(e.headers))
            try:
                wait = self._judge(verdict, e, pending)
            finally:
                await self._keep_failed(pending, e)
            if wait is None and verdict.kind == "retry":
                self.ledger.failed_ids.add(pending.example.id)
            # A slow-down holds everybody back, this one included.
            return 0.0 if wait is not None and verdict.slow_down else wait

    async def _once(self, pending: _Pending) -> Reply:
        try:
            reply = await self._answered(pending)
        except BaseException:
            self._leave_canary(pending)
            raise
        if pending.permitted:
            pending.permitted = False
            self.canary.judge(reply)
        return reply

    async def _answered(self, pending: _Pending) -> Reply:
        request, rough = pending.request, rough_tokens(pending.request.messages)
        worst = Usage(self._estimator.prompt(rough), self._estimator.completion())
        came, held = await self._in_turn(pending, worst)
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
            self.accepted.add(request.output_format)
            reply = self._reply(pending, came, worst)
            await self.journal.append(reply)
            return reply
        finally:
            self._budget.settle(held, used)

    async def _in_turn(self, pending: _Pending, worst: Usage) -> tuple[Came | Reply, Spending]:
        """Wait for a place, money and the pace, and send: what came, and what is held back for it.

        The wait may be long: a reply that another run was given meanwhile is taken instead.
        """
        while True:
            async with self._limiter.slot() as slot:
                if pending.trial or self._undoubted.is_set():
                    return await self._in_place(pending, slot, worst)
            # Not in the place: a trial needs one.
            await self._undoubted.wait()

    async def _in_place(self, pending: _Pending, slot: Slot, worst: Usage) -> tuple[Came | Reply, Spending]:
        request = pending.request
        await self.canary.enter()
        pending.permitted = True
        await self._pause.over()
        held = await self._reserve(Spending(self._usd(worst), worst.total))
        try:
            at = await self._pace.take(worst.total)
            self._breaker.check()
            self.canary.check()
            if (reply := self._stored(pending)) is not None:
                self._pace.settle(worst.total, 0)
                self._budget.settle(held, Spending())
                self._leave_canary(pending)
                return reply, Spending()
            self._note_sent()
            return await self._asked(request, slot, at, worst.total), held
        except CallError as e:
            self._budget.settle(held, self._add(e.counted))
            raise
        except BaseException:
            self._budget.settle(held, Spending())
            raise

    def _stored(self, pending: _Pending) -> Reply | None:
        """The journal's answer; a trial is about the format, so that one in another format does not do."""
        if pending.trial:
            return self.journal.get(pending.request.key)
        return self.questions.stored(pending.request, self.journal)

    def _leave_canary(self, pending: _Pending) -> None:
        if pending.permitted:
            pending.permitted = False
            self.canary.leave()

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

    async def _keep_failed(self, pending: _Pending, error: CallError) -> None:
        """Write down what a failed reply used, so that the next start of the run counts it too.

        Its key is no request's: it answers nothing.
        """
        if error.counted is not None:
            failed = Came("", None, "error", "", error.counted, 0.0)
            reply = self._reply(pending, failed, Usage(0, 0))
            await self.journal.append(replace(reply, key=uuid.uuid4().hex))

    def _unmetered(self, held: Spending) -> Spending:
        budget = self.config.budget
        limited = budget.usd is not None or budget.tokens is not None
        metered = self.ledger.usage.total + self.journal.spent(self.journal.run).prompt_tokens
        if limited and metered == 0:
            self._breaker.refuse(
                TeacherRefused(
                    f"{self.config.base_url} does not say how many tokens an answer took, so that no budget "
                    "can be kept; remove teacher.budget, and run the same command again"
                )
            )
        return held

    def _judge(self, verdict: RetryDecision, error: CallError, pending: _Pending) -> float | None:
        """Seconds to wait before the next try; None gives this text up. Raises what stops everything."""
        refused = FormatRefused(error, verdict)
        doubtful = verdict.maybe_format and pending.request.output_format != PLAIN
        # Of a format that was accepted before, a server error says nothing: it is an outage.
        if doubtful and (pending.trial or not refused.may_pass):
            raise refused from error
        if verdict.kind == "refused":
            self._refuse(verdict, error)
        if verdict.kind in ("bad_request", "format_unsupported"):
            self._unread(verdict.words)
            return None
        wait = self._backoff.wait(
            pending.tried, retry_after(error.headers, dt.datetime.now(dt.UTC)), self._rng
        )
        if not self._heard and pending.tried >= _SILENT_AT_MOST:
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

    def _refuse(self, verdict: RetryDecision, error: CallError) -> NoReturn:
        stop = refusal(verdict, self.config.base_url, self.config.model, self.config.api_key_env)
        self._breaker.refuse(stop)
        raise stop from error

    def _unread(self, words: str) -> None:
        """One text is left out; but where no text is read, it is the request that is wrong."""
        self.ledger.unread[words] += 1
        if self.ledger.answered == 0 and self.ledger.unread.total() >= REJECTED_AT_MOST:
            self.stop_unread()

    def stop_unread(self) -> NoReturn:
        """Stop: every text is rejected, so the request is wrong. Raises TeacherRefused."""
        stop = TeacherRefused(
            f"{self.config.base_url} will not read any text ({next(iter(self.ledger.unread))}); fix what it "
            "says of the request (teacher.max_tokens, teacher.extra_body), and run the same command again"
        )
        self._breaker.refuse(stop)
        raise stop

    def _reply(self, pending: _Pending, came: Came, worst: Usage) -> Reply:
        request, attempt = pending.request, pending.attempt
        prompt, cached, completion = _token_counts(came)
        return Reply(
            key=request.key,
            run=self.journal.run,
            example_id=pending.example.id,
            attempt=attempt.number,
            temperature=attempt.temperature,
            hinted=attempt.hinted,
            model=came.model or request.model,
            raw_output=came.content,
            reasoning_content=came.reasoning,
            finish_reason=came.finish_reason,
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=completion,
            latency_s=round(came.seconds, 3),
            output_format=request.output_format,
            at=now(),
            max_tokens=request.max_tokens,
            settled_format=self.questions.output_format,
            prompt_digest=self.questions.prompt_digest,
            reserved_prompt_tokens=worst.prompt if prompt is None else None,
            reserved_completion_tokens=worst.completion if completion is None else None,
        )


def _token_counts(came: Came) -> tuple[int | None, int | None, int | None]:
    """Prompt, cached and completion tokens; None for what the server does not state."""
    if came.counted is None:
        return None, None, None
    usage, missing = came.counted.usage, None if came.counted.is_partial else 0
    return usage.prompt or missing, usage.cached, usage.completion or missing
