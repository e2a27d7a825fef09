"""A token bucket whose rate may change, and which may run into debt."""

from __future__ import annotations

MINUTE = 60.0


class Bucket:
    """Fills at `rate` units a second up to `burst_s` seconds' worth, but no less than one unit.

    A demand larger than the bucket is let through when it is full and leaves a debt, which delays
    what comes after; so the mean rate holds for demands of any size. Units are requests or tokens.
    """

    def __init__(self, rate: float, burst_s: float, now: float) -> None:
        self._rate = rate
        self._burst_s = burst_s
        self._level = self._capacity
        self._filled_at = now

    @classmethod
    def within(cls, a_minute: float, burst_s: float, now: float) -> Bucket:
        """A bucket that lets no more than `a_minute` through in any minute, its burst included.

        Holds exactly for units of one; a demand larger than the bucket passes it by what it is larger.
        """
        return cls(a_minute / (MINUTE + burst_s), burst_s, now)

    @property
    def rate(self) -> float:
        """Units a second."""
        return self._rate

    def set_rate(self, rate: float, now: float) -> None:
        """Fill at another rate from now on; what a smaller bucket cannot hold is lost."""
        self._fill(now)
        self._rate = rate
        self._level = min(self._level, self._capacity)

    def empty(self, now: float) -> None:
        """Lose what was saved up; a debt stays."""
        self._fill(now)
        self._level = min(self._level, 0.0)

    def wait(self, units: float, now: float) -> float:
        """Seconds until `units` may pass; 0 or less: now."""
        self._fill(now)
        missing = min(units, self._capacity) - self._level
        wait = missing / self._rate
        # A wait that is lost in the clock's rounding would never end.
        return wait if wait > 1e-6 else 0.0

    def spend(self, units: float, now: float) -> None:
        """Take `units` out; negative units are given back."""
        self._fill(now)
        self._level = min(self._level - units, self._capacity)

    @property
    def _capacity(self) -> float:
        return max(1.0, self._rate * self._burst_s)

    def _fill(self, now: float) -> None:
        self._level = min(self._level + (now - self._filled_at) * self._rate, self._capacity)
        self._filled_at = now
