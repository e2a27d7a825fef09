"""Complete many chat requests: each is looked up in the journal, else sent, and its reply is stored.

Results are in the order of the items, whatever the order of the replies, so that a restart changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import threading
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from core.completions.chat import ChatRequest, Completion, P, Parser, PreparedRequest, ResponseSchema
from core.completions.journal import Journal
from core.completions.limits import RequestLedger
from core.completions.request_context import Canary, RequestContext
from core.completions.sender import FormatNegotiator, Sender
from core.config import Endpoint
from core.cost import cost
from core.errors import PassingError, StoreError, TeacherError
from core.progress import Progress, Silent
from core.prompts import Message

log = logging.getLogger(__name__)

_BATCH_S = 0.1
_OTHERS_S = 3.0

_BLOCK = 4096
"""Items that are sent in random order."""
_WINDOW = 32_768
"""How far the first unfinished item may be behind the next one to begin."""

I = TypeVar("I")  # noqa: E741
NextRequest = Callable[[I, Sequence[Completion[P]]], ChatRequest | None]
"""Returns the next request about an item after its completions so far; None when it needs no more."""


def complete(
    requests: Iterable[ChatRequest],
    endpoint: Endpoint,
    journal: Journal,
    parser: Parser[P],
    *,
    schema: ResponseSchema | None = None,
    frame: Sequence[Message] = (),
    progress: Progress | None = None,
) -> Iterator[Completion[P]]:
    """Complete chat requests, and yield the completions in the order of the requests.

    A completion that the journal has, whatever run paid for it, is not requested again; `ChatRequest.attempt`
    asks for another one. New ones are sent concurrently within the endpoint's rate limits and budget, retried
    if that may help, and stored before they are yielded, so that a run that is killed and started again
    sends only the requests that were in flight. Until one completion is usable, at most `endpoint.canary`
    requests are sent.

    `parser` reads each completion once. `schema` is sent as a structured output format if the endpoint
    accepts one. `frame` is the prompt that the requests share; the canary watches each frame separately.

    Raises TeacherError if the endpoint refuses access, fails too often or the budget is spent; and, after
    the last completion, if requests got no answer.

    Example::

        with Journal.open(store, "my-run") as journal:
            for completion in complete(requests, endpoint, journal, TextParser()):
                print(completion.request.id, completion.parsed.text)
    """
    context, ledger = RequestContext(endpoint, journal, parser, frame, schema), RequestLedger()
    total = len(requests) if isinstance(requests, Collection) else 0

    def once(request: ChatRequest, given: Sequence[Completion[P]]) -> ChatRequest | None:
        return None if given else request

    for _, found in complete_each(context, requests, once, total, progress=progress, ledger=ledger):
        yield from found
    if missing := ledger.given_up:
        words = "; ".join(f"{words} ({n})" for words, n in missing.most_common(3))
        raise TeacherError(f"{missing.total()} requests to {endpoint.base_url} got no answer: {words}")


def complete_each(
    context: RequestContext[P],
    items: Iterable[I],
    next_request: NextRequest[I, P],
    total: int,
    *,
    progress: Progress | None = None,
    ledger: RequestLedger | None = None,
) -> Iterator[tuple[I, tuple[Completion[P], ...]]]:
    """Yield each of `total` items with its completions, in the order of the items.

    `next_request` is called for an item until it returns None. An item whose request gets no answer is
    yielded with its completions so far. `ledger` counts what the requests take. Raises TeacherError if
    nothing more may be sent; what was completed until then is stored. A caller that stops early closes the
    iterator.
    """

    async def start() -> _Session[I, P]:
        return _Session(context, items, next_request, total, progress or Silent(), ledger or RequestLedger())

    with _event_loop() as run:
        session = run(start())
        try:
            while batch := run(session.batch()):
                yield from batch
        finally:
            run(session.close())


def stored_completions(
    context: RequestContext[P], item: I, next_request: NextRequest[I, P]
) -> list[Completion[P]]:
    """Return an item's completions that are in the journal, up to the first that is not."""
    given: list[Completion[P]] = []
    while (request := next_request(item, given)) is not None:
        completion = context.stored(context.prepare(request))
        if completion is None:
            break
        given.append(completion)
    return given


