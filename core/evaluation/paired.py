"""Exact tests of two scorers on the same rows, and how small a difference the rows can show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from core.evaluation.predictions import Bools, Floats
from core.rejection.intervals import share

ALPHA, POWER = 0.05, 0.80
Z_ALPHA, Z_POWER = 1.959963984540054, 0.8416212335729143
"""Normal quantiles of 1 - ALPHA / 2 and of POWER."""
_ROUNDING = 1e-12
"""Differences that are equal on paper vary by less, from rounding."""


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


def mcnemar(right_a: Bools, right_b: Bools) -> McNemar:
    """The test, from which rows each scorer has right."""
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    both, neither = int((right_a & right_b).sum()), int((~right_a & ~right_b).sum())
    return McNemar(both, only_a, only_b, neither, *_binomial(only_a, only_b), discordant=only_a + only_b)


def _binomial(one: int, other: int) -> tuple[float, float]:
    """Exact and mid-p values of two counts that are equally likely."""
    from scipy.stats import binom

    n = one + other
    if n == 0:
        return 1.0, 1.0
    here = float(binom.pmf(one, n, 0.5))
    p = min(1.0, 2 * float(binom.cdf(min(one, other), n, 0.5)))
    return p, (1 - here / 2) if one == other else p - here


def detectable_accuracy(discordant: int, rows: int) -> float | None:
    """The smallest difference of accuracy that McNemar's test finds with 80 % power at 5 %.

    Solves sqrt(n) d = z_alpha sqrt(r) + z_power sqrt(r - d^2) for d, where r is the share of discordant
    rows (Miettinen 1968, Biometrics 24, 339-352; Connor 1987, Biometrics 43, 207-211). None where no
    difference would be found: d cannot exceed r.
    """
    if rows == 0 or discordant == 0:
        return None
    a, b, share = Z_ALPHA, Z_POWER, discordant / rows
    found = math.sqrt(share) * (a * math.sqrt(rows) + b * math.sqrt(max(0.0, rows - a * a + b * b)))
    found /= rows + b * b
    return found if found <= share else None


def detectable(differences: Floats, level: float = ALPHA) -> float | None:
    """Return the smallest difference that is found with 80 % power by a test at `level`.

    At 5 % these are 2.80 standard errors (Bloom 1995, Evaluation Review 19, 547-556), of the paired
    bootstrap's. None where nothing varies.
    """
    defined = differences[~np.isnan(differences)]
    spread = float(defined.std(ddof=1)) if len(defined) > 1 else 0.0
    quantile = Z_ALPHA if level == ALPHA else NormalDist().inv_cdf(1 - level / 2)
    return (quantile + Z_POWER) * spread if spread > _ROUNDING else None


def bootstrap_p(differences: Floats) -> float | None:
    """Two-sided: twice the share of resamples on 0's other side, at least 2 / (resamples + 1) (Davison &
    Hinkley 1997, 4.2 and 5.3). None where nothing is defined."""
    defined = without_noise(differences)
    if len(defined) == 0:
        return None
    least = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (1 + least) / (1 + len(defined)))


def without_noise(differences: Floats) -> Floats:
    """Return the defined differences; those that are only rounding become 0."""
    defined = differences[~np.isnan(differences)]
    return np.where(np.abs(defined) <= _ROUNDING, 0.0, defined)


def exact_interval(test: McNemar) -> tuple[float, float]:
    """Return a 95 % interval of A's accuracy minus B's that excludes 0 exactly where McNemar's p <= 0.05.

    The difference is the share of discordant rows times (2 s - 1), where s is A's share of them. s has the
    interval of Clopper & Pearson (1934, Biometrika 26, 404-413), which inverts the exact test; the share of
    discordant rows has Wilson's. The ends are the extreme products, so that the interval is conservative.
    """
    n, rows = test.discordant, test.both + test.neither + test.discordant
    few, many = _wilson(n, rows)
    low, high = (2 * s - 1 for s in _clopper_pearson(test.only_a, n))
    return low * (many if low < 0 else few), high * (many if high > 0 else few)


def _wilson(count: int, total: int) -> tuple[float, float]:
    found = share(count, total)
    return (0.0, 1.0) if found.low is None or found.high is None else (found.low, found.high)


def _clopper_pearson(count: int, total: int) -> tuple[float, float]:
    from scipy.stats import beta

    low = 0.0 if count == 0 else float(beta.ppf(ALPHA / 2, count, total - count + 1))
    high = 1.0 if count == total else float(beta.ppf(1 - ALPHA / 2, count + 1, total - count))
    return low, high


def ranking_p(rows: int, positive: int) -> float:
    """Return the smallest p that an exact two-sided test of a ranking can give on so many rows.

    Of four rows, two of them positive, even a clean sweep is one of six orders; a bootstrap of so few is
    too sure of itself.
    """
    return min(1.0, 2 / math.comb(rows, positive))


def sign_flip_p(rows: int) -> float:
    """Return the smallest two-sided p of a sign-flip test on `rows` differences (Fisher 1935)."""
    return min(1.0, 2.0 ** (1 - rows))


def least_rows(comparisons: int = 1) -> int:
    """Return how many rows must differ before a clean sweep of them is significant among `comparisons`."""
    return 1 + math.ceil(math.log2(max(1, comparisons) / ALPHA) - _ROUNDING)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values of several tests: the chance of one false alarm among all stays below the level
    (Holm 1979, Scandinavian Journal of Statistics 6, 65-70). None, no test, stays None."""
    order = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    out: list[float | None] = [None] * len(ps)
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        out[i] = highest
    return out
