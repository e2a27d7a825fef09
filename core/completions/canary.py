"""Pay for a few completions only until one of them is usable: failures are often those of all texts.

Completions of the same prompt in the journal count, whatever run paid for them; with another prompt, token
limit or output format the count starts again.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Generic

from core import jsonio
from core.completions.context import RequestContext
from core.completions.reply import Reply, Setup
from core.completions.request import ChatRequest, Completion, P, Problem
from core.errors import AnswersUnusable
from core.store.objects import Store


class Canary(Generic[P]):
    """Checked before each request is sent: open once a completion of the prompt was usable.

    While it is closed, a lease makes other runs that send the same prompt under the same root wait.
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