class _Session(Generic[I, P]):
    """Items on their way through an endpoint. Created in a running event loop, and starts at once."""

    def __init__(
        self,
        context: RequestContext[P],
        items: Iterable[I],
        next_request: NextRequest[I, P],
        total: int,
        progress: Progress,
        ledger: RequestLedger,
    ) -> None:
        if context.journal.index.old_formats and not isinstance(items, Collection):
            items = list(items)
        self._context, self._items, self._next_request = context, items, next_request
        self._progress, self._total, self._ledger = progress, total, ledger
        self._canary = Canary(context, self._stored_by_version_01)
        self._sender = Sender(context, self._canary, ledger)
        self._formats = FormatNegotiator(context, self._sender)
        self._being_sent: dict[str, asyncio.Event] = {}
        self._queue = _WorkQueue[I, P](context.journal.run, items)
        self._asked = self._finished = 0
        self._has_stopped = False
        self._main = asyncio.create_task(self._run())

    async def batch(self) -> list[tuple[I, tuple[Completion[P], ...]]]:
        """Return the next finished items in their order; none at the end. Raises what stopped the session."""
        while not self._queue.ready and not self._main.done():
            await asyncio.wait({self._main}, timeout=_BATCH_S)
        if not self._queue.ready:
            self._main.result()
        ready, self._queue.ready = self._queue.ready, []
        return [(work.item, tuple(work.given)) for work in ready]

    async def close(self) -> None:
        """Cancel what is left, and close the connections."""
        self._main.cancel()
        await asyncio.wait({self._main})
        await self._canary.close()
        await self._sender.close()

    async def _run(self) -> None:
        refreshing = asyncio.create_task(self._read_others())
        try:
            await self._work_off()
            self._formats.check()
            self._canary.check()
            if failed := self._queue.take_failed():
                if self._ledger.answered:
                    # An outage that outlasted all tries of some is over when others are answered.
                    log.info("requesting once more the %d that failed in all tries", len(failed))
                    self._queue.source = iter(failed)
                    await self._work_off()
                else:
                    for work in failed:
                        self._queue.put(work)
        finally:
            refreshing.cancel()

    async def _work_off(self) -> None:
        """Finish all items in the queue; after an error, only what is in flight, which is paid for."""
        count = 2 * self._context.endpoint.limits.concurrency
        workers = [asyncio.create_task(self._work()) for _ in range(min(count, self._total or count))]
        try:
            done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            errors = [e for task in done if (e := task.exception()) is not None]
            if errors:
                self._has_stopped = True
                in_flight = self._sender.in_flight & set(workers)
                if in_flight:
                    log.info("nothing more is sent; waiting for %d answers in flight", len(in_flight))
                for task in set(workers) - in_flight:
                    task.cancel()
                await asyncio.wait(workers)
                raise errors[0]
        finally:
            for task in workers:
                task.cancel()
            await asyncio.wait(workers)

    async def _work(self) -> None:
        while not self._has_stopped and (work := await self._queue.next()) is not None:
            if work.failed_id is not None:
                self._ledger.failed.pop(work.failed_id, None)
                self._finished -= 1
            try:
                work.failed_id = await self._finish(work)
            except Exception as e:
                self._sender.stop(e)  # at once: others wait for what this one held
                raise
            self._queue.put(work)
            self._finished += 1
            # What the run has spent, and what the rest will take if it is like what was asked.
            spent, used = self._sender.budget.spent, self._ledger.usage
            left = (self._total - self._finished) / max(self._asked, 1)
            note = f"{spent.total} tokens spent, about {used.total * left:.0f} to come"
            price = self._sender.budget.price
            if usd := cost(spent, price):
                note = f"${usd:.4f} spent, about ${cost(used, price) * left:.4f} to come"
            self._progress.update(self._finished, self._total, note)

    async def _finish(self, work: _Work[I, P]) -> str | None:
        """Complete what an item needs; return the id of the request that failed in all tries, if one did."""
        was_asked = False
        while (request := self._next_request(work.item, work.given)) is not None:
            prepared = self._context.prepare(request)
            completion = self._context.stored(prepared)
            if completion is None:
                self._asked += not was_asked
                was_asked = True
                completion = await self._send(prepared)
            if completion is None:
                return request.id if request.id in self._ledger.failed else None
            work.given.append(completion)
        return None

    async def _send(self, prepared: PreparedRequest) -> Completion[P] | None:
        """Send a request; equal ones wait for the first."""
        while (other := self._being_sent.get(prepared.key)) is not None:
            await other.wait()
            if (found := self._context.stored(prepared)) is not None:
                return found
        self._being_sent[prepared.key] = done = asyncio.Event()
        try:
            return await self._formats.send(prepared)
        finally:
            del self._being_sent[prepared.key]
            done.set()

    def _stored_by_version_01(self) -> Iterator[Completion[P]]:
        """Yield stored completions of these items that do not identify their prompt."""
        for item in self._items if self._context.journal.index.old_formats else ():
            for completion in stored_completions(self._context, item, self._next_request):
                if completion.reply.prompt_digest is None:
                    yield completion

    async def _read_others(self) -> None:
        """Read the replies to other runs under the root every few seconds."""
        while True:
            await asyncio.sleep(_OTHERS_S)
            try:
                await asyncio.to_thread(self._context.journal.refresh)
            except (StoreError, PassingError) as e:
                log.warning("%s: requests that other runs send meanwhile may be sent again", e)


