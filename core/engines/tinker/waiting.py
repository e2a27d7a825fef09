"""Wait for the server, and report what is waited for, since when, and the state of its queue.

Nothing here ends a wait: the SDK has its own timeouts and retries.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

log = logging.getLogger(__name__)

# The SDK's loggers of the queue's state, which repeat it at most every minute.
_QUEUE_LOGGERS = ("tinker.lib.queue_state_logger", "tinker.lib.public_interfaces.sampling_client")
_QUEUE_VALID_S = 90.0
_LOG_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait that continues."""

    what: str
    """For instance "step 12"."""
    seconds: float
    """Since its beginning."""
    queue: str | None
    """The queue's last state, if the SDK passes it on."""

    def __str__(self) -> str:
        queue = f", queue: {self.queue}" if self.queue else ""
        return f"waiting for {self.what} for {self.seconds:.0f} s{queue}"


Report = Callable[[Wait], None]


class Watch:
    """Waits for futures; `report` is called every `tick_s` during a wait, by default to log long ones."""

    def __init__(self, report: Report | None = None, *, tick_s: float = 1.0) -> None:
        self.report = report or LogWaits()
        self.tick_s = tick_s
        self.queue = Queue()
        self._local = threading.local()

    @contextmanager
    def reporting(self, report: Report) -> Iterator[None]:
        """Within the context, report this thread's waits to `report` too."""
        before = getattr(self._local, "report", None)
        self._local.report = report
        try:
            yield
        finally:
            self._local.report = before

    def result(self, future: Future[Any], what: str) -> Any:
        """Wait for a future; return its result or raise its error."""
        self.first([future], what)
        return future.result()

    def first(self, futures: Collection[Future[Any]], what: str) -> set[Future[Any]]:
        """Wait until at least one future is done; return those that are."""
        since, waited = time.monotonic(), False
        while True:
            done = wait(futures, self.tick_s, return_when=FIRST_COMPLETED).done
            if done:
                # A result means that the queue moves again, which older SDKs do not report.
                if waited:
                    self.queue.update(None)
                return done
            waited = True
            so_far = Wait(what, time.monotonic() - since, self.queue.state)
            self.report(so_far)
            if (report := getattr(self._local, "report", None)) is not None:
                report(so_far)


class Queue(logging.Handler):
    """The last state of the server's queue, from the SDK's observer of training or from its log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._state: str | None = None
        self._until = 0.0
        for name in _QUEUE_LOGGERS:
            logging.getLogger(name).addHandler(self)

    @property
    def state(self) -> str | None:
        """None if it works, or nothing was reported for a while."""
        return self._state if time.monotonic() < self._until else None

    def update(self, state: str | None) -> None:
        """Set the state."""
        self._state, self._until = state, time.monotonic() + _QUEUE_VALID_S

    def emit(self, record: logging.LogRecord) -> None:
        self.update(record.getMessage())

    def on_queue_state_change(self, queue_state: Any, queue_state_reason: str | None) -> None:
        """Implement the SDK's observer."""
        state = str(getattr(queue_state, "value", queue_state))
        parts = [part for part in (state.replace("_", " "), queue_state_reason) if part]
        self.update(None if state == "active" else ": ".join(parts))

    def observe(self, client: Any) -> None:
        """Observe a training client's queue too: its own observer is silent for 15 minutes."""
        own = getattr(client, "_queue_state_logger", None)
        if own is None:
            return

        def on_queue_state_change(queue_state: Any, queue_state_reason: str | None) -> None:
            own.on_queue_state_change(queue_state, queue_state_reason)
            self.on_queue_state_change(queue_state, queue_state_reason)

        client._queue_state_logger = SimpleNamespace(on_queue_state_change=on_queue_state_change)

    def close(self) -> None:
        """Stop listening."""
        for name in _QUEUE_LOGGERS:
            logging.getLogger(name).removeHandler(self)
        super().close()


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
    """Return the concurrent.futures.Future of an SDK call."""
    inner: Future[Any] = future.future() if hasattr(future, "future") else future
    return inner


def settle(futures: Iterable[Future[Any]]) -> None:
    """Cancel futures, and read the results of those that cannot be cancelled."""
    for future in futures:
        future.cancel()
        if not future.cancelled():
            future.exception()
