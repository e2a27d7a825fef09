"""95 % intervals: Wilson's for shares, Newcombe's for differences of shares, percentiles of a bootstrap.

The percentile interval (Efron & Tibshirani 1993, 13) and not BCa: its ends stay in the metric's range, and it
needs no acceleration, which with a few groups is a matter of luck.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
Z95 = 1.959963984540054
"""The normal quantile of two-sided 95 % intervals."""
LEAST_GROUPS = 6
"""Of fewer groups nothing is drawn: all of the few resamples may agree by chance, and not even a clean sweep
of five is significant (2 / 2^5 is above 5 %)."""
MOST_UNDEFINED = 0.05
"""With a larger share of undefined resamples no interval is given: they could hide one of its ends."""
TOO_FEW = f"no interval: there are fewer than {LEAST_GROUPS} groups to draw from"
SAME = "the same in every resample: these rows do not show how sure it is"


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval. None is undefined, for the reason in `undefined`.

    `undefined_resamples` were left out; `note` is a caveat.
    """

    value: float | None
    low: float | None
    high: float | None
    method: Literal["wilson", "bootstrap"] | None
    undefined: str | None = None
    undefined_resamples: int = 0
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `total`, with its 95 % interval; rate and interval are None for none of none."""

    count: int
    total: int
    rate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One share minus another, with its 95 % interval; None, with the reason, where one is undefined."""

    value: float | None
    low: float | None
    high: float | None
    undefined: str | None = None

    @property
    def shown(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def share(count: int, total: int) -> Share:
    """Return a share with Wilson's score interval (Wilson 1927, JASA 22, 209-212)."""
    if total == 0:
        return Share(count, total, None, None, None)
    p, z2 = count / total, Z95 * Z95
    center = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 * math.sqrt(p * (1 - p) / total + z2 / (4 * total * total)) / (1 + z2 / total)
    low = 0.0 if count == 0 else max(0.0, center - half)
    high = 1.0 if count == total else min(1.0, center + half)
    return Share(count, total, p, low, high)


def proportion(count: int, total: int, why: str = "no rows") -> Interval:
    """Return a share as an interval; `why` is the reason if `total` is 0."""
    found = share(count, total)
    if found.rate is None:
        return Interval(None, None, None, None, why)
    return Interval(found.rate, found.low, found.high, "wilson")


def difference(one: Share, other: Share) -> Difference:
    """Return `one` minus `other` for independent samples, with the hybrid score interval (Newcombe 1998,
    Statistics in Medicine 17, 873-890, method 10)."""
    p, l1, u1 = one.rate, one.low, one.high
    q, l2, u2 = other.rate, other.low, other.high
    if p is None or l1 is None or u1 is None or q is None or l2 is None or u2 is None:
        return Difference(None, None, None, "a class without answers")
    low = p - q - math.hypot(p - l1, u2 - q)
    high = p - q + math.hypot(u1 - p, q - l2)
    return Difference(p - q, max(-1.0, low), min(1.0, high))


def percentile(point: float, replicates: NDArray[np.float64], why: str) -> Interval:
    """Return a value with the percentile interval of its replicates; `why` is the reason if it is NaN."""
    if np.isnan(point):
        return Interval(None, None, None, None, why)
    missing, ends = int(np.isnan(replicates).sum()), percentile_ends(replicates)
    if ends is None or missing > MOST_UNDEFINED * len(replicates):
        note = f"no interval: undefined in {missing} of {len(replicates)} resamples ({why})"
        return Interval(point, None, None, None, None, missing, TOO_FEW if ends is None else note)
    return Interval(point, *ends, "bootstrap", None, missing, SAME if ends[0] == ends[1] else None)


def percentile_ends(replicates: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the ends that contain 95 % of the defined replicates; None if all are NaN."""
    defined = replicates[~np.isnan(replicates)]
    if len(defined) == 0:
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
