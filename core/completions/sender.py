"""Sends requests within limits and budget, retries those that may succeed, and makes the replies durable."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Generic

from core.completions.budget import Accounts, RequestLedger, Spending, rough_tokens
from core.completions.canary import Canary
from core.completions.client import ChatClient
from core.completions.context import RequestContext
from core.completions.failures import CallError, RetryDecision, classify, refusal
from core.completions.flow_control import FlowControl
from core.completions.headers import should_retry
from core.completions.reply import Reply
from core.completions.request import PLAIN, ChatRequest, Completion, P, PreparedRequest
from core.completions.response import ServerReply
from core.cost import Usage
from core.errors import TeacherError, TeacherRefused
from core.jsonio import now

log = logging.getLogger(__name__)

REJECTED_AT_MOST = 20


class FormatRefused(Exception):
    """A request failed, perhaps for its output format alone: a simpler one shows whether that is so."""

    def __init__(self, error: CallError, decision: RetryDecision) -> None:
        super().__init__(decision.words)
        self.error, self.decision = error, decision

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed another time."""
        return self.decision.kind == "retry" and self.error.status != 501  # not implemented


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
    """Sends requests to one endpoint, each as often as needed. Created in a running event loop."""

    def __init__(self, context: RequestContext[P], canary: Canary[P], ledger: RequestLedger) -> None:
        self._context, self._canary, self.ledger = context, canary, ledger
        self._endpoint = context.endpoint
        self.accounts = Accounts(context.endpoint, context.journal, ledger)
        self.accepted: set[str] = set()
        """Output formats in which this start received an answer."""
        self.in_flight: set[asyncio.Task[Any] | None] = set()
        """Tasks whose request is at the server or whose reply is not durable yet."""
        self._no_doubt = asyncio.Event()
        self._no_doubt.set()
        self._client = ChatClient(context.endpoint, context.formats)
        self._flow = FlowControl(context.endpoint)

    async def send(
        self, request: ChatRequest, prepared: PreparedRequest, *, trial: bool = False
    ) -> Completion[P] | None:
        """Return the completion, durable; None if this one request cannot be answered.

        `trial`: the request shows whether the endpoint accepts its output format, so it is not repeated
        before a simpler one was tried, and is sent while others wait for the result. Raises TeacherError
        if nothing more may be sent, FormatRefused if a simpler format may be accepted, and StoreError if the
        reply could not be made durable.
        """
        sending = _Sending(request, prepared, trial, rough_tokens(request.messages))
        while isinstance(found := await self._try(sending), float):
            self._flow.breaker.check()
            await asyncio.sleep(found)
            sending.tries += 1
        return found

    def stop(self, error: Exception) -> None:
        """Send nothing more, and raise `error` for every request."""
        self._flow.breaker.refuse(error)

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
            raise refusal(decision, self._endpoint) from refused.error
        if decision.kind == "retry":
            self.ledger.failed[request.id] = decision.words
        else:
            self._leave_out(decision.words)

    def unread_error(self) -> TeacherRefused:
        """Return the error for an endpoint that rejects every text."""
        section = self._endpoint.section
        return TeacherRefused(
            f"{self._endpoint.base_url} will not read any text ({next(iter(self.ledger.unread))}); fix "
            f"what it reports about the request ({section}.max_tokens, {section}.extra_body), and run the "
            "same command again"
        )

    async def close(self) -> None:
        await self._client.close()

    async def _try(self, sending: _Sending) -> Completion[P] | float | None:
        """Send once: the completion, or the seconds until the next try, or None to give the request up."""
        try:
            return await self._attempt(sending)
        except CallError as e:
            try:
                return self._decide(e, sending)
            except TeacherError as stop:
                self.stop(stop)  # before others are sent while this task waits for the disk
                raise
            finally:
                if e.counted is not None:
                    # Stored, so that the next start of the run counts it. It answers no request.
                    failed = ServerReply("", None, "error", "", e.counted, 0.0)
                    reply = self._reply(sending, failed, Usage(0, 0))
                    await self._context.journal.append(replace(reply, key=uuid.uuid4().hex))
        finally:
            if sending.holds_permit:
                sending.holds_permit = False
                self._canary.leave()
            self.in_flight.discard(asyncio.current_task())

    async def _attempt(self, sending: _Sending) -> Completion[P]:
        estimate = self.accounts.estimator.reservation(sending.rough)
        answer, held = await self._in_turn(sending, estimate)
        used = Spending()
        if isinstance(answer, Completion):
            self.accounts.budget.settle(held, used)
            return answer
        # The slot is free again: nothing waits in it for the disk.
        try:
            try:
                used = self.accounts.count_answer(answer.counted, held, sending.rough)
            except TeacherRefused as e:
                self.stop(e)  # the reply is kept all the same: it was paid for
                used = held
            self._flow.rate.settle(estimate.total, used.tokens or estimate.total)
            self._flow.breaker.success()
            self.accepted.add(sending.prepared.output_format)
            reply = self._reply(sending, answer, estimate)
            await self._context.journal.append(reply)
        finally:
            self.accounts.budget.settle(held, used)
        completion = self._context.completion(sending.request, reply)
        if sending.holds_permit:
            sending.holds_permit = False
            self._canary.judge(completion)
        return completion

    async def _in_turn(
        self, sending: _Sending, estimate: Usage
    ) -> tuple[ServerReply | Completion[P], Spending]:
        """Wait for a slot, the canary, the budget and the rate limits, and send.

        The wait may be long: a reply that another run received meanwhile is used instead; for a trial, only
        one in the format that is tried. Returns the reply or that completion, and what is reserved in the
        budget.
        """
        context, request, prepared = self._context, sending.request, sending.prepared
        while True:
            async with self._flow.concurrency.slot() as slot:
                if sending.is_trial or self._no_doubt.is_set():
                    await self._canary.enter()
                    sending.holds_permit = True
                    held = await self.accounts.reserve(estimate)
                    used = Spending()
                    try:
                        at = await self._flow.turn(estimate.total)
                        self._canary.check()
                        find = context.own if sending.is_trial else context.stored
                        if (stored := find(request, prepared)) is not None:
                            self._flow.rate.settle(estimate.total, 0)
                            return stored, held
                        self.in_flight.add(asyncio.current_task())
                        try:
                            answer = await self._client.ask(prepared)
                        except CallError as e:
                            self._flow.failed(slot, e, at, estimate.total)
                            used = self.accounts.count(e.counted)
                            raise
                        self._flow.replied(slot, answer)
                        return answer, held
                    except BaseException:
                        self.accounts.budget.settle(held, used)
                        raise
            # Outside of the slot: a trial needs one.
            await self._no_doubt.wait()

    def _decide(self, error: CallError, sending: _Sending) -> float | None:
        """Return the seconds before the next try; None to give the request up. Raises what stops the run."""
        decision = classify(error.status, error.code, error.message, should_retry(error.headers))
        refused = FormatRefused(error, decision)
        doubtful = decision.maybe_format and sending.prepared.output_format != PLAIN
        # A server error in a format that was accepted before is an outage.
        if doubtful and (sending.is_trial or not refused.may_pass):
            raise refused from error
        if decision.kind == "refused":
            raise refusal(decision, self._endpoint) from error
        if decision.kind in ("bad_request", "format_unsupported"):
            self._leave_out(decision.words)
            return None
        wait = self._flow.wait_before_retry(error, decision, sending.tries)
        if wait is None:
            self.ledger.failed[sending.request.id] = decision.words
        else:
            self.ledger.retried[decision.words.partition(":")[0]] += 1
        return wait

    def _leave_out(self, words: str) -> None:
        """Leave one text out; if every text is rejected, it is the request that is wrong."""
        self.ledger.unread[words] += 1
        if self.ledger.answered == 0 and self.ledger.unread.total() >= REJECTED_AT_MOST:
            raise self.unread_error()

    def _reply(self, sending: _Sending, answer: ServerReply, estimate: Usage) -> Reply:
        request, prepared, context = sending.request, sending.prepared, self._context
        prompt = cached = completion = None  # what the server does not state
        if answer.counted is not None:
            usage, missing = answer.counted.usage, None if answer.counted.is_partial else 0
            prompt, cached, completion = usage.prompt or missing, usage.cached, usage.completion or missing
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
