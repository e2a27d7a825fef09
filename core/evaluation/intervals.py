"""Every metric with its 95 % interval.

Shares of independent rows (accuracy, precision, recall) get Wilson's score interval (Wilson 1927),
which holds where a share is near 0 or 1 and the bootstrap collapses. All else, and everything where
rows come in groups, gets the percentile interval of the bootstrap (Efron & Tibshirani 1993, 13).

Percentile and not BCa, for three reasons: its ends are values that resamples took, so it stays in the
metric's range and follows any rescaling; it is defined alike for strata and for groups, where BCa
needs an acceleration from leaving out one row, or one group, of each stratum, which few groups make
a matter of luck; and a difference that is 0 in every resample gets [0, 0] and no division by 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core import jsonio
from core.config.measure import METRICS
from core.evaluation.bootstrap import (
    LEAST_GROUPS,
    RESAMPLES,
    Judged,
    Replicates,
    bootstrap,
)
from core.evaluation.predictions import Bools, Floats
from core.rejection.intervals import share

LEVEL = 0.95
MOST_UNDEFINED = 0.05
"""Of a larger share of undefined resamples no interval is given: they could hide one of its ends."""
TOO_FEW = f"no interval: there are fewer than {LEAST_GROUPS} groups to draw from"
SAME = "the same in every resample: these rows do not show how sure it is"


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval. None is undefined, and `undefined` says why.

    `undefined_resamples` were left out; `note` says what to beware of.
    """

    value: float | None
    low: float | None
    high: float | None
    method: Literal["wilson", "bootstrap"] | None
    undefined: str | None = None
    undefined_resamples: int = 0
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The mapping that is written."""
        return jsonio.as_row(self)


def intervals(
    positive: Bools,
    judged: Sequence[Judged],
    groups: Sequence[str | None] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Interval]]:
    """For each scorer every metric with its interval, from one set of resamples."""
    found = bootstrap(positive, judged, groups, resamples=resamples, seed=seed)
    return [of_replicates(positive, j, found, i) for i, j in enumerate(judged)]


def of_replicates(positive: Bools, judged: Judged, found: Replicates, scorer: int) -> dict[str, Interval]:
    """Every metric of one scorer with its interval, from replicates that were made before."""
    out = {
        name: percentile(found.point(scorer, name), found.of(scorer, name), _why(name, judged))
        for name in found.metrics
    }
    if judged.predicted is not None and not found.clustered:
        out |= _wilson(positive, judged.predicted)
    return out


def percentile(point: float, replicates: Floats, why: str) -> Interval:
    """A value with its percentile interval; `why` is the reason where the value is NaN."""
    if np.isnan(point):
        return Interval(None, None, None, None, why)
    defined = replicates[~np.isnan(replicates)]
    missing = len(replicates) - len(defined)
    if missing > MOST_UNDEFINED * len(replicates):
        said = f"no interval: undefined in {missing} of {len(replicates)} resamples ({why})"
        said = said if len(defined) else TOO_FEW
        return Interval(point, None, None, None, None, missing, said)
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    note = SAME if low == high else None
    return Interval(point, float(low), float(high), "bootstrap", None, missing, note)


def _why(name: str, judged: Judged) -> str:
    each = METRICS.get(name)
    given = judged.predicted if each.of == "counts" else judged.probability
    return judged.lacks if given is None else each.undefined


def _wilson(positive: Bools, predicted: Bools) -> Mapping[str, Interval]:
    counted = {
        "accuracy": (predicted == positive, len(positive)),
        "recall": (predicted & positive, int(positive.sum())),
        "precision": (predicted & positive, int(predicted.sum())),
    }
    return {
        name: proportion(int(hits.sum()), total, METRICS.get(name).undefined)
        for name, (hits, total) in counted.items()
    }


def proportion(count: int, total: int, why: str = "no rows") -> Interval:
    """`count` of `total` with Wilson's interval; `why` is the reason where there are none."""
    found = share(count, total)
    if found.rate is None:
        return Interval(None, None, None, None, why)
    return Interval(found.rate, found.low, found.high, "wilson")
