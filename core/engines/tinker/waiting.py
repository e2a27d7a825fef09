"""Waiting for the server, and telling meanwhile for what, since when, and what the queue said.

Nothing here ends a wait: the SDK's own clocks and retries are the only ones.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

# Where the SDK says that it was told to wait; it repeats itself every minute at most.
_SAID_AT = ("tinker.lib.queue_state_logger", "tinker.lib.public_interfaces.sampling_client")
_SAID_FOR_S = 90.0
_LOG_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait that goes on."""

    what: str
    """For instance "step 12"."""
    seconds: float
    """Since when."""
    queue: str | None
    """The queue's last words, where the SDK passes them on."""

    def __str__(self) -> str:
        queue = f", queue: {self.queue}" if self.queue else ""
        return f"waiting for {self.what} for {self.seconds:.0f} s{queue}"


Report = Callable[[Wait], None]


class Watch:
    """Waits for futures; `report` is told every `tick_s` while one is not there."""

    def __init__(self, report: Report | None = None, *, tick_s: float = 1.0) -> None:
        self.report = report or LogWaits()
        self.tick_s = tick_s
        self.queue = Queue()
        self._here = threading.local()

    @contextmanager
    def telling(self, tell: Report) -> Iterator[None]:
        """Within it, waits of this thread are told to `tell` too."""
        before = getattr(self._here, "tell", None)
        self._here.tell = tell
        try:
            yield
        finally:
            self._here.tell = before

    def result(self, future: Future[Any], what: str) -> Any:
        """The future's result, or what it raised."""
        self.first([future], what)
        return future.result()

    def first(self, futures: Collection[Future[Any]], what: str) -> set[Future[Any]]:
        """Those that are done, once one is."""
        since, told = time.monotonic(), False
        while True:
            done = concurrent.futures.wait(
                futures, self.tick_s, return_when=concurrent.futures.FIRST_COMPLETED
            ).done
            if done:
                # A result says that the queue moves again, which older SDKs do not.
                if told:
                    self.queue.forget()
                return done
            told = True
            wait = Wait(what, time.monotonic() - since, self.queue.words)
            self.report(wait)
            if (tell := getattr(self._here, "tell", None)) is not None:
                tell(wait)


class Queue(logging.Handler):
    """What the SDK was last told of the queue: by its observer of training, or by its log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._words: str | None = None
        self._until = 0.0
        for name in _SAID_AT:
            logging.getLogger(name).addHandler(self)

    @property
    def words(self) -> str | None:
        """None where it works, or nothing was said for a while."""
        return self._words if time.monotonic() < self._until else None

    def emit(self, record: logging.LogRecord) -> None:
        self._hear(record.getMessage())

    def on_queue_state_change(self, queue_state: Any, queue_state_reason: str | None) -> None:
        """As the SDK's observers are told."""
        state = str(getattr(queue_state, "value", queue_state))
        words = [part for part in (state.replace("_", " "), queue_state_reason) if part]
        self._hear(None if state == "active" else ": ".join(words))

    def observe(self, client: Any) -> None:
        """Listen to a training client's queue too: its own observer keeps silent for 15 minutes."""
        if hasattr(client, "_queue_state_logger"):
            client._queue_state_logger = _Both((client._queue_state_logger, self))

    def forget(self) -> None:
        """What was said holds no longer."""
        self._hear(None)

    def close(self) -> None:
        """Listen no more."""
        for name in _SAID_AT:
            logging.getLogger(name).removeHandler(self)
        super().close()

    def _hear(self, words: str | None) -> None:
        self._words, self._until = words, time.monotonic() + _SAID_FOR_S


@dataclass(frozen=True, slots=True)
class _Both:
    """Passes on to several observers."""

    observers: tuple[Any, ...]

    def on_queue_state_change(self, queue_state: Any, queue_state_reason: str | None) -> None:
        for observer in self.observers:
            observer.on_queue_state_change(queue_state, queue_state_reason)


class LogWaits:
    """Writes long waits to the log, each minute."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def __call__(self, wait: Wait) -> None:
        if wait.seconds < _LOG_EVERY_S:
            self._next[wait.what] = _LOG_EVERY_S
        elif wait.seconds >= self._next.get(wait.what, _LOG_EVERY_S):
            self._next[wait.what] = wait.seconds + _LOG_EVERY_S
            log.info("%s", wait)


def plain(future: Any) -> Future[Any]:
    """The concurrent.futures.Future of what a call of the SDK gave."""
    inner: Future[Any] = future.future() if hasattr(future, "future") else future
    return inner


def settle(futures: Iterable[Future[Any]]) -> None:
    """Let go of results that nobody wants any more: none is left on its way, none goes unread."""
    for future in futures:
        future.cancel()
        if not future.cancelled():
            future.exception()
