"""Comparisons of scorers on the same rows, in numbers and in words.

A difference is shown where its 95 % interval excludes 0. A bootstrap of few rows is overconfident, so no
p-value is smaller than that of a clean sweep in an exact test: of the order of rows for ranking metrics; of
flipped signs for all others, on the rows (or groups) where the two differ. Where even a clean sweep would not
be significant a comparison is not testable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.config import METRICS
from core.evaluation.bootstrap import Judged, Replicates
from core.evaluation.metrics import lower_is_better
from core.evaluation.predictions import Bools, Floats
from core.intervals import (
    ALPHA,
    MOST_UNDEFINED,
    ROUNDING,
    TOO_FEW,
    Family,
    McNemar,
    bootstrap_p,
    detectable,
    detectable_accuracy,
    holm,
    least_rows,
    mcnemar,
    sign_flip_p,
)

DIGITS = 3
"""Decimals of a difference in words, as in the tables."""
LEAST_TAIL = 10
"""With fewer resamples beyond each end of an interval, the ends depend on which were drawn."""
CLUSTERED = "rows come in groups, which McNemar's test takes as independent: rather trust the intervals"


@dataclass(frozen=True, slots=True)
class MetricDifference:
    """One metric of A minus that of B, with its 95 % interval, which holds for all `comparisons` together.

    `p` is the p-value of this comparison alone, `p_adjusted` the one that agrees with the interval, and
    `p_holm` Holm's, which decides nothing: it ignores how comparisons depend on each other. `detectable` is
    the smallest difference that these rows show with 80 % power. None is undefined: `undefined` gives the
    reason for `value`, `untested` for a missing interval or a comparison that these rows cannot decide;
    `note` is a limit of the interval. `verdict` is a sentence.
    """

    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    detectable: float | None = None
    undefined_resamples: int = 0
    undefined: str | None = None
    verdict: str = ""
    p_adjusted: float | None = None
    comparisons: int = 1
    untested: str | None = None
    note: str | None = None

    @property
    def shown(self) -> bool:
        """Whether the interval excludes 0."""
        if self.low is None or self.high is None or self.untested is not None:
            return False
        return not self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two scorers on the same rows; McNemar's test, `differing`, the rows that one has right and the other
    wrong, and `detectable_accuracy`, its smallest difference, are None where one predicts nothing."""

    a: str
    b: str
    rows: int
    mcnemar: McNemar | None
    differing: int | None
    detectable_accuracy: float | None
    differences: Mapping[str, MetricDifference]
    note: str | None = None


def compare(
    positive: Bools, names: Sequence[str], judged: Sequence[Judged], found: Replicates
) -> list[Comparison]:
    """Compare the first scorer with each other one on the same rows, whose replicates are `found`.

    Intervals and p-values are adjusted for all of these comparisons, metric by metric.
    """
    by_metric = {name: _differences(name, positive, judged, found) for name in found.metrics}
    out = []
    for i, other in enumerate(names[1:]):
        of_a, of_b, test = judged[0].predicted, judged[i + 1].predicted, None
        if of_a is not None and of_b is not None:
            test = mcnemar(of_a == positive, of_b == positive)
        compared = Comparison(
            a=names[0],
            b=other,
            rows=len(positive),
            mcnemar=test,
            differing=None if test is None else test.discordant,
            detectable_accuracy=None if test is None else detectable_accuracy(test.discordant, len(positive)),
            differences={name: with_verdict(of[i], names[0], other) for name, of in by_metric.items()},
            note=CLUSTERED if test is not None and found.clustered else None,
        )
        out.append(compared)
    return out


def with_verdict(difference: MetricDifference, a: str, b: str) -> MetricDifference:
    """Return the difference of scorers `a` and `b` with its sentence, by whether it is shown."""
    d, name = difference, METRICS.get(difference.metric).title
    if d.value is None:
        return replace(d, verdict=f"{name}: not compared, {d.undefined}.")
    note = "" if d.note is None else f"; {d.note}"
    if d.shown:
        a_wins = (d.value > 0) != lower_is_better(d.metric)
        winner, loser = (a, b) if a_wins else (b, a)
        by = f"{_span(d, 1 if a_wins else -1, f' {name}')}{note}"
        return replace(d, verdict=f"{winner} is better than {loser} by {by}.")
    why = "" if d.untested is None else f"; {d.untested}"
    found = f"{_span(d, 1, '')}{why}{note}"
    return replace(d, verdict=f"no difference shown between {a} and {b} in {name}: {found}.")


def signed_end(value: float) -> str:
    """Return a difference with its sign and three decimals, or as many as show that it is not 0."""
    shown = (f"{value or 0.0:+.{digits}f}" for digits in range(DIGITS, 12))
    return next((s for s in shown if value == 0 or float(s) != 0), f"{0.0:+.{DIGITS}f}")


