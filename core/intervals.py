"""Intervals and tests of shares, of bootstrap replicates, and of two scorers on the same rows.

The percentile interval (Efron & Tibshirani 1993, 13) and not BCa: its ends stay in the metric's range, and it
needs no acceleration, which with a few groups is a matter of luck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

LEVEL = 0.95
Z95 = 1.959963984540054
"""The normal quantile of two-sided 95 % intervals."""
ALPHA, POWER = 0.05, 0.80
Z_POWER = 0.8416212335729143
"""The normal quantile of POWER; Z95 is that of 1 - ALPHA / 2."""
ROUNDING = 1e-12
"""Differences that are equal on paper vary by less, from rounding."""
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
    """Return a share with Wilson's score interval (Wilson 1927, JASA 22, 209-212).

    It equals `scipy.stats.binomtest(...).proportion_ci("wilson")`, which takes 500 times as long.
    """
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


def percentile(point: float, replicates: _Floats, why: str) -> Interval:
    """Return a value with the percentile interval of its replicates; `why` is the reason if it is NaN."""
    if np.isnan(point):
        return Interval(None, None, None, None, why)
    missing, ends = int(np.isnan(replicates).sum()), percentile_ends(replicates)
    if ends is None or missing > MOST_UNDEFINED * len(replicates):
        note = f"no interval: undefined in {missing} of {len(replicates)} resamples ({why})"
        return Interval(point, None, None, None, None, missing, TOO_FEW if ends is None else note)
    return Interval(point, *ends, "bootstrap", None, missing, SAME if ends[0] == ends[1] else None)


def percentile_ends(replicates: _Floats) -> tuple[float, float] | None:
    """Return the ends that contain 95 % of the defined replicates; None if all are NaN."""
    defined = replicates[~np.isnan(replicates)]
    if len(defined) == 0:
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class McNemar:
    """Rows that one scorer has right and the other wrong, and how surprising their balance is.

    `p` is the exact two-sided binomial test (McNemar 1947, Psychometrika 12, 153-157, with the exact
    distribution); `mid_p` counts half of what was observed (Fagerland, Lydersen & Laake 2013, BMC
    Medical Research Methodology 13:91) and is less cautious. Both take rows as independent.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    p: float
    mid_p: float
    discordant: int
    """Rows that exactly one of the two has right."""


