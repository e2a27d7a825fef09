"""When a failed request is sent again, how long all wait after a 429, and when nothing more is sent."""

from __future__ import annotations

import datetime as dt
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from core.completions.failures import RetryDecision
from core.completions.rate_limiter import Clock, exhausted_for, reset_seconds, seconds, server_time
from core.config.endpoint import BreakerConfig, Endpoint
from core.errors import BreakerOpen, TeacherRefused


def retry_after(headers: Mapping[str, str], now: dt.datetime) -> float | None:
    """Seconds that a response asks to wait, 0 or more; None where it does not say, or nonsense.

    Reads retry-after-ms, then Retry-After as seconds or as a date (RFC 9110, 10.2.3), then when a limit that
    is used up is reset. A date is compared with the response's own Date, where it has one.
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    milliseconds = seconds(lower.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    asked = reset_seconds(lower.get("retry-after", ""), server_time(lower, now))
    return exhausted_for(lower, now) if asked is None else asked


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """Return the value of the x-should-retry header; None without one."""
    value = {name.lower(): value.strip().lower() for name, value in headers.items()}.get("x-should-retry")
    return {"true": True, "false": False}.get(value or "")


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often a request is tried, and how long is waited between.

    Full jitter: a uniform draw up to base_s * 2^n, no more than cap_s (Brooker, "Exponential Backoff
    And Jitter", AWS Architecture Blog, 2015). What the server asks for comes before it.
    """

    tries: int = 8
    base_s: float = 1.0
    cap_s: float = 60.0
    longest_s: float = 600.0
    """A server that asks for more is not waited for."""

    def wait(self, tried: int, asked: float | None, rng: random.Random) -> float | None:
        """Seconds before the next try after `tried` ones (from 1); None: give this request up."""
        if tried >= self.tries or (asked is not None and asked > self.longest_s):
            return None
        drawn = rng.uniform(0, min(self.cap_s, self.base_s * 2 ** (tried - 1)))
        # After what was asked for a tenth more, so that not all come back in one moment.
        return drawn if asked is None else asked + rng.uniform(0, max(0.1 * asked, 0.1))


class Pause:
    """Nobody sends until it is over: a 429 to one is one to all. Those who waited start spread out."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._until = clock.monotonic()
        self._spread = 0.0

    def hold(self, wait_s: float) -> None:
        """Pause for so many seconds from now, or until the end of an earlier, longer pause."""
        until = self._clock.monotonic() + wait_s
        if until > self._until:
            self._until, self._spread = until, min(1.0, 0.1 * wait_s)

    async def over(self) -> None:
        """Return when no pause is left."""
        while (left := self._until - self._clock.monotonic()) > 1e-6:
            await self._clock.sleep(left + self._rng.uniform(0, self._spread))


def refusal(decision: RetryDecision, endpoint: Endpoint) -> TeacherRefused:
    """Return the error of a decision that stops everything, with what to fix."""
    words, section, key_env = decision.words.lower(), endpoint.section, endpoint.api_key_env
    if words.startswith("http 401") or "key" in words:
        remedy = (
            f"check the key in {key_env}" if key_env else f"name the key's variable in {section}.api_key_env"
        )
    elif words.startswith("http 404") or "model" in words:
        remedy = f"check {section}.model and {section}.base_url"
    else:
        remedy = "check the account's balance and what it may use"
    return TeacherRefused(
        f"{endpoint.base_url} refuses to answer as {endpoint.model} ({decision.words}); {remedy}, and run "
        f"the same command again: no answer given so far is asked for twice"
    )


class CircuitBreaker:
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
        self._error: Exception | None = None

    @property
    def open(self) -> bool:
        """Whether nothing more may be sent."""
        return self._error is not None

    def check(self) -> None:
        """Raise the error that opened it, if any."""
        if self._error is not None:
            raise self._error

    def refuse(self, error: Exception) -> None:
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
        # Many requests fail together in a hiccup of a second, so a number alone means little.
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
                "for twice. teacher.limits.breaker sets how many failures are tolerated"
            )
        )
