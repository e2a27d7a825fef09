"""How a stage tells whoever watches how far it is, without knowing who watches."""

from __future__ import annotations

import logging
import time
from typing import Protocol

log = logging.getLogger(__name__)


class Progress(Protocol):
    """Called by a stage as it goes; must be cheap enough to call for every row."""

    def update(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units are finished; `note` says what, for instance "loss 0.41"."""


class Silent:
    """Watches nothing."""

    def update(self, done: int, total: int, note: str = "") -> None:
        return


class LogProgress:
    """Writes rate and remaining time to the log, at most every `every` seconds and at the end."""

    def __init__(self, what: str, *, every: float = 10.0) -> None:
        self.what, self.every = what, every
        self.last = time.monotonic()
        self._speed, self._ended = Speed(), False

    def update(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        rate = self._speed.rate(done)
        ends = done >= total and not self._ended
        if now - self.last < self.every and not ends:
            return
        self._ended = done >= total
        self.last = now
        log.info("%s: %s", self.what, describe(done, total, rate, note))


class Saying:
    """Passes on, and says something between two units: what is waited for. Begins at `done` of `total`."""

    def __init__(self, inner: Progress, done: int, total: int) -> None:
        self._inner, self._at = inner, (done, total)

    def update(self, done: int, total: int, note: str = "") -> None:
        self._at = done, total
        self._inner.update(done, total, note)

    def say(self, words: str) -> None:
        """As many are finished as before."""
        self._inner.update(*self._at, words)


class Speed:
    """Units a second since the first that was told of: what was loaded or done before does not count."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def rate(self, done: int) -> float:
        """The mean rate until now; 0 where it cannot be told yet."""
        now = time.monotonic()
        if self._first is None:
            self._first = now, done
        since, begun = self._first
        return (done - begun) / (now - since) if now > since else 0.0


def describe(done: int, total: int, rate: float, note: str = "") -> str:
    """`40/100 (40 %), 8.0/s, 8 s left, note`: what a terminal line and an artifact both show."""
    left = (total - done) / rate if rate > 0 else None
    parts = [f"{done}/{total} ({100 * done // max(total, 1)} %)"]
    if rate > 0:
        parts.append(f"{rate:.1f}/s")
    if left is not None and done < total:
        parts.append(f"{left:.0f} s left")
    return ", ".join([*parts, note] if note else parts)
