"""Progress of a stage: counts, rate and remaining time in the log, and a bar on a terminal."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

log = logging.getLogger(__name__)

LOGGERS = ("core", "tasks", "flows")
"""Loggers of this project, whose lines are written to the terminal and to a run's log."""
allowed = True
"""Whether bars may be shown; false where a program reads stderr."""


class Progress(Protocol):
    """Called by a stage as it advances; cheap enough to call for every row."""

    def update(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units are finished; `note` is shown with them, for instance "loss 0.41"."""


class Silent:
    """Shows nothing."""

    def update(self, done: int, total: int, note: str = "") -> None:
        return


class LogProgress:
    """Writes rate and remaining time to the log, at most every `every` seconds and at the end."""

    def __init__(self, what: str, *, every: float = 10.0) -> None:
        self.what, self.every = what, every
        self._last = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._ended = False

    def update(self, done: int, total: int, note: str = "") -> None:
        now, rate = time.monotonic(), self.rate(done)
        ends = done >= total and not self._ended
        if now - self._last < self.every and not ends:
            return
        self._ended = done >= total
        self._last = now
        log.info("%s: %s", self.what, describe(done, total, rate, note))

    def rate(self, done: int) -> float:
        """Return the units per second since the first update; 0 while it is unknown."""
        now = time.monotonic()
        if self._first is None:
            self._first = now, done
        since, begun = self._first
        return (done - begun) / (now - since) if now > since else 0.0


class NotedProgress:
    """Passes updates on, and shows notes between two units, such as what is waited for."""

    def __init__(self, inner: Progress, done: int, total: int) -> None:
        self._inner, self._at = inner, (done, total)

    def update(self, done: int, total: int, note: str = "") -> None:
        self._at = done, total
        self._inner.update(done, total, note)

    def note(self, text: str) -> None:
        """Show a note with the counts of the last update."""
        self._inner.update(*self._at, text)


class BarProgress(LogProgress):
    """A bar on a terminal that moves in place, and lines in the log, which a terminal then hides."""

    def __init__(self, what: str, *, every: float = 10.0) -> None:
        super().__init__(what, every=every)
        self._bar: Any = None

    def update(self, done: int, total: int, note: str = "") -> None:
        super().update(done, total, note)
        if not on_terminal() or (self._bar is None and done >= total):
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                desc=self.what, total=total, initial=done, file=sys.stderr, dynamic_ncols=True, unit="row"
            )
        if self._bar.disable:  # closed
            return
        self._bar.total = total
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()


def describe(done: int, total: int, rate: float, note: str = "") -> str:
    """Return `40/100 (40 %), 8.0/s, 8 s left, note`, as a log line and a Prefect artifact show it."""
    parts = [f"{done}/{total} ({100 * done // max(total, 1)} %)"]
    if rate > 0:
        parts.append(f"{rate:.1f}/s")
        if done < total:
            parts.append(f"{(total - done) / rate:.0f} s left")
    return ", ".join([*parts, note] if note else parts)


def on_terminal() -> bool:
    """Return whether a bar would be visible."""
    return allowed and sys.stderr.isatty()


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Hide the bars while a line is written."""
    if not on_terminal() or "tqdm" not in sys.modules:
        yield
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        yield
