"""The rate of a server that refuses and does not say what its limit is."""

from __future__ import annotations

from collections import deque

_SHORT_S, _LONG_S = 10.0, 60.0
_BACK_OFF = 0.9
_RECOVERY_S = 15.0
_RECOVERY_REQUESTS = 60.0
_COUNTED = 30
_PROBE = 0.05
# Requests a second: one in ten seconds is little enough for any server.
_LEAST = 0.1


class ProbedRate:
    """Requests a second that a server was seen to take: no limit until it first refuses.

    After a refusal the rate falls to nine tenths of what was delivered, then follows the cubic of
    TCP CUBIC (Ha, Rhee and Xu 2008; RFC 9438): back to the delivered rate fast, flat around it, and
    slowly beyond. Refusals of requests sent before the last fall are no news and change nothing.
    """

    def __init__(self) -> None:
        self._sent: deque[float] = deque()
        self._answered: deque[float] = deque()
        self._first: float | None = None
        self._plateau: float | None = None
        self._start = 0.0
        self._fell_at = 0.0

    def sent(self, now: float) -> None:
        """A request goes out."""
        self._first = now if self._first is None else self._first
        _append(self._sent, now)

    def delivered(self, now: float) -> None:
        """A request was answered."""
        _append(self._answered, now)

    def refused(self, sent_at: float, now: float) -> bool:
        """A request sent at `sent_at` was refused; whether the rate fell for it."""
        if self._plateau is not None and sent_at < self._fell_at:
            return False
        before = self.rate(now)
        if before is None:
            before = self._seen(self._sent, _SHORT_S, now)
        # Few answers in the short look would be mostly chance.
        span = min(max(_SHORT_S, _COUNTED / max(before, _LEAST)), _LONG_S)
        short, long = self._seen(self._answered, span, now), self._seen(self._answered, _LONG_S, now)
        # A server that counts in minutes answers nothing once one is used up, so the short look
        # falls to nothing, and only the long one says what to come back to.
        self._start = max(_BACK_OFF * min(short, long, before), 0.5 * before, _LEAST)
        self._plateau = max(long, self._start)
        self._fell_at = now
        return True

    def rate(self, now: float) -> float | None:
        """Requests a second at `now`; None: nothing was refused so far."""
        if self._plateau is None:
            return None
        # A cycle of few requests would make its one refusal a large share of them.
        recovery = min(max(_RECOVERY_S, _RECOVERY_REQUESTS / self._plateau), _LONG_S)
        x = (now - self._fell_at) / recovery - 1
        fall = self._plateau - self._start
        # Beyond the plateau a small fall must not mean a small step, nor a deep one a leap.
        return self._plateau + (fall if x < 0 else _PROBE * self._plateau) * x**3

    def _seen(self, moments: deque[float], span: float, now: float) -> float:
        """Events a second over the last `span` seconds, or since the first request."""
        count = sum(1 for moment in moments if moment > now - span)
        return count / max(min(span, now - (self._first or 0.0)), 1.0)


def _append(moments: deque[float], now: float) -> None:
    moments.append(now)
    while moments[0] < now - _LONG_S:
        moments.popleft()