def _span(d: MetricDifference, sign: int, unit: str) -> str:
    """Return the difference, negated where `sign` is -1, with its unit and interval."""
    value = f"{signed_end(sign * (d.value or 0.0))}{unit}"
    if d.low is None or d.high is None:
        return value
    low, high = sorted((sign * d.low, sign * d.high))
    return f"{value} (95 % interval {signed_end(low)} to {signed_end(high)})"


@dataclass(frozen=True, slots=True)
class _Pair:
    """Replicates of a difference, the rows on which the two differ, and the p-value of a clean sweep."""

    drawn: Floats
    differing: int
    sweep: float


def _differences(
    name: str, positive: Bools, judged: Sequence[Judged], found: Replicates
) -> list[MetricDifference]:
    """Return one metric's differences, adjusted for the number of those that can be tested."""
    measured = [_measure(name, positive, judged, found, i) for i in range(1, len(judged))]
    tested = [pair.drawn for d, pair in measured if d.p is not None]
    family, adjusted = Family.of(tested), holm([d.p for d, _ in measured])
    out = []
    for (d, pair), p_holm in zip(measured, adjusted, strict=True):
        d = replace(d, p_holm=p_holm, comparisons=len(tested))
        out.append(d if d.p is None else _with_interval(d, pair, family, found, len(positive)))
    return out


def _measure(
    name: str, positive: Bools, judged: Sequence[Judged], found: Replicates, other: int
) -> tuple[MetricDifference, _Pair]:
    """Measure one metric of the first scorer against another one."""
    metric, rows = METRICS.get(name), len(positive)
    drawn = found.of(0, name) - found.of(other, name)
    value = found.point(0, name) - found.point(other, name)
    of_a, of_b = judged[0].basis(name), judged[other].basis(name)
    differing = 0 if of_a is None or of_b is None else int((of_a != of_b).sum())
    ranks = metric.of == "ranks"
    # A clean sweep of a ranking is one order of all: of two positive rows among four, one of six.
    sweep = min(1.0, 2 / math.comb(rows, int(positive.sum()))) if ranks else sign_flip_p(differing)
    sweep = max(sweep, sign_flip_p(found.units) if found.clustered else 0.0)
    pair = _Pair(drawn, differing, sweep)
    if np.isnan(value):
        lacking = [j.lacks for j in (judged[0], judged[other]) if j.basis(name) is None]
        one = "not testable" if ranks or not rows else "undefined for one of the two"
        why = "; ".join(lacking) or f"{one}: {metric.undefined}"
        return MetricDifference(name, None, undefined=why), pair
    p, untested = None, None
    missing = int(np.isnan(drawn).sum())
    if missing == len(drawn):
        untested = TOO_FEW
    elif missing > MOST_UNDEFINED * len(drawn):
        untested = f"not testable: undefined in {missing:,} of {len(drawn):,} resamples"
    else:
        p = max(bootstrap_p(drawn) or 0.0, sweep)
    return MetricDifference(name, value, p=p, undefined_resamples=missing, untested=untested), pair


def _with_interval(
    d: MetricDifference, pair: _Pair, family: Family, found: Replicates, rows: int
) -> MetricDifference:
    """Return a difference with its interval and adjusted p-value."""
    ends = family.interval(pair.drawn)
    if ends is None:
        why = f"not testable: {found.resamples:,} resamples are too few for {d.comparisons} comparisons"
        return replace(d, p_adjusted=1.0, untested=why)
    least = min(1.0, d.comparisons * pair.sweep)
    untestable = least > ALPHA + ROUNDING
    if untestable and not ends[0] <= 0 <= ends[1]:
        ends = None  # too narrow: the exact test cannot exclude 0
    low, high = ends or (None, None)
    note = None
    if ends is not None and family.rank < LEAST_TAIL:
        note = (
            f"the ends of the interval are rough, {family.rank} of {family.resamples:,} resamples lie at "
            f"or beyond each for {d.comparisons} comparisons"
        )
    # Of predictions, other rows might differ on more labels; of probabilities, no rows differ on more.
    by_rows = untestable and METRICS.get(d.metric).of != "counts"
    return replace(
        d,
        low=low,
        high=high,
        p_adjusted=max(family.p_value(pair.drawn), least),
        detectable=None if by_rows else detectable(pair.drawn, family.level),
        untested=_why_untestable(d, pair.differing, found, rows) if untestable else None,
        note=note,
    )


def _why_untestable(d: MetricDifference, differing: int, found: Replicates, rows: int) -> str:
    """Return why even a clean sweep would not be significant."""
    least, kind = least_rows(d.comparisons), METRICS.get(d.metric).of
    if found.clustered and found.units < least:
        return f"not testable: there are {found.units} groups, and fewer than {least} show nothing"
    if kind == "ranks":
        return f"not testable: {rows} rows are too few, of these classes, for a ranking to show anything"
    on = f"differ on {differing} {'row' if differing == 1 else 'rows'}, and fewer than {least} show nothing"
    return f"their labels {on}" if kind == "counts" else f"not testable: their probabilities {on}"