def mcnemar(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> McNemar:
    """Return the test, from which rows each scorer has right."""
    from scipy.stats import binom, binomtest

    a, b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    both, n = int((right_a & right_b).sum()), a + b
    p = mid_p = 1.0
    if n:
        observed = float(binom.pmf(a, n, 0.5))
        p = float(binomtest(a, n).pvalue)
        mid_p = (1 - observed / 2) if a == b else p - observed
    return McNemar(both, a, b, len(right_a) - both - n, p, mid_p, discordant=n)


def exact_interval(test: McNemar) -> tuple[float, float]:
    """Return a 95 % interval of A's accuracy minus B's that excludes 0 exactly where McNemar's p <= 0.05.

    The difference is the share of discordant rows times (2 s - 1), where s is A's share of them. s has the
    interval of Clopper & Pearson (1934, Biometrika 26, 404-413), which inverts the exact test; the share of
    discordant rows has Wilson's. The ends are the extreme products, so that the interval is conservative.
    """
    from scipy.stats import beta

    a, b, n = test.only_a, test.only_b, test.discordant
    discordant = share(n, test.both + test.neither + n)
    few, many = discordant.low or 0.0, 1.0 if discordant.high is None else discordant.high
    low = 2 * (0.0 if a == 0 else float(beta.ppf(ALPHA / 2, a, b + 1))) - 1
    high = 2 * (1.0 if b == 0 else float(beta.ppf(1 - ALPHA / 2, a + 1, b))) - 1
    return low * (many if low < 0 else few), high * (many if high > 0 else few)


def detectable_accuracy(discordant: int, rows: int) -> float | None:
    """Return the smallest difference of accuracy that McNemar's test finds with 80 % power at 5 %.

    Solves sqrt(n) d = z_alpha sqrt(r) + z_power sqrt(r - d^2) for d, where r is the share of discordant
    rows (Miettinen 1968, Biometrics 24, 339-352; Connor 1987, Biometrics 43, 207-211). None where no
    difference would be found: d cannot exceed r.
    """
    if rows == 0 or discordant == 0:
        return None
    a, b, r = Z95, Z_POWER, discordant / rows
    found = math.sqrt(r) * (a * math.sqrt(rows) + b * math.sqrt(max(0.0, rows - a * a + b * b)))
    found /= rows + b * b
    return found if found <= r else None


def detectable(differences: _Floats, level: float = ALPHA) -> float | None:
    """Return the smallest difference that is found with 80 % power by a test at `level`.

    At 5 % these are 2.80 standard errors (Bloom 1995, Evaluation Review 19, 547-556), of the paired
    bootstrap's. None where nothing varies.
    """
    defined = differences[~np.isnan(differences)]
    deviation = float(defined.std(ddof=1)) if len(defined) > 1 else 0.0
    quantile = Z95 if level == ALPHA else NormalDist().inv_cdf(1 - level / 2)
    return (quantile + Z_POWER) * deviation if deviation > ROUNDING else None


def bootstrap_p(differences: _Floats) -> float | None:
    """Return twice the share of resamples on 0's other side, at least 2 / (resamples + 1) (Davison & Hinkley
    1997, 4.2 and 5.3); None where nothing is defined."""
    defined = _without_noise(differences)
    return min(1.0, 2 * (1 + _beyond_zero(defined)) / (1 + len(defined))) if len(defined) else None


def sign_flip_p(rows: int) -> float:
    """Return the smallest two-sided p of a sign-flip test on `rows` differences (Fisher 1935)."""
    return min(1.0, 2.0 ** (1 - rows))


def least_rows(comparisons: int) -> int:
    """Return how many rows must differ before a clean sweep of them is significant among `comparisons`."""
    return 1 + math.ceil(math.log2(max(1, comparisons) / ALPHA) - ROUNDING)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return adjusted p-values, with which the chance of one false alarm among all stays below the level
    (Holm 1979, Scandinavian Journal of Statistics 6, 65-70). None, no test, stays None."""
    order = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    out: list[float | None] = [None] * len(ps)
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        out[i] = highest
    return out


@dataclass(frozen=True, slots=True)
class Family:
    """Differences that are decided together, and their simultaneous intervals and p-values.

    Each interval runs from the k-th smallest to the k-th largest replicate, with the largest k for which at
    least 95 % of the resamples lie inside all intervals at once: the balanced simultaneous percentile
    interval (Beran 1988, JASA 83, 679-686; Mandel & Betensky 2008, Computational Statistics & Data Analysis
    52, 2158-2165). Its inversion is the single-step min-P of Westfall & Young (1993, Resampling-Based
    Multiple Testing, 2.3).

    `shallowest` holds for each resample its smallest depth among all differences, in ascending order: the
    depth of a replicate is the number of replicates at or beyond it, in the tail that has fewer.
    """

    shallowest: NDArray[np.int64]
    resamples: int

    @staticmethod
    def of(differences: Sequence[_Floats]) -> Family:
        """Return the family of differences with one replicate of each per resample; NaN is undefined."""
        resamples = len(differences[0]) if differences else 0
        shallowest = np.full(resamples, resamples, dtype=np.int64)
        for of in differences:  # an undefined replicate is in no tail
            ordered = np.sort(defined := _without_noise(of))
            below = np.searchsorted(ordered, defined, side="right")
            above = len(ordered) - np.searchsorted(ordered, defined, side="left")
            at = ~np.isnan(of)
            shallowest[at] = np.minimum(shallowest[at], np.minimum(below, above))
        return Family(np.sort(shallowest), resamples)

    @property
    def rank(self) -> int:
        """k, the rank of each interval's ends among the replicates; 0 if there are too few."""
        outside, most = math.floor(ALPHA * (self.resamples + 1) + 1e-9), _rank_of_one(self.resamples)
        return most if outside >= len(self.shallowest) else min(most, int(self.shallowest[outside]) - 1)

    @property
    def level(self) -> float:
        """The level of each test alone, at most 0.05; 0 if there are too few resamples."""
        alone = 0 < self.rank == _rank_of_one(self.resamples)
        return ALPHA if alone else 2 * self.rank / (self.resamples + 1)

    def interval(self, differences: _Floats) -> tuple[float, float] | None:
        """Return the interval of one difference of the family; None if there are too few resamples."""
        ordered = np.sort(_without_noise(differences))
        rank = min(self.rank, _rank_of_one(len(ordered)))
        return None if rank == 0 else (float(ordered[rank - 1]), float(ordered[-rank]))

    def p_value(self, differences: _Floats) -> float:
        """Return the p-value of one difference, at most 0.05 exactly where its interval excludes 0."""
        depth = 1 + _beyond_zero(_without_noise(differences))
        as_shallow = int(np.searchsorted(self.shallowest, depth, side="right"))
        return min(1.0, max(bootstrap_p(differences) or 0.0, as_shallow / (self.resamples + 1)))


def _rank_of_one(resamples: int) -> int:
    """Return k of a single difference (Davison & Hinkley 1997, 5.2)."""
    return math.floor((resamples + 1) * ALPHA / 2 + 1e-9)


def _beyond_zero(defined: _Floats) -> int:
    """Return the replicates at or beyond 0, in the smaller tail."""
    return min(int((defined <= 0).sum()), int((defined >= 0).sum()))


def _without_noise(differences: _Floats) -> _Floats:
    """Return the defined differences; those that are only rounding become 0."""
    defined = differences[~np.isnan(differences)]
    return np.where(np.abs(defined) <= ROUNDING, 0.0, defined)
