"""Pay for a few answers only until one of them is usable.

Answers of an endpoint to one prompt often fail for all texts in the same way: cut off at the token limit,
in a form that the parser does not read, refused by a filter. So no more than `teacher.canary` requests are
sent before an answer names a label. Answers to the same prompt that are in the journal count, whatever run
paid for them; with another prompt, token limit or output format the count starts again.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from core import jsonio
from core.completions.journal import Journal
from core.completions.reply import Reply, Setup, ending
from core.config.teacher import TeacherConfig
from core.errors import AnswersUnusable
from core.records import Example
from core.store.objects import Store
from core.teacher.live.questions import Questions
from core.teacher.parsing import Parsed

_SHOWN = 100
_PROBLEMS = {
    "truncated": (
        "are cut off at the token limit",
        "raise teacher.max_tokens, or turn the model's thinking off in teacher.extra_body",
    ),
    "filtered": (
        "were withheld by the endpoint's content filter",
        "change the filter's settings at the provider, or use another teacher.model",
    ),
    "thinking": (
        "are empty, with text in the reasoning field that contains no answer",
        "raise teacher.max_tokens, or turn the model's thinking off in teacher.extra_body",
    ),
    "empty": ("are empty", "check teacher.model and teacher.extra_body"),
    "unknown_label": (
        "name a label that is not known",
        "add the name to teacher.parse.labels, or name the labels in the prompts file (prompts.file)",
    ),
    "reasoning": (
        "have a label and no reasoning that can be read",
        "ask for both in the prompts file (prompts.file)",
    ),
    "several": (
        "name several labels or reasonings that differ",
        "ask for one answer in the prompts file (prompts.file)",
    ),
    "form": (
        "are not in a form that is read (JSON, or a <label> tag)",
        "describe how the label is written in teacher.parse.label_pattern, or change the prompts file "
        "(prompts.file)",
    ),
}
"""What is wrong with answers, and how to fix it."""
_OF_ERROR = {
    "empty": "empty",
    "unknown_label": "unknown_label",
    "no_reasoning": "reasoning",
    "reasoning_not_text": "reasoning",
    "several_labels": "several",
    "several_reasonings": "several",
}


class Canary:
    """Asked before each request is sent: open once an answer to the prompt was usable.

    While it is closed, a lease makes other runs that ask the same prompt under the same root wait.
    """

    def __init__(self, questions: Questions, journal: Journal, rows: Iterable[Example]) -> None:
        self._questions, self._journal, self._rows = questions, journal, rows
        self._limit = questions.config.canary or 0
        self._open = not self._limit
        self._used = 0
        self._looked_at: Setup | None = None
        self._problems: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._error: AnswersUnusable | None = None
        self._look, self._changed = asyncio.Lock(), asyncio.Event()
        self._turn: _Turn | None = None

    async def enter(self) -> None:
        """Wait until a request may be sent; call `leave` if it brings no answer, else `judge`.

        Raises AnswersUnusable where the answers paid for so far are enough to know that none is usable.
        """
        if not self._open:
            async with self._look:
                await self._look_at_the_journal()
        while not self._open and self._error is None and self._used >= self._limit:
            self._changed.clear()
            await self._changed.wait()
        self.check()
        self._used += 1

    def leave(self) -> None:
        """Take back a request that brought no answer."""
        self._used -= 1
        self._changed.set()

    def judge(self, reply: Reply) -> None:
        """Take in the answer to a request."""
        if self._open:
            return
        self._count(reply)
        self._conclude()
        self._changed.set()

    def check(self) -> None:
        """Raise AnswersUnusable where nothing more may be sent."""
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        """Let other runs have their turn."""
        if self._turn is not None:
            await asyncio.to_thread(self._turn.close)

    async def _look_at_the_journal(self) -> None:
        """Count what the journal has to the present setup; once for each setup."""
        setup = self._questions.setup
        if self._open or self._looked_at == setup:
            return
        self._count_stored()
        if not self._open:
            await self.close()
            self._turn = _Turn(self._journal.store, setup, self._questions.config.model)
            await self._turn.take()
            # Whoever had the turn before may have been answered.
            await asyncio.to_thread(self._journal.refresh)
            self._count_stored()
        self._looked_at = setup
        self._used = self._problems.total()
        self._conclude()

    def _count_stored(self) -> None:
        """Up to the first usable answer."""
        self._problems.clear()
        any(map(self._count, self._stored()))

    def _stored(self) -> Iterator[Reply]:
        """The journal's answers that show what others will be like."""
        questions, setup = self._questions, self._questions.setup
        for reply in self._journal.replies_of(setup.prompt_digest, setup.settled_format):
            limit = reply.max_tokens or 0
            if limit == setup.max_tokens or (limit < setup.max_tokens and questions.parsed(reply).ok):
                yield reply
        # Lines of version 0.1 do not say which prompt they answer: only these texts' own are found.
        for example in self._rows if self._journal.old_formats else ():
            for reply, _ in questions.found(example, self._journal):
                if reply.prompt_digest is None:
                    yield reply

    def _count(self, reply: Reply) -> bool:
        """Take in an answer; whether it is usable."""
        problem = problem_of(reply, self._questions.parsed(reply))
        if problem is None:
            self._open = True
            return True
        self._problems[problem] += 1
        self._examples.setdefault(problem, reply.raw_output)
        return False

    def _conclude(self) -> None:
        """Open, or stop where enough answers are unusable."""
        if self._open:
            if self._turn is not None:
                self._turn.give_back()
        elif self._problems.total() >= self._limit:
            config = self._questions.config
            self._error = AnswersUnusable(_sentence(config, self._problems, self._examples))


