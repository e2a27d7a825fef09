"""Sends requests within limits and budget, retries those that may succeed, and makes the replies durable."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Generic, NoReturn

from core.completions.budget import Accounts, Spending, rough_tokens
from core.completions.canary import Canary
from core.completions.client import ChatClient
from core.completions.concurrency import AdaptiveConcurrency, Slot
from core.completions.context import PLAIN, RequestContext
from core.completions.failures import RetryDecision, classify
from core.completions.parser import Completion, P
from core.completions.rate_limiter import RateLimiter, RealClock
from core.completions.reply import Reply
from core.completions.request import ChatRequest, PreparedRequest
from core.completions.response import CallError, ServerReply
from core.completions.retries import Backoff, CircuitBreaker, Pause, refusal, retry_after, should_retry
from core.cost import Usage
from core.errors import TeacherRefused
from core.jsonio import now

log = logging.getLogger(__name__)

REJECTED_AT_MOST = 20
_NOT_IMPLEMENTED = 501
_SILENT_AT_MOST = 3
"""Tries of a request to an endpoint that has never responded: a wrong address stays wrong."""


class FormatRefused(Exception):
    """A request failed, perhaps for its output format alone: a simpler one shows whether that is so."""

    def __init__(self, error: CallError, decision: RetryDecision) -> None:
        super().__init__(decision.words)
        self.error, self.decision = error, decision

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed another time."""
        return self.decision.kind == "retry" and self.error.status != _NOT_IMPLEMENTED


@dataclass(slots=True)
class _Sending:
    """A request on its way: what is sent, whether it is a trial of its format, and how often it was sent."""

    request: ChatRequest
    prepared: PreparedRequest
    is_trial: bool
    rough: float
    tries: int = 1
    holds_permit: bool = False
    """Whether the canary waits for the result."""


