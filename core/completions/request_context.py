"""What all requests of a run to one endpoint share, the stored replies that answer them, and the canary.

A reply also answers a request with another token limit or output format, unless a lower limit cut it off, or
it is unusable and another format is settled. The canary pays for a few completions only until one of them is
usable: failures are often those of all texts.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import cached_property
from typing import Generic

from core import jsonio
from core.completions.chat import (
    ChatRequest,
    Completion,
    P,
    Parser,
    PreparedRequest,
    Problem,
    Reply,
    ResponseSchema,
    Setup,
    ending,
    normalized,
    response_formats,
)
from core.completions.journal import Journal
from core.completions.reply_log import FOLDER, FORMATS
from core.config import Endpoint
from core.errors import AnswersUnusable, StoreError
from core.prompts import Message
from core.store import Store

log = logging.getLogger(__name__)

_OLD_MISSES_AT_MOST = 3
"""Texts with an answer of version 0.1 under no known token limit, after which the search stops: the prompt
is another."""
_OLD_LIMITS = tuple(
    sorted({*range(1, 10_001), *range(10_000, 1_000_001, 100), *range(10_240, 1_048_577, 1024)})
)
"""Every limit up to 10,000, and round ones above; about 10 microseconds each."""


class RequestContext(Generic[P]):
    """Endpoint, parser, settled output format and journal of one run.

    `frame` is the prompt without what differs between requests; with endpoint and model it identifies the
    prompt whose first completions the canary watches.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        journal: Journal,
        parser: Parser[P],
        frame: Sequence[Message] = (),
        schema: ResponseSchema | None = None,
    ) -> None:
        self.endpoint, self.journal, self.parser, self.schema = endpoint, journal, parser, schema
        self.formats = response_formats(schema)
        self.output_format = next(iter(self.formats))
        self._frame = tuple(frame)
        self._schema_digest = schema.digest if schema else None
        self._old_limits: frozenset[int] = frozenset()
        self._old_misses = 0

    @property
    def format_path(self) -> str:
        """Where the output format of endpoint and model is stored under the root."""
        name = jsonio.digest([normalized(self.endpoint.base_url), self.endpoint.model])[:32]
        return f"{FOLDER}/{FORMATS}/{name}.json"

    def take_format(self) -> bool:
        """Use the output format that was settled for endpoint and model; False if none was.

        Without a schema there is nothing to settle. Raises StoreError for a damaged file or unknown format.
        """
        if self.schema is None:
            return True
        found = self.journal.store.read_json(self.format_path)
        if found is None:
            return False
        settled = found.get("output_format") if isinstance(found, dict) else None
        if not isinstance(settled, str) or settled not in self.formats:
            raise StoreError(
                f"{self.journal.store.where(self.format_path)} names an output format {settled!r:.40} "
                f"that is not one of {', '.join(self.formats)}; remove it and run again"
            )
        self.output_format = settled
        return True

    def settle_format(self) -> None:
        """Store the present output format; of two runs at once, the first one's is used."""
        content = {
            "endpoint": normalized(self.endpoint.base_url),
            "model": self.endpoint.model,
            "output_format": self.output_format,
            "run": self.journal.run,
            "at": jsonio.now(),
        }
        self.journal.store.backend.create(self.format_path, (json.dumps(content) + "\n").encode())
        self.take_format()

    def prepare(self, request: ChatRequest) -> PreparedRequest:
        """Return what is sent for a request in the settled format."""
        endpoint = self.endpoint
        return PreparedRequest(
            request, endpoint, endpoint.max_tokens, self.output_format, self._schema_digest
        )

    @property
    def setup(self) -> Setup:
        """What all requests have in common, in the settled format."""
        return Setup(self.prompt_digest, self.endpoint.max_tokens, self.output_format)

    @cached_property
    def prompt_digest(self) -> str:
        """16 hex digits over endpoint, model, extra fields and the prompt's frame."""
        frame = [[m.role, m.content] for m in self._frame]
        endpoint = self.endpoint
        shared = [normalized(endpoint.base_url), endpoint.model, frame, endpoint.extra_body]
        return jsonio.digest([*shared, self._schema_digest] if self._schema_digest else shared)[:16]

    def completion(self, request: ChatRequest, reply: Reply) -> Completion[P]:
        return Completion(request, reply, self.parser.parse(reply))

    def own(self, prepared: PreparedRequest) -> Completion[P] | None:
        """Return the journal's completion of exactly this request."""
        reply = self.journal.get(prepared.key)
        return None if reply is None else self.completion(prepared.request, reply)

    def stored(self, prepared: PreparedRequest) -> Completion[P] | None:
        """Return the journal's completion of a request: its own, or the earliest under another token limit or
        format; None if it has to be sent.
        """
        own = self.own(prepared)
        if own is not None and not _is_truncated(own):
            return own
        index = self.journal.index
        old = itertools.product(self._old_limits, index.old_formats)
        found = [own] if own else []
        found += self._others(prepared, itertools.chain(index.variants, old))
        if not found and (limits := self._new_old_limits(prepared)):
            found += self._others(prepared, itertools.product(limits, index.old_formats))
        return min(found, key=lambda c: (_is_truncated(c), c.reply.at, c.reply.key)) if found else None

    def _others(
        self, prepared: PreparedRequest, variants: Iterable[tuple[int, str]]
    ) -> Iterator[Completion[P]]:
        """Yield completions under other token limits and formats that answer a request."""
        for limit, output_format in variants:
            if (limit, output_format) == (prepared.max_tokens, prepared.output_format):
                continue
            found = self.own(dataclasses.replace(prepared, max_tokens=limit, output_format=output_format))
            if found is None or (_is_truncated(found) and limit < prepared.max_tokens):
                continue
            formats = (found.reply.output_format, found.reply.settled_format)
            if found.parsed.ok or prepared.output_format in formats:
                yield found

    def _new_old_limits(self, prepared: PreparedRequest) -> frozenset[int]:
        """Search the token limit under which version 0.1 sent this; only the keys of its lines contain it.

        Returns limits that were unknown, under which the key of this request is in the journal.
        """
        index, request = self.journal.index, prepared.request
        if not index.old_formats or request.attempt or self._old_misses == _OLD_MISSES_AT_MOST:
            return frozenset()
        if not index.has_old_text(request.id):
            return frozenset()
        forms = [dataclasses.replace(prepared, output_format=name) for name in sorted(index.old_formats)]
        found: frozenset[int] = frozenset()
        for limits in (sorted(self._old_limits | {prepared.max_tokens}), _OLD_LIMITS):
            keys = ((limit, key) for form in forms for limit, key in form.keys_by_limit(limits))
            found = found or frozenset(limit for limit, key in keys if index.has(key))
        self._old_misses = 0 if found else self._old_misses + 1
        new = found - self._old_limits
        if new:
            log.info("answers of version 0.1 are reused; their token limit was %s", sorted(new))
        self._old_limits |= new
        return new


