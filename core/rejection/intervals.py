"""Intervals for shares and for the difference of two shares."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z95 = 1.959963984540054
"""The normal quantile of two-sided 95 % intervals."""


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


def share(count: int, total: int) -> Share:
    """A share with Wilson's score interval (Wilson 1927, JASA 22, 209-212)."""
    if total == 0:
        return Share(count, total, None, None, None)
    p, z2 = count / total, Z95 * Z95
    centre = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 * math.sqrt(p * (1 - p) / total + z2 / (4 * total * total)) / (1 + z2 / total)
    low = 0.0 if count == 0 else max(0.0, centre - half)
    high = 1.0 if count == total else min(1.0, centre + half)
    return Share(count, total, p, low, high)


def difference(one: Share, other: Share) -> Difference:
    """`one` minus `other` for independent samples, with the hybrid score interval (Newcombe 1998,
    Statistics in Medicine 17, 873-890, method 10)."""
    p, l1, u1 = one.rate, one.low, one.high
    q, l2, u2 = other.rate, other.low, other.high
    if p is None or l1 is None or u1 is None or q is None or l2 is None or u2 is None:
        return Difference(None, None, None, "a class without answers")
    low = p - q - math.hypot(p - l1, u2 - q)
    high = p - q + math.hypot(u1 - p, q - l2)
    return Difference(p - q, max(-1.0, low), min(1.0, high))