class Sender(Generic[P]):
    """One endpoint and everything that decides when it may be asked. Created in a running event loop."""

    def __init__(self, context: RequestContext[P], canary: Canary[P]) -> None:
        self._context, self._canary = context, canary
        self._endpoint = endpoint = context.endpoint
        self.accounts = Accounts(endpoint, context.journal)
        self.ledger = self.accounts.ledger
        self.accepted: set[str] = set()
        """Output formats in which this start got an answer."""
        self.in_flight: set[asyncio.Task[Any]] = set()
        """Tasks whose request is at the server or whose reply is not durable yet."""
        self._no_doubt = asyncio.Event()
        self._no_doubt.set()
        self._client = ChatClient(endpoint, context.formats)
        clock, limits, rng = RealClock(), endpoint.limits, random.Random()
        self._clock, self._rng = clock, rng
        self._concurrency = AdaptiveConcurrency(clock, limits.concurrency)
        self._rate = RateLimiter(clock, limits.requests_per_minute, limits.tokens_per_minute)
        self._pause, self._backoff = Pause(clock, rng), Backoff(tries=limits.tries)
        self._breaker = CircuitBreaker(clock, limits.breaker)
        self._has_response = False

    async def send(
        self, request: ChatRequest, prepared: PreparedRequest, *, trial: bool = False
    ) -> Completion[P] | None:
        """Return the completion, durable; None where this one request cannot be answered.

        `trial`: the request shows whether the endpoint accepts its output format, so it is not repeated
        before a simpler one was tried, and is sent while others wait for the result. Raises TeacherError
        where nothing more may be sent, FormatRefused where a simpler format may be accepted, and StoreError
        where the reply could not be made durable.
        """
        sending = _Sending(request, prepared, trial, rough_tokens(request.messages))
        while isinstance(found := await self._try(sending), float):
            self._breaker.check()
            await self._clock.sleep(found)
            sending.tries += 1
        return found

    def stop(self, error: Exception) -> None:
        """Send nothing more, and raise `error` for every request."""
        self._breaker.refuse(error)

    @contextlib.asynccontextmanager
    async def in_doubt(self) -> AsyncIterator[None]:
        """Send only trials meanwhile: others would be rejected for the same reason."""
        self._no_doubt.clear()
        try:
            yield
        finally:
            self._no_doubt.set()

    def give_up(self, refused: FormatRefused, request: ChatRequest) -> None:
        """Treat the failure as that of a plain request: the format is not the reason."""
        decision = refused.decision
        if decision.kind == "refused":
            self._refuse(decision, refused.error)
        if decision.kind == "retry":
            self.ledger.failed[request.id] = decision.words
        else:
            self._leave_out(decision.words)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _try(self, sending: _Sending) -> Completion[P] | float | None:
        """Send once: the completion, or the seconds until the next try, or None to give the request up."""
        try:
            return await self._attempt(sending)
        except CallError as e:
            decision = classify(e.status, e.code, e.message, should_retry(e.headers))
            try:
                wait = self._decide(decision, e, sending)
            finally:
                await self._keep_failed(sending, e)
            # The pause of a slow-down holds everybody back, this request included.
            return 0.0 if wait is not None and decision.slow_down else wait
        finally:
            self._return_permit(sending)
            task = asyncio.current_task()
            assert task is not None, "requests are sent by tasks"
            self.in_flight.discard(task)

    async def _attempt(self, sending: _Sending) -> Completion[P]:
        estimate = self.accounts.estimate(sending.rough)
        answer, held = await self._in_turn(sending, estimate)
        if isinstance(answer, Completion):
            return answer
        # The slot is free again: nobody waits in it for the disk.
        used = Spending()
        try:
            used = self._count(answer, held, sending)
            self._rate.settle(estimate.total, used.tokens or estimate.total)
            self._breaker.success()
            self.accepted.add(sending.prepared.output_format)
            reply = self._reply(sending, answer, estimate)
            await self._context.journal.append(reply)
        finally:
            self.accounts.settle(held, used)
        completion = self._context.completion(sending.request, reply)
        if sending.holds_permit:
            sending.holds_permit = False
            self._canary.judge(completion)
        return completion

    async def _in_turn(
        self, sending: _Sending, estimate: Usage
    ) -> tuple[ServerReply | Completion[P], Spending]:
        """Wait for a slot and send: the reply, and what is held back in the budget for it."""
        while True:
            async with self._concurrency.slot() as slot:
                if sending.is_trial or self._no_doubt.is_set():
                    return await self._in_slot(sending, slot, estimate)
            # Outside of the slot: a trial needs one.
            await self._no_doubt.wait()

    async def _in_slot(
        self, sending: _Sending, slot: Slot, estimate: Usage
    ) -> tuple[ServerReply | Completion[P], Spending]:
        """Wait for canary, pause, budget and rate, and send.

        The wait may be long: a reply that another run was given meanwhile is taken instead.
        """
        await self._canary.enter()
        sending.holds_permit = True
        await self._pause.over()
        held = await self._reserve(estimate)
        used = Spending()
        try:
            at = await self._rate.take(estimate.total)
            self._breaker.check()
            self._canary.check()
            if (stored := self._stored(sending)) is not None:
                self._rate.settle(estimate.total, 0)
                self.accounts.settle(held, used)
                return stored, used
            self._note_in_flight()
            return await self._ask(sending.prepared, slot, at, estimate.total), held
        except CallError as e:
            used = self.accounts.count(e.counted)
            self.accounts.settle(held, used)
            raise
        except BaseException:
            self.accounts.settle(held, used)
            raise

    def _stored(self, sending: _Sending) -> Completion[P] | None:
        """The journal's completion; for a trial, only one in the format that is tried."""
        if sending.is_trial:
            return self._context.own(sending.request, sending.prepared)
        return self._context.stored(sending.request, sending.prepared)

    def _return_permit(self, sending: _Sending) -> None:
        if sending.holds_permit:
            sending.holds_permit = False
            self._canary.leave()

    def _note_in_flight(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "requests are sent by tasks"
        self.in_flight.add(task)

    async def _ask(self, prepared: PreparedRequest, slot: Slot, at: float, estimate: int) -> ServerReply:
        """Send, and report to concurrency and rate control how it went."""
        try:
            answer = await self._client.ask(prepared)
        except CallError as e:
            self._has_response = self._has_response or e.status is not None
            slot.done(self._clock.monotonic() - at, "refused" if e.status in (429, 503, 529) else "failed")
            if e.status == 429:
                self._rate.refused(at, estimate)
            raise
        self._has_response = True
        slot.done(answer.seconds, "ok", answer.usage.completion if answer.usage else None)
        self._rate.hint(answer.headers)
        return answer

    async def _reserve(self, estimate: Usage) -> Spending:
        try:
            return await self.accounts.reserve(estimate)
        except Exception as e:
            self.stop(e)
            raise

    def _count(self, answer: ServerReply, held: Spending, sending: _Sending) -> Spending:
        try:
            return self.accounts.count_answer(answer.counted, held, sending.rough)
        except TeacherRefused as e:
            self.stop(e)  # the reply is kept all the same: it was paid for
            return held

    async def _keep_failed(self, sending: _Sending, error: CallError) -> None:
        """Store what a failed reply used, so that the next start of the run counts it too.

        Its key belongs to no request: it answers nothing.
        """
        if error.counted is not None:
            failed = ServerReply("", None, "error", "", error.counted, 0.0)
            reply = self._reply(sending, failed, Usage(0, 0))
            await self._context.journal.append(replace(reply, key=uuid.uuid4().hex))

    def _decide(self, decision: RetryDecision, error: CallError, sending: _Sending) -> float | None:
        """Return the seconds before the next try; None to give the request up. Raises what stops the run."""
        refused = FormatRefused(error, decision)
        doubtful = decision.maybe_format and sending.prepared.output_format != PLAIN
        # A server error in a format that was accepted before is an outage.
        if doubtful and (sending.is_trial or not refused.may_pass):
            raise refused from error
        if decision.kind == "refused":
            self._refuse(decision, error)
        if decision.kind in ("bad_request", "format_unsupported"):
            self._leave_out(decision.words)
            return None
        if error.status != 429:
            self._breaker.failure(decision.words)
        wait = self._backoff.wait(
            sending.tries, retry_after(error.headers, dt.datetime.now(dt.UTC)), self._rng
        )
        if wait is None or (not self._has_response and sending.tries >= _SILENT_AT_MOST):
            self.ledger.failed[sending.request.id] = decision.words
            return None
        self.ledger.retried[decision.words.partition(":")[0]] += 1
        if decision.slow_down:
            self._pause.hold(wait)
        return wait

    def _refuse(self, decision: RetryDecision, error: CallError) -> NoReturn:
        stop = refusal(decision, self._endpoint)
        self.stop(stop)
        raise stop from error

    def _leave_out(self, words: str) -> None:
        """Leave one text out; where every text is rejected, it is the request that is wrong."""
        self.ledger.unread[words] += 1
        if self.ledger.answered == 0 and self.ledger.unread.total() >= REJECTED_AT_MOST:
            self.stop_unread()

    def stop_unread(self) -> NoReturn:
        """Stop because every text is rejected. Raises TeacherRefused."""
        section = self._endpoint.section
        stop = TeacherRefused(
            f"{self._endpoint.base_url} will not read any text ({next(iter(self.ledger.unread))}); fix "
            f"what it says of the request ({section}.max_tokens, {section}.extra_body), and run the same "
            f"command again"
        )
        self.stop(stop)
        raise stop

    def _reply(self, sending: _Sending, answer: ServerReply, estimate: Usage) -> Reply:
        request, prepared, context = sending.request, sending.prepared, self._context
        prompt, cached, completion = answer.token_counts()
        return Reply(
            key=prepared.key,
            run=context.journal.run,
            example_id=request.id,
            attempt=request.attempt,
            temperature=request.temperature,
            hinted=request.hinted,
            model=answer.model or prepared.model,
            raw_output=answer.content,
            reasoning_content=answer.reasoning,
            finish_reason=answer.finish_reason,
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=completion,
            latency_s=round(answer.seconds, 3),
            output_format=prepared.output_format,
            at=now(),
            max_tokens=prepared.max_tokens,
            settled_format=context.output_format,
            prompt_digest=context.prompt_digest,
            reserved_prompt_tokens=estimate.prompt if prompt is None else None,
            reserved_completion_tokens=estimate.completion if completion is None else None,
        )