def problem_of(reply: Reply, parsed: Parsed) -> str | None:
    """Why an answer has no label that can be used: a key of _PROBLEMS; None for a usable answer."""
    if parsed.ok:
        return None
    how = ending(reply.finish_reason)
    if how in ("truncated", "filtered"):
        return how
    error = (parsed.error or "").partition(":")[0]
    if error == "empty" and reply.reasoning_content:
        return "thinking"
    return _OF_ERROR.get(error, "form")


def _sentence(config: TeacherConfig, problems: Counter[str], examples: dict[str, str]) -> str:
    (worst, count), total = problems.most_common(1)[0], problems.total()
    what, remedy = _PROBLEMS[worst]
    example = " ".join(examples[worst].split())[:_SHOWN]
    begins = f" (one begins {example!r})" if example else ""
    limit = f" (teacher.max_tokens is {config.max_tokens})" if worst == "truncated" else ""
    return (
        f"none of the first {total} answers of {config.model} at {config.base_url} can be used: {count} of "
        f"them {what}{limit}{begins}; {remedy}, and run the same command again. The answers are stored: what "
        f"the change makes usable is not asked for again. To pay for more of them as they are, raise "
        f"teacher.canary ({config.canary})"
    )


class _Turn:
    """A lease held by a thread of its own: waiting for a lease blocks, and Ctrl-C must not wait for it."""

    def __init__(self, store: Store, setup: Setup, model: str) -> None:
        self._store, self._name = store, f"canary/{jsonio.digest(list(setup))[:32]}"
        self._what = f"the first answers of {model}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._hold, name="canary", daemon=True)
        self._waiting = True

    async def take(self) -> None:
        """Return once the lease is held."""
        loop = asyncio.get_running_loop()
        held: asyncio.Future[None] = loop.create_future()

        def report(error: BaseException | None) -> None:
            if not held.done():
                held.set_result(None) if error is None else held.set_exception(error)

        self._report: Callable[[BaseException | None], object] = lambda error: loop.call_soon_threadsafe(
            report, error
        )
        self._thread.start()
        try:
            await held
            self._waiting = False
        finally:
            if self._waiting:
                self._over.set()

    def give_back(self) -> None:
        """Let the next one have it, soon."""
        self._over.set()

    def close(self) -> None:
        """Return once it is given back."""
        self._over.set()
        if not self._waiting:
            self._thread.join()

    def _hold(self) -> None:
        # A loop that has ended takes no report, and then nobody waits for one.
        with contextlib.suppress(RuntimeError):
            try:
                with self._store.lease(self._name, self._what):
                    self._report(None)
                    self._over.wait()
            except Exception as e:
                self._report(e)
