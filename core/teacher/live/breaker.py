"""When nothing more is sent: after a refusal, or when the endpoint fails and fails."""

from __future__ import annotations

from collections import deque

from core.config.teacher import BreakerConfig
from core.errors import BreakerOpen, TeacherError
from core.teacher.live.clock import Clock


class Breaker:
    """Asked right before each request, when its turn has come: `check` raises once it is open.

    It stays open: the next run starts with a closed one. What is under way is not cut off; its
    answers are paid for and are kept. A 429 is flow control and no failure: do not report it.
    """

    def __init__(self, clock: Clock, config: BreakerConfig) -> None:
        self._clock = clock
        self._config = config
        self._row = 0
        self._row_since = 0.0
        self._share_since: float | None = None
        self._window: deque[bool] = deque(maxlen=config.window)
        self._error: TeacherError | None = None

    @property
    def open(self) -> bool:
        """Whether nothing more may be sent."""
        return self._error is not None

    def check(self) -> None:
        """Raise the error that opened it, if any."""
        if self._error is not None:
            raise self._error

    def refuse(self, error: TeacherError) -> None:
        """Open at once: a refusal of the key, the account or the model, or the budget spent."""
        self._error = self._error or error

    def success(self) -> None:
        """A request was answered, however well."""
        self._row = 0
        self._window.append(True)

    def failure(self, words: str) -> None:
        """A request failed: no answer, 5xx, or given up. `words` are the server's."""
        now = self._clock.monotonic()
        self._row_since = now if self._row == 0 else self._row_since
        self._row += 1
        self._window.append(False)
        lasted = now - self._row_since
        # Many at once fail in the one second of a hiccup, so that a number alone says little.
        if self._row >= self._config.failures and lasted >= self._config.patience_s:
            self._trip(f"{self._row} requests in a row failed, for {lasted:.0f} seconds", words)
        failed = self._window.count(False)
        if len(self._window) < self._config.window or failed / len(self._window) < self._config.rate:
            self._share_since = None
            return
        self._share_since = now if self._share_since is None else self._share_since
        if now - self._share_since >= self._config.patience_s:
            self._trip(f"{failed} of the last {len(self._window)} requests failed", words)

    def _trip(self, what: str, words: str) -> None:
        self.refuse(
            BreakerOpen(
                f"the teacher's endpoint does not work: {what}, the last with {words}; see whether it is "
                "up (teacher.base_url), and run the same command again: no answer given so far is asked "
                "for twice. teacher.limits.breaker says how much is borne"
            )
        )