def _is_truncated(found: Completion[P]) -> bool:
    how = ending(found.reply.finish_reason)
    return how == "truncated" or (how in ("unstated", "unknown") and found.parsed.error == "truncated")


class Canary(Generic[P]):
    """Checked before each request is sent: open once a completion of the prompt was usable.

    Completions of the same prompt in the journal count, whatever run paid for them; with another prompt,
    token limit or output format the count starts again. While it is closed, a lease makes other runs that
    send the same prompt under the same root wait.
    `stored_old` yields stored completions of version 0.1, which do not identify their prompt.
    """

    def __init__(
        self, context: RequestContext[P], stored_old: Callable[[], Iterable[Completion[P]]] = tuple
    ) -> None:
        self._context, self._stored_old = context, stored_old
        self._limit = context.endpoint.canary or 0
        self._is_open = not self._limit
        self._used = 0
        self._counted: Setup | None = None
        self._problems: Counter[str] = Counter()
        self._examples: dict[str, tuple[Problem, Reply]] = {}
        self._error: AnswersUnusable | None = None
        self._counting, self._changed = asyncio.Lock(), asyncio.Event()
        self._lease: _CanaryLease | None = None

    async def enter(self) -> None:
        """Wait until a request may be sent; call `leave` if it brings no completion, else `judge`.

        Raises AnswersUnusable if enough completions are known to be unusable.
        """
        if not self._is_open:
            async with self._counting:
                await self._count_journal()
        while not self._is_open and self._error is None and self._used >= self._limit:
            self._changed.clear()
            await self._changed.wait()
        self.check()
        self._used += 1

    def leave(self) -> None:
        """Return the permit of a request that brought no completion."""
        self._used -= 1
        self._changed.set()

    def judge(self, completion: Completion[P]) -> None:
        """Count the completion of a request."""
        if self._is_open:
            return
        self._count(completion)
        self._conclude()
        self._changed.set()

    def check(self) -> None:
        """Raise AnswersUnusable if nothing more may be sent."""
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        """Release the lease, so that other runs continue."""
        if self._lease is not None:
            await asyncio.to_thread(self._lease.close)

    async def _count_journal(self) -> None:
        """Count the journal's completions in the present setup; once for each setup."""
        context, setup = self._context, self._context.setup
        if self._is_open or self._counted == setup:
            return
        self._count_stored()
        if not self._is_open:
            await self.close()
            self._lease = _CanaryLease(context.journal.store, setup, context.endpoint.model)
            await self._lease.acquire()
            # The run that had the lease before may have received a usable completion.
            await asyncio.to_thread(context.journal.refresh)
            self._count_stored()
        self._counted = setup
        self._used = self._problems.total()
        self._conclude()

    def _count_stored(self) -> None:
        """Count the journal's completions that show what others will be like, up to the first usable one."""
        self._problems.clear()
        setup = self._context.setup
        for reply in self._context.journal.replies_of(setup.prompt_digest, setup.settled_format):
            # The prompt is not stored, and not needed.
            request = ChatRequest(reply.example_id, (), reply.attempt, reply.temperature, reply.hinted)
            completion = self._context.completion(request, reply)
            limit = reply.max_tokens or 0
            is_alike = limit == setup.max_tokens or (limit < setup.max_tokens and completion.parsed.ok)
            if is_alike and self._count(completion):
                return
        any(map(self._count, self._stored_old()))

    def _count(self, completion: Completion[P]) -> bool:
        """Count a completion; return whether it is usable."""
        problem = self._context.parser.problem(completion.reply, completion.parsed)
        if problem is None:
            self._is_open = True
            return True
        self._problems[problem.code] += 1
        self._examples.setdefault(problem.code, (problem, completion.reply))
        return False

    def _conclude(self) -> None:
        """Open, or stop if enough completions are unusable."""
        total = self._problems.total()
        if self._is_open:
            if self._lease is not None:
                self._lease.release()
        elif total >= self._limit:
            endpoint, (code, count) = self._context.endpoint, self._problems.most_common(1)[0]
            problem, reply = self._examples[code]
            shown = " ".join(reply.raw_output.split())[:100]
            begins = f" (one begins {shown!r})" if shown else ""
            self._error = AnswersUnusable(
                f"none of the first {total} answers of {endpoint.model} at {endpoint.base_url} can be used: "
                f"{count} of them {problem.what}{begins}; {problem.remedy}, and run the same command again. "
                "The answers are stored: what the change makes usable is not requested again. To pay for "
                f"more of them as they are, raise {endpoint.section}.canary ({endpoint.canary})"
            )


class _CanaryLease:
    """A lease held by a thread of its own: waiting for a lease blocks, and Ctrl-C must not wait for it."""

    def __init__(self, store: Store, setup: Setup, model: str) -> None:
        name = f"canary/{jsonio.digest(list(setup))[:32]}"
        self._lease = store.lease(name, f"the first answers of {model}")
        self._acquired: Future[None] = Future()
        self._acquired.set_running_or_notify_cancel()  # a waiting task may be canceled, the thread may not
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._hold, name="canary", daemon=True)

    async def acquire(self) -> None:
        """Return once the lease is held."""
        self._thread.start()
        try:
            await asyncio.wrap_future(self._acquired)
        except BaseException:
            self._over.set()
            raise

    def release(self) -> None:
        """Release the lease soon."""
        self._over.set()

    def close(self) -> None:
        """Return once the lease is released."""
        self._over.set()
        if self._acquired.done():
            self._thread.join()

    def _hold(self) -> None:
        try:
            with self._lease:
                self._acquired.set_result(None)
                self._over.wait()
        except Exception as e:
            if not self._acquired.done():
                self._acquired.set_exception(e)
