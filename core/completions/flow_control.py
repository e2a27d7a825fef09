"""When requests to an endpoint may be sent, whether a failed one is sent again, and when nothing more is."""

from __future__ import annotations

import datetime as dt
import random
from collections import deque

from core.completions.concurrency import AdaptiveConcurrency
from core.completions.failures import OVERLOAD_STATUSES, CallError
from core.completions.headers import retry_after
from core.completions.rate_limiter import RateLimiter, loop_time
from core.completions.response import ServerReply
from core.config.endpoint import BreakerConfig, Endpoint
from core.errors import BreakerOpen

_TRIES_WITHOUT_RESPONSE = 3
"""Tries of a request to an endpoint that has never responded: a wrong address stays wrong."""
_BASE_S, _CAP_S, _LONGEST_S = 1.0, 60.0, 600.0
"""The first and the longest wait before a retry; a request is given up if the server asks for more than the
last."""


class FlowControl:
    """Everything that decides when one endpoint may be asked. Created in a running event loop.

    A request takes a place in `concurrency` (how many are in flight at once), then its turn (pauses, requests
    and tokens a minute, the circuit breaker), and reports how it went.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        limits = endpoint.limits
        self.breaker = CircuitBreaker(limits.breaker, endpoint.section)
        self.concurrency = AdaptiveConcurrency(limits.concurrency)
        self.rate = RateLimiter(limits.requests_per_minute, limits.tokens_per_minute)
        self._tries, self._has_response = limits.tries, False

    async def turn(self, tokens: int) -> float:
        """Wait for the turn of a request of an estimated `tokens`; return the moment it may be sent.

        Raises what opened the breaker. Pass the tokens to `rate.settle` if nothing is sent.
        """
        at = await self.rate.take(tokens)
        self.breaker.check()
        return at

    def replied(self, reply: ServerReply) -> None:
        """Report a reply, so that its latency and its headers count."""
        self._has_response = True
        self.concurrency.report(reply.seconds, "ok", reply.usage.completion if reply.usage else None)
        self.rate.hint(reply.headers)

    def failed(self, error: CallError, at: float, tokens: int) -> None:
        """Report the failure of a request of an estimated `tokens` that was sent at `at`."""
        self._has_response = self._has_response or error.status is not None
        is_refused = error.status in OVERLOAD_STATUSES
        self.concurrency.report(loop_time() - at, "refused" if is_refused else "failed")
        if error.status == 429:
            self.rate.refused(at, tokens)

    def wait_before_retry(self, error: CallError, tries: int) -> float | None:
        """Return the seconds until a request is sent again after `tries`; None to give it up."""
        if error.status != 429:
            self.breaker.failure(error.words)
        wait = retry_delay(tries, self._tries, retry_after(error.headers, dt.datetime.now(dt.UTC)))
        if wait is None or (not self._has_response and tries >= _TRIES_WITHOUT_RESPONSE):
            return None
        if error.slow_down:
            self.rate.pause(wait)
            return 0.0
        return wait


def retry_delay(tried: int, tries: int, asked: float | None = None) -> float | None:
    """Return the seconds before the next try after `tried` (from 1) of `tries`; None: give the request up.

    Full jitter: a uniform draw up to 2^(tried - 1) s, no more than a minute (Brooker, "Exponential Backoff
    And Jitter", AWS Architecture Blog, 2015). What the server `asked` for comes before it.
    """
    if tried >= tries or (asked is not None and asked > _LONGEST_S):
        return None
    if asked is None:
        return random.uniform(0, min(_CAP_S, _BASE_S * 2 ** (tried - 1)))
    # A tenth more than was asked for, so that not all requests return in one moment.
    return asked + random.uniform(0, max(0.1 * asked, 0.1))


class CircuitBreaker:
    """Checked right before each request is sent: `check` raises once it is open.

    It stays open; the next run starts with a closed one. Requests in flight are not canceled: their replies
    are paid for and are kept. A 429 is flow control and not a failure: do not report it.
    """

    def __init__(self, config: BreakerConfig, section: str = "teacher") -> None:
        """`section` is the config section of the endpoint, for messages."""
        self._config, self._section = config, section
        self._failures = 0
        self._failing_since = 0.0
        self._share_since: float | None = None
        self._window: deque[bool] = deque(maxlen=config.window)
        self.error: Exception | None = None

    def check(self) -> None:
        """Raise the error that opened it, if any."""
        if self.error is not None:
            raise self.error

    def refuse(self, error: Exception) -> None:
        """Open at once: a refusal of the key, the account or the model, or the budget spent."""
        self.error = self.error or error

    def success(self) -> None:
        """Count a request that was answered, whatever the answer."""
        self._failures = 0
        self._window.append(True)

    def failure(self, words: str) -> None:
        """Count a failed request: no answer, 5xx, or given up. `words` are the server's."""
        now, config = loop_time(), self._config
        self._failing_since = now if self._failures == 0 else self._failing_since
        self._failures += 1
        self._window.append(False)
        lasted = now - self._failing_since
        # Many requests fail together in a hiccup of a second, so a number alone means little.
        if self._failures >= config.failures and lasted >= config.patience_s:
            self._trip(f"{self._failures} requests in a row failed, for {lasted:.0f} seconds", words)
        failed = self._window.count(False)
        if len(self._window) < config.window or failed / len(self._window) < config.rate:
            self._share_since = None
            return
        self._share_since = now if self._share_since is None else self._share_since
        if now - self._share_since >= config.patience_s:
            self._trip(f"{failed} of the last {len(self._window)} requests failed", words)

    def _trip(self, what: str, words: str) -> None:
        section = self._section
        message = (
            f"the endpoint does not work: {what}, the last with {words}; check whether it is up "
            f"({section}.base_url), and run the same command again: stored answers are not requested twice. "
            f"{section}.limits.breaker sets how many failures are tolerated"
        )
        self.refuse(BreakerOpen(message))
