"""Sends requests within limits and budget, in an output format that the endpoint accepts.

Failed requests that may succeed are repeated, and a rejected format is replaced by a simpler one. Replies are
durable before they are returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Generic, NoReturn

from core.completions.chat import PLAIN, ChatRequest, Completion, P, PreparedRequest, Reply
from core.completions.client import ChatClient, ServerReply, TokenCounts
from core.completions.failures import CallError, refusal
from core.completions.flow_control import FlowControl
from core.completions.limits import Budget, Estimator, RequestLedger, rough_tokens
from core.completions.request_context import Canary, RequestContext
from core.cost import Usage, price_of
from core.errors import TeacherError, TeacherRefused
from core.jsonio import now

log = logging.getLogger(__name__)

_REJECTED_AT_MOST = 20
_WITHOUT_SUCCESS = 4


@dataclass(slots=True)
class _Sending:
    """A request on its way: whether it is a trial of its format, and how often it was sent."""

    prepared: PreparedRequest
    is_trial: bool
    rough: float
    tries: int = 1
    holds_permit: bool = False
    """Whether the canary waits for the result."""


class Sender(Generic[P]):
    """Sends requests to one endpoint, each as often as needed. Created in a running event loop."""

    def __init__(self, context: RequestContext[P], canary: Canary[P], ledger: RequestLedger) -> None:
        endpoint, journal = context.endpoint, context.journal
        self._context, self._canary, self._endpoint, self.ledger = context, canary, endpoint, ledger
        spent = journal.spent(journal.run).budgeted
        self.budget = Budget(endpoint.budget, price_of(endpoint), spent, endpoint.section)
        self._estimator = Estimator(endpoint.max_tokens)
        self.accepted: set[str] = set()
        """Output formats in which this start received an answer."""
        self.in_flight: set[asyncio.Task[Any] | None] = set()
        """Tasks whose request is at the server or whose reply is not durable yet."""
        self._no_doubt = asyncio.Event()
        self._no_doubt.set()
        self._client = ChatClient(endpoint, context.formats)
        self._flow = FlowControl(endpoint)
        self._has_warned = False

    async def send(self, prepared: PreparedRequest, *, trial: bool = False) -> Completion[P] | None:
        """Return the completion, durable; None if this one request cannot be answered.

        A `trial` shows whether the endpoint accepts the output format: it is not repeated before a simpler
        one was tried, and is sent while others wait for the result. Raises TeacherError if nothing more may
        be sent, CallError if a simpler format may be accepted, StoreError if the reply could not be stored.
        """
        sending = _Sending(prepared, trial, rough_tokens(prepared.request.messages))
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

    def give_up(self, error: CallError, request: ChatRequest) -> None:
        """Treat the failure as that of a plain request: the format is not the reason."""
        if error.kind == "refused":
            raise refusal(error, self._endpoint) from error
        if error.kind == "retry":
            self.ledger.failed[request.id] = error.words
        else:
            self.ledger.unread[error.words] += 1
            if self.ledger.answered == 0 and self.ledger.unread.total() >= _REJECTED_AT_MOST:
                raise self.unread_error()  # every text is rejected: it is the request that is wrong

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
                    reply = self._reply(sending, failed, Usage())
                    await self._context.journal.append(reply._replace(key=uuid.uuid4().hex))
        finally:
            if sending.holds_permit:
                sending.holds_permit = False
                self._canary.leave()
            self.in_flight.discard(asyncio.current_task())

    async def _attempt(self, sending: _Sending) -> Completion[P]:
        estimate = self._estimator.reservation(sending.rough)
        answer = await self._in_turn(sending, estimate)
        if isinstance(answer, Completion):
            return answer
        # The slot is free again: nothing waits in it for the disk.
        used = self._count(answer.counted, estimate)
        try:
            self.ledger.answered += 1
            if answer.counted is None:
                self._stop_without_counts()
            elif not answer.counted.is_partial:
                self._estimator.learn(sending.rough, used)
            self._flow.rate.settle(estimate.total, used.total or estimate.total)
            self._flow.breaker.success()
            self.accepted.add(sending.prepared.output_format)
            reply = self._reply(sending, answer, estimate)
            await self._context.journal.append(reply)
        finally:
            self.budget.settle(estimate, used)
        completion = self._context.completion(sending.prepared.request, reply)
        if sending.holds_permit:
            sending.holds_permit = False
            self._canary.judge(completion)
        return completion

    async def _in_turn(self, sending: _Sending, estimate: Usage) -> ServerReply | Completion[P]:
        """Wait for a slot, the canary, the budget and the rate limits, and send.

        Returns the reply, for which `estimate` is still reserved. The wait may be long: a completion that
        another run received meanwhile is returned instead; for a trial, only one in the format that is tried.
        """
        prepared, budget, flow = sending.prepared, self.budget, self._flow
        find = self._context.own if sending.is_trial else self._context.stored
        while True:
            async with flow.concurrency:
                if sending.is_trial or self._no_doubt.is_set():
                    await self._canary.enter()
                    sending.holds_permit = True
                    await budget.reserve(estimate)
                    used = Usage()
                    try:
                        at = await flow.turn(estimate.total)
                        self._canary.check()
                        if (stored := find(prepared)) is not None:
                            flow.rate.settle(estimate.total, 0)
                            budget.settle(estimate, used)
                            return stored
                        self.in_flight.add(asyncio.current_task())
                        try:
                            answer = await self._client.ask(prepared)
                        except CallError as e:
                            flow.failed(e, at, estimate.total)
                            used = self._count(e.counted, used)
                            raise
                        flow.replied(answer)
                        return answer
                    except BaseException:
                        budget.settle(estimate, used)
                        raise
            # Outside of the slot: a trial needs one.
            await self._no_doubt.wait()

    def _count(self, counted: TokenCounts | None, reserved: Usage) -> Usage:
        """Add a reply to the ledger; return what it used, and what was reserved where that is not stated."""
        if counted is None:
            return reserved
        self.ledger.usage += counted.usage
        if counted.conflict and not self._has_warned:
            self._has_warned = True
            log.warning(
                "%s reports token counts that contradict each other (%s); of such counts the larger is used",
                self._endpoint.base_url,
                counted.conflict,
            )
        return counted.completed(reserved)

    def _stop_without_counts(self) -> None:
        """Stop if a budget cannot be kept because the server never counts tokens."""
        endpoint, journal = self._endpoint, self._context.journal
        is_limited = endpoint.budget.usd is not None or endpoint.budget.tokens is not None
        if is_limited and self.ledger.usage.total + journal.spent(journal.run).prompt_tokens == 0:
            self.stop(
                TeacherRefused(
                    f"{endpoint.base_url} does not say how many tokens an answer took, so that no budget can "
                    f"be kept; remove {endpoint.section}.budget, and run the same command again"
                )
            )

    def _decide(self, error: CallError, sending: _Sending) -> float | None:
        """Return the seconds before the next try; None to give the request up. Raises what stops the run, or
        `error` if it may be due to the output format.
        """
        request = sending.prepared.request
        doubtful = error.maybe_format and sending.prepared.output_format != PLAIN
        # A server error in a format that was accepted before is an outage.
        if doubtful and (sending.is_trial or not error.may_pass):
            raise error
        if error.kind != "retry":
            self.give_up(error, request)
            return None
        wait = self._flow.wait_before_retry(error, sending.tries)
        if wait is None:
            self.ledger.failed[request.id] = error.words
        else:
            self.ledger.retried[error.words.partition(":")[0]] += 1
        return wait

    def _reply(self, sending: _Sending, answer: ServerReply, estimate: Usage) -> Reply:
        prepared, context = sending.prepared, self._context
        request = prepared.request
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
            model=answer.model or self._endpoint.model,
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


class FormatNegotiator(Generic[P]):
    """Sends each request in an output format that the endpoint accepts.

    The format is settled once for each endpoint and model, by a first request that is sent alone: if that is
    answered, key, model and format are right.
    """

    def __init__(self, context: RequestContext[P], sender: Sender[P]) -> None:
        self._context, self._sender = context, sender
        self._is_settled, self._was_tried = context.take_format(), False
        self._settling, self._simplifying = asyncio.Lock(), asyncio.Lock()
        self._rejections = self._simpler_worked = self._simpler_failed = 0

    async def send(self, prepared: PreparedRequest) -> Completion[P] | None:
        """As `Sender.send`, in the settled format or a simpler one."""
        if not self._is_settled:
            async with self._settling:
                if not self._is_settled:
                    return await self._settle(prepared.request)
        if prepared.output_format != self._context.output_format:
            prepared = self._context.prepare(prepared.request)
        try:
            return await self._sender.send(prepared)
        except CallError as e:
            # Some backends of a router may reject the settled format. After a few requests whose simpler
            # formats are rejected too, rejections are final.
            if not self._simpler_worked:
                async with self._simplifying, self._sender.in_doubt():
                    if not self._simpler_worked and self._simpler_failed < _WITHOUT_SUCCESS:
                        return await self._in_simpler(prepared, e)
            if self._simpler_worked:
                return await self._in_simpler(prepared, e)
            self._sender.give_up(e, prepared.request)
            return None

    def check(self) -> None:
        """Raise TeacherError if requests were sent and no format was settled."""
        if self._was_tried and not self._is_settled:
            self._stop_unsettled()

    async def _settle(self, request: ChatRequest) -> Completion[P] | None:
        """Settle the format by one request; if its text is rejected, the next request tries again."""
        self._was_tried = True
        doubtful = list[str]()
        for name in self._context.formats:
            try:
                completion = await self._try(name, request)
            except CallError as e:
                self._rejections += 1
                log.info(
                    "the endpoint rejects the output format %s (%s); trying a simpler one", name, e.words
                )
                if e.may_pass:
                    doubtful.append(name)
                continue
            if completion is not None:
                # A format that failed with a server error is tried again: the outage may be over.
                for other in doubtful:
                    with contextlib.suppress(CallError):
                        if (better := await self._try(other, request)) is not None:
                            name, completion = other, better
                            break
                self._context.output_format = name
                self._context.settle_format()
                self._is_settled = True
                return completion
            if self._sender.ledger.failed:
                self._stop_unsettled()
            break
        if self._rejections + self._sender.ledger.unread.total() >= _REJECTED_AT_MOST:
            raise self._sender.unread_error()
        return None

    async def _try(self, name: str, request: ChatRequest) -> Completion[P] | None:
        """Use a format from now on, and send a request in it."""
        self._context.output_format = name
        return await self._sender.send(self._context.prepare(request), trial=True)

    def _stop_unsettled(self) -> NoReturn:
        endpoint = self._context.endpoint
        words = next(iter(self._sender.ledger.given_up), "no answer")
        raise TeacherError(
            f"{endpoint.base_url} did not answer the first request ({words}); check "
            f"{endpoint.section}.base_url and {endpoint.section}.model, and run the same command again"
        )

    async def _in_simpler(self, prepared: PreparedRequest, refused: CallError) -> Completion[P] | None:
        """Return the completion in a simpler format. Raises TeacherError if a few of them were answered, and
        no request of this start was in the settled format.
        """
        names = list(self._context.formats)
        for name in names[names.index(prepared.output_format) + 1 :]:
            simpler = dataclasses.replace(prepared, output_format=name)
            try:
                completion = await self._sender.send(simpler, trial=True)
            except CallError:
                continue
            self._simpler_worked += completion is not None
            self._simpler_failed += completion is None
            is_accepted = prepared.output_format in self._sender.accepted
            if completion is not None and not is_accepted and self._simpler_worked >= _WITHOUT_SUCCESS:
                context = self._context
                file = context.journal.store.where(context.format_path)
                raise TeacherError(
                    f"{context.endpoint.base_url} refuses the output format {prepared.output_format}, which "
                    f"it took before ({refused.words}); run the same command again, or, if that "
                    f"does not help, remove {file}: requests without a usable answer are then sent in "
                    "another format"
                ) from refused
            return completion
        return None