@dataclass(slots=True)
class _Work(Generic[I, P]):
    """An item, its place among the items, and its completions so far."""

    index: int
    item: I
    given: list[Completion[P]] = field(default_factory=list)
    failed_id: str | None = None
    """The request that was not answered in all tries, if one was not."""
    is_last_chance: bool = False


class _WorkQueue(Generic[I, P]):
    """Hands out items in random order within blocks, and returns finished ones in their order.

    The order is the run's own: two runs at once seldom send the same. An item that failed is handed out once
    more: when all others are finished, or when the window would have to wait for it.
    """

    def __init__(self, run: str, items: Iterable[I]) -> None:
        self.source: Iterator[_Work[I, P]] = self._shuffled(random.Random(run), items)
        self.ready: list[_Work[I, P]] = []
        self._next: _Work[I, P] | None = None
        self._head = 0
        self._done: dict[int, _Work[I, P]] = {}
        self._failed: dict[int, _Work[I, P]] = {}
        self._advanced = asyncio.Event()

    @staticmethod
    def _shuffled(rng: random.Random, items: Iterable[I]) -> Iterator[_Work[I, P]]:
        works = itertools.starmap(_Work[I, P], enumerate(items))
        # The first item is the one that the plan shows, and the first request may be sent alone.
        yield from itertools.islice(works, 1)
        while block := list(itertools.islice(works, _BLOCK)):
            rng.shuffle(block)
            yield from block

    async def next(self) -> _Work[I, P] | None:
        """Return the next item, waiting while it is too far ahead of the first unfinished one."""
        while True:
            work = self._next = self._next or next(self.source, None)
            if work is None or work.index < self._head + _WINDOW:
                self._next = None
                return work
            if (failed := self._failed.pop(self._head, None)) is not None:
                failed.is_last_chance = True
                return failed
            self._advanced.clear()
            await self._advanced.wait()

    def put(self, work: _Work[I, P]) -> None:
        """Take an item back, finished or failed."""
        if work.failed_id is not None and not work.is_last_chance:
            self._failed[work.index] = work
            self._advanced.set()
            return
        self._done[work.index] = work
        while (first := self._done.pop(self._head, None)) is not None:
            self.ready.append(first)
            self._head += 1
            self._advanced.set()

    def take_failed(self) -> list[_Work[I, P]]:
        """Return and forget the items that failed; they are finished when they are put back."""
        failed = list(self._failed.values())
        self._failed.clear()
        for work in failed:
            work.is_last_chance = True
        return failed


@contextlib.contextmanager
def _event_loop() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Yield a function that runs coroutines; in a thread of its own if a loop is running here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with asyncio.Runner() as runner:
            yield runner.run
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="completions", daemon=True)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
