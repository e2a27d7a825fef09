"""Find the output format that an endpoint accepts, and fall back to a simpler one if it is rejected."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from typing import Generic, NoReturn

from core.completions.context import RequestContext
from core.completions.failures import CallError
from core.completions.request import ChatRequest, Completion, P, PreparedRequest
from core.completions.sender import REJECTED_AT_MOST, Sender
from core.errors import TeacherError

log = logging.getLogger(__name__)

_WITHOUT_SUCCESS = 4


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
            return await self._fall_back(prepared, e)

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
        if self._rejections + self._sender.ledger.unread.total() >= REJECTED_AT_MOST:
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

    async def _fall_back(self, prepared: PreparedRequest, refused: CallError) -> Completion[P] | None:
        """Return the completion in a simpler format: some backends of a router may reject the settled one.

        After a few requests whose simpler formats are rejected too, rejections are final. If no request of
        this start was answered in the settled format, a few answers in a simpler one stop the run.
        """
        if not self._simpler_worked:
            async with self._simplifying, self._sender.in_doubt():
                if not self._simpler_worked and self._simpler_failed < _WITHOUT_SUCCESS:
                    return await self._in_simpler(prepared, refused)
        if not self._simpler_worked:
            self._sender.give_up(refused, prepared.request)
            return None
        return await self._in_simpler(prepared, refused)

    async def _in_simpler(self, prepared: PreparedRequest, refused: CallError) -> Completion[P] | None:
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
