"""Items on their way: handed out in random order, returned in their own order, within a bounded window."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from core.completions.request import Completion, P

BLOCK = 4096
"""Items that are sent in random order."""
WINDOW = 32_768
"""How far the first unfinished item may be behind the next one to begin."""

I = TypeVar("I")  # noqa: E741


class Work(Generic[I, P]):
    """An item, its place among the items, and its completions so far."""

    __slots__ = ("failed_id", "given", "index", "is_last_chance", "item")

    def __init__(self, index: int, item: I) -> None:
        self.index, self.item = index, item
        self.given: list[Completion[P]] = []
        self.failed_id: str | None = None
        """The request that was not answered in all tries, if one was not."""
        self.is_last_chance = False


class WorkQueue(Generic[I, P]):
    """Hands out items in random order within blocks, and returns finished ones in their order.

    The order is the run's own: two runs at once seldom send the same, and find each other's replies. An item
    that failed is handed out once more: when all others are finished, or when the window would have to wait
    for it.
    """

    def __init__(self, run: str, items: Iterable[I]) -> None:
        self._source: Iterator[Work[I, P]] = self._shuffled(random.Random(run), items)
        self._held: Work[I, P] | None = None
        self._head = 0
        self._done: dict[int, Work[I, P]] = {}
        self.failed: dict[int, Work[I, P]] = {}
        self.ready: list[Work[I, P]] = []
        self._advanced = asyncio.Event()

    @staticmethod
    def _shuffled(rng: random.Random, items: Iterable[I]) -> Iterator[Work[I, P]]:
        numbered = enumerate(items)
        # The first item is the one that the plan shows, and the first request may be sent alone.
        yield from (Work[I, P](i, item) for i, item in itertools.islice(numbered, 1))
        while block := [Work[I, P](i, item) for i, item in itertools.islice(numbered, BLOCK)]:
            rng.shuffle(block)
            yield from block

    async def next(self) -> Work[I, P] | None:
        """Return the next item, waiting while it is too far ahead of the first unfinished one."""
        while True:
            self._held = self._held or next(self._source, None)
            work = self._held
            if work is None or work.index < self._head + WINDOW:
                self._held = None
                return work
            if (failed := self.failed.pop(self._head, None)) is not None:
                failed.is_last_chance = True
                return failed
            self._advanced.clear()
            await self._advanced.wait()

    def put(self, work: Work[I, P]) -> None:
        """Take an item back, finished or failed."""
        if work.failed_id is not None and not work.is_last_chance:
            self.failed[work.index] = work
            self._advanced.set()
            return
        self._done[work.index] = work
        while (first := self._done.pop(self._head, None)) is not None:
            self.ready.append(first)
            self._head += 1
            self._advanced.set()

    def requeue_failed(self) -> None:
        """Hand out the failed items once more."""
        again = list(self.failed.values())
        for work in again:
            work.is_last_chance = True
        self.failed.clear()
        self._source = iter(again)

    def give_up_failed(self) -> None:
        """Count the failed items as finished."""
        for work in list(self.failed.values()):
            work.is_last_chance = True
            self.put(work)
        self.failed.clear()

    def take_ready(self) -> list[tuple[I, tuple[Completion[P], ...]]]:
        """Return and forget the finished items."""
        ready, self.ready = self.ready, []
        return [(work.item, tuple(work.given)) for work in ready]
