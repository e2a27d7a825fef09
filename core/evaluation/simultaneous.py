"""Intervals and p-values of several differences that hold together, from one set of bootstrap resamples.

Each interval runs from the k-th smallest to the k-th largest replicate of its difference. k is the same for
all differences of a family: the largest one for which at least 95 % of the resamples lie inside all intervals
at once. This is the balanced simultaneous percentile interval (Beran 1988, JASA 83, 679-686; Mandel &
Betensky 2008, Computational Statistics & Data Analysis 52, 2158-2165). It is never narrower than the 95 %
interval of one difference and never wider than Bonferroni's, and it uses how the differences depend on each
other: all comparisons of a report share the student. The p-value that inverts it is the single-step min-P
of Westfall & Young (1993, Resampling-Based Multiple Testing, 2.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.evaluation.paired import ALPHA, bootstrap_p, without_noise
from core.evaluation.predictions import Floats

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Family:
    """Differences that are decided together.

    `shallowest` holds for each resample its smallest depth among all differences, in ascending order: the
    depth of a replicate is the number of replicates at or beyond it, in the tail that has fewer.
    """

    shallowest: NDArray[np.int64]
    resamples: int

    @property
    def rank(self) -> int:
        """k: which replicate from either end is the end of each interval; 0 where there are too few."""
        outside = math.floor(ALPHA * (self.resamples + 1) + _ROUNDING)
        if outside >= len(self.shallowest):
            return self._most
        return min(self._most, int(self.shallowest[outside]) - 1)

    @property
    def level(self) -> float:
        """The level of each test alone, at most 0.05; 0 where there are too few resamples."""
        return ALPHA if self.rank == self._most else 2 * self.rank / (self.resamples + 1)

    @property
    def _most(self) -> int:
        return _single_rank(self.resamples)

    def interval(self, differences: Floats) -> tuple[float, float] | None:
        """Return the interval of one difference of the family; None where there are too few resamples."""
        ordered = np.sort(without_noise(differences))
        rank = min(self.rank, _single_rank(len(ordered)))
        return None if rank == 0 else (float(ordered[rank - 1]), float(ordered[-rank]))

    def p_value(self, differences: Floats) -> float:
        """Return the p-value of one difference, at most 0.05 exactly where its interval excludes 0."""
        defined = without_noise(differences)
        depth = 1 + min(int((defined <= 0).sum()), int((defined >= 0).sum()))
        as_shallow = int(np.searchsorted(self.shallowest, depth, side="right"))
        return min(1.0, max(bootstrap_p(differences) or 0.0, as_shallow / (self.resamples + 1)))


def family(differences: Sequence[Floats]) -> Family:
    """Return the family of differences with one replicate of each per resample; NaN is undefined."""
    resamples = len(differences[0]) if differences else 0
    if not resamples:
        return Family(np.zeros(0, dtype=np.int64), 0)
    depths = np.stack([_depths(of) for of in differences])
    return Family(np.sort(depths.min(axis=0)), resamples)


def _single_rank(resamples: int) -> int:
    """k of a single difference (Davison & Hinkley 1997, 5.2)."""
    return math.floor((resamples + 1) * ALPHA / 2 + _ROUNDING)


def _depths(differences: Floats) -> NDArray[np.int64]:
    """Replicates at or beyond each one, in the smaller tail; an undefined one is in no tail."""
    defined = without_noise(differences)
    ordered = np.sort(defined)
    below = np.searchsorted(ordered, defined, side="right")
    above = len(ordered) - np.searchsorted(ordered, defined, side="left")
    out = np.full(len(differences), len(differences), dtype=np.int64)
    out[~np.isnan(differences)] = np.minimum(below, above)
    return out
