"""Whether one scorer is better than another on the same rows, in numbers and in words.

A difference is shown where the paired bootstrap's p-value, adjusted after Holm for all comparisons made
of that metric, is below 5 % and the 95 % interval excludes 0. Of predictions at a threshold the two must
also differ on at least six rows: with fewer not even a clean sweep is significant in an exact test
(2 / 2^5 is above 5 %), and a bootstrap of so few rows is too sure of itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core import jsonio
from core.evaluation.bootstrap import METRICS, OF_PROBABILITIES, Judged, Replicates
from core.evaluation.columns import Bools
from core.evaluation.counted import OF_COUNTS
from core.evaluation.intervals import percentile
from core.evaluation.metrics import NAMES, SMALLER_IS_BETTER
from core.evaluation.paired import (
    ALPHA,
    McNemar,
    bootstrap_p,
    detectable,
    detectable_accuracy,
    holm,
    mcnemar,
)

DIGITS = 3
"""Of a difference in words: as many as the tables have."""
LEAST_DIFFERING = 6
CLUSTERED = "rows come in groups, which McNemar's test takes as independent: rather trust the intervals"


@dataclass(frozen=True, slots=True)
class MetricDifference:
    """One metric of A minus that of B, with its 95 % interval from the paired bootstrap.

    `p` is adjusted after Holm in `p_holm`; `detectable` is the smallest difference that these rows show
    with 80 % power. None is undefined, and `undefined` says why. `verdict` is a sentence.
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    detectable: float | None
    undefined_resamples: int
    undefined: str | None
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """The mapping that is written."""
        return jsonio.as_row(self)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two scorers on the same rows. McNemar's test is None where one of them predicts nothing.

    `differing` rows are predicted otherwise; `detectable_accuracy` is McNemar's smallest difference.
    """

    a: str
    b: str
    rows: int
    mcnemar: McNemar | None
    differing: int | None
    detectable_accuracy: float | None
    differences: Mapping[str, MetricDifference]
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The mapping that is written."""
        return {
            **jsonio.as_row(self),
            "mcnemar": None if self.mcnemar is None else self.mcnemar.to_json(),
            "differences": {name: d.to_json() for name, d in self.differences.items()},
        }


def compare(
    positive: Bools, names: Sequence[str], judged: Sequence[Judged], found: Replicates, first: int = 0
) -> list[Comparison]:
    """The scorer at `first` against each other one, all of the same rows, whose replicates are `found`.

    Adjusted for all of these comparisons, metric by metric.
    """
    others = [i for i in range(len(names)) if i != first]
    made = [_pair(positive, names, judged, found, (first, i)) for i in others]
    return _adjusted(made)


def better(difference: MetricDifference, differing: int | None) -> bool:
    """Whether a difference is shown; see above."""
    d = difference
    if d.value is None or d.low is None or d.high is None or d.p_holm is None:
        return False
    if d.metric in OF_COUNTS and (differing or 0) < LEAST_DIFFERING:
        return False
    return d.p_holm < ALPHA and not d.low <= 0 <= d.high


def _pair(
    positive: Bools,
    names: Sequence[str],
    judged: Sequence[Judged],
    found: Replicates,
    of: tuple[int, int],
) -> Comparison:
    a, b = (judged[i] for i in of)
    least = least_p(len(positive), int(positive.sum()))
    exact, differing = None, None
    if a.predicted is not None and b.predicted is not None:
        exact = mcnemar(a.predicted == positive, b.predicted == positive)
        differing = exact.discordant
    return Comparison(
        a=names[of[0]],
        b=names[of[1]],
        rows=len(positive),
        mcnemar=exact,
        differing=differing,
        detectable_accuracy=None if exact is None else detectable_accuracy(exact.discordant, len(positive)),
        differences={name: _difference(name, judged, found, of, least) for name in METRICS},
        note=CLUSTERED if found.clustered and exact is not None else None,
    )


def least_p(rows: int, positive: int) -> float:
    """The smallest p that an exact two-sided test of a ranking can give on so many rows.

    Of four rows, two of them positive, even a clean sweep is one of six orders; a bootstrap of so few is
    too sure of itself.
    """
    return min(1.0, 2 / math.comb(rows, positive))


def _difference(
    name: str, judged: Sequence[Judged], found: Replicates, of: tuple[int, int], least: float
) -> MetricDifference:
    a, b = of
    drawn = found.of(a, name) - found.of(b, name)
    point = found.point(a, name) - found.point(b, name)
    i = percentile(point, drawn, _lacking(name, judged, of) or "undefined for one of the two")
    p = None if i.value is None else bootstrap_p(drawn)
    if p is not None and name in OF_PROBABILITIES:
        p = max(p, least)
    spread = None if i.value is None else detectable(drawn)
    return MetricDifference(
        name, i.value, i.low, i.high, p, None, spread, i.undefined_resamples, i.undefined, ""
    )


def _lacking(name: str, judged: Sequence[Judged], of: tuple[int, int]) -> str:
    field = "probability" if name in OF_PROBABILITIES else "predicted"
    return "; ".join(judged[i].lacks for i in of if getattr(judged[i], field) is None)


def _adjusted(made: Sequence[Comparison]) -> list[Comparison]:
    by_metric = {name: holm([c.differences[name].p for c in made]) for name in METRICS}
    out = []
    for k, c in enumerate(made):
        adjusted = {n: replace(d, p_holm=by_metric[n][k]) for n, d in c.differences.items()}
        said = {n: replace(d, verdict=_verdict(d, c)) for n, d in adjusted.items()}
        out.append(replace(c, differences=said))
    return out


def _verdict(d: MetricDifference, c: Comparison) -> str:
    name = NAMES[d.metric]
    if d.value is None:
        return f"{name}: not compared, {d.undefined}."
    if better(d, c.differing):
        a_wins = (d.value > 0) != (d.metric in SMALLER_IS_BETTER)
        winner, loser = (c.a, c.b) if a_wins else (c.b, c.a)
        return f"{winner} is better than {loser} by {_span(d, 1 if a_wins else -1, name)}."
    why = ""
    if d.metric in OF_COUNTS and (c.differing or 0) < LEAST_DIFFERING:
        why = f"; their labels differ on {c.differing} rows, and fewer than {LEAST_DIFFERING} show nothing"
    return f"no difference shown between {c.a} and {c.b} in {name}: {_span(d, 1, '')}{why}."


def _span(d: MetricDifference, sign: int, name: str) -> str:
    """The difference, turned round where `sign` is -1, with its interval."""
    value = f"{sign * (d.value or 0.0):+.{DIGITS}f} {name}".rstrip()
    if d.low is None or d.high is None:
        return value
    low, high = sorted((sign * d.low, sign * d.high))
    return f"{value} (95 % interval {low:+.{DIGITS}f} to {high:+.{DIGITS}f})"
