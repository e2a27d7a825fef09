"""Whether one scorer is better than another on the same rows, in numbers and in words.

The interval decides: a difference is shown where its 95 % interval excludes 0. The intervals of one metric
hold together for all comparisons made in it, and `p_adjusted` is the p-value that inverts them (see
core.evaluation.simultaneous), so that interval, p-value and verdict never disagree.

A bootstrap of few rows is too sure of itself. So no p-value is smaller than that of a clean sweep in an
exact test: of the order of positives and negatives for ranking metrics; of flipped signs for all others, on
the rows where probabilities (log loss, Brier score) or predictions differ, or on groups where these are
drawn. Where even a clean sweep of all comparisons would not be significant a comparison is not testable,
and an interval that excludes 0 is withheld.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.config.measure import METRICS
from core.evaluation.bootstrap import Judged, Replicates
from core.evaluation.intervals import MOST_UNDEFINED, TOO_FEW
from core.evaluation.metrics import lower_is_better
from core.evaluation.paired import (
    ALPHA,
    McNemar,
    bootstrap_p,
    detectable,
    detectable_accuracy,
    holm,
    least_rows,
    mcnemar,
    ranking_p,
    sign_flip_p,
)
from core.evaluation.predictions import Bools, Floats
from core.evaluation.simultaneous import Family, family

DIGITS = 3
"""Of a difference in words: as many as the tables have."""
LEAST_TAIL = 10
"""Of fewer resamples beyond each end of an interval, the ends depend on which were drawn."""
CLUSTERED = "rows come in groups, which McNemar's test takes as independent: rather trust the intervals"
_MOST_DIGITS = 12
_ROUNDING = 1e-12


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
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    detectable: float | None
    undefined_resamples: int
    undefined: str | None
    verdict: str
    p_adjusted: float | None = None
    comparisons: int = 1
    untested: str | None = None
    note: str | None = None


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


@dataclass(frozen=True, slots=True)
class _Measured:
    """One metric of one comparison before the number of comparisons is known.

    `drawn` are the differences of all resamples; `p` is None where nothing can be tested, which `untested`
    explains; `fewest` is the p-value of a clean sweep, `differing` the rows that it is about.
    """

    metric: str
    value: float | None
    drawn: Floats
    p: float | None
    fewest: float
    differing: int
    undefined: str | None
    untested: str | None


def compare(
    positive: Bools, names: Sequence[str], judged: Sequence[Judged], found: Replicates, first: int = 0
) -> list[Comparison]:
    """The scorer at `first` against each other one, all of the same rows, whose replicates are `found`.

    Adjusted for all of these comparisons, metric by metric.
    """
    others = [i for i in range(len(names)) if i != first]
    pairs = [_pair(positive, names, judged, found, (first, i)) for i in others]
    measured = [
        {name: _measured(name, positive, judged, found, (first, i)) for name in found.metrics} for i in others
    ]
    by_metric = {
        name: _decided([of[name] for of in measured], found, len(positive)) for name in found.metrics
    }
    out = []
    for k, pair in enumerate(pairs):
        differences = {name: of[k] for name, of in by_metric.items()}
        said = {name: with_verdict(d, pair) for name, d in differences.items()}
        out.append(replace(pair, differences=said))
    return out


def with_verdict(difference: MetricDifference, comparison: Comparison) -> MetricDifference:
    """Return the difference with its sentence, by what `better` finds."""
    return replace(difference, verdict=_verdict(difference, comparison))


def better(difference: MetricDifference) -> bool:
    """Return whether a difference is shown: its interval excludes 0."""
    d = difference
    if d.value is None or d.low is None or d.high is None or d.untested is not None:
        return False
    return not d.low <= 0 <= d.high


def _pair(
    positive: Bools,
    names: Sequence[str],
    judged: Sequence[Judged],
    found: Replicates,
    of: tuple[int, int],
) -> Comparison:
    a, b = (judged[i] for i in of)
    exact = None
    if a.predicted is not None and b.predicted is not None:
        exact = mcnemar(a.predicted == positive, b.predicted == positive)
    return Comparison(
        a=names[of[0]],
        b=names[of[1]],
        rows=len(positive),
        mcnemar=exact,
        differing=None if exact is None else exact.discordant,
        detectable_accuracy=None if exact is None else detectable_accuracy(exact.discordant, len(positive)),
        differences={},
        note=CLUSTERED if found.clustered and exact is not None else None,
    )


def _measured(
    name: str, positive: Bools, judged: Sequence[Judged], found: Replicates, of: tuple[int, int]
) -> _Measured:
    a, b = of
    drawn = found.of(a, name) - found.of(b, name)
    point = found.point(a, name) - found.point(b, name)
    differing = _differing(name, judged[a], judged[b])
    fewest = _clean_sweep(name, positive, differing, found)
    if np.isnan(point):
        why = _lacking(name, judged, of) or _undefined(name, positive)
        return _Measured(name, None, drawn, None, fewest, differing, why, None)
    untested = _too_undefined(drawn)
    p = None if untested is not None else bootstrap_p(drawn)
    p = None if p is None else max(p, fewest)
    return _Measured(name, point, drawn, p, fewest, differing, None, untested)


def _differing(name: str, a: Judged, b: Judged) -> int:
    """Rows on which two scorers differ, in what the metric is made of."""
    of_counts = METRICS.get(name).of == "counts"
    of_a, of_b = (a.predicted, b.predicted) if of_counts else (a.probability, b.probability)
    return 0 if of_a is None or of_b is None else int((of_a != of_b).sum())


def _clean_sweep(name: str, positive: Bools, differing: int, found: Replicates) -> float:
    """The smallest p-value that an exact test of these rows, or groups, could give."""
    of_groups = sign_flip_p(found.units) if found.clustered else 0.0
    of_rows = (
        ranking_p(len(positive), int(positive.sum()))
        if METRICS.get(name).of == "ranks"
        else sign_flip_p(differing)
    )
    return max(of_rows, of_groups)


def _too_undefined(drawn: Floats) -> str | None:
    missing = int(np.isnan(drawn).sum())
    if missing == len(drawn):
        return TOO_FEW
    if missing > MOST_UNDEFINED * len(drawn):
        return f"not testable: undefined in {missing:,} of {len(drawn):,} resamples"
    return None


def _lacking(name: str, judged: Sequence[Judged], of: tuple[int, int]) -> str:
    field = "predicted" if METRICS.get(name).of == "counts" else "probability"
    return "; ".join(judged[i].lacks for i in of if getattr(judged[i], field) is None)


def _undefined(name: str, positive: Bools) -> str:
    """Why a metric of two scorers that have all it needs is undefined for one of them."""
    each = METRICS.get(name)
    if each.of == "ranks" or not len(positive):
        return f"not testable: {each.undefined}"
    return f"undefined for one of the two: {each.undefined}"


def _decided(measured: Sequence[_Measured], found: Replicates, rows: int) -> list[MetricDifference]:
    """All comparisons of one metric, adjusted for their number; those that cannot be tested do not count."""
    tested = [m for m in measured if m.p is not None]
    together = family([m.drawn for m in tested])
    by_holm = holm([m.p for m in measured])
    return [
        replace(
            _difference(m, together, len(tested), found, rows)
            if m.p is not None
            else _not_tested(m, len(tested)),
            p_holm=p,
        )
        for m, p in zip(measured, by_holm, strict=True)
    ]


def _not_tested(m: _Measured, comparisons: int) -> MetricDifference:
    return MetricDifference(
        metric=m.metric,
        value=m.value,
        low=None,
        high=None,
        p=None,
        p_holm=None,
        detectable=None,
        undefined_resamples=0 if m.value is None else int(np.isnan(m.drawn).sum()),
        undefined=m.undefined,
        verdict="",
        comparisons=comparisons,
        untested=m.untested,
    )


def _difference(
    m: _Measured, together: Family, comparisons: int, found: Replicates, rows: int
) -> MetricDifference:
    d, ends = _not_tested(m, comparisons), together.interval(m.drawn)
    if ends is None:
        why = f"not testable: {found.resamples:,} resamples are too few for {comparisons} comparisons"
        return replace(d, p=m.p, p_adjusted=1.0, untested=why)
    least = min(1.0, comparisons * m.fewest)
    hopeless = least > ALPHA + _ROUNDING
    if hopeless and not ends[0] <= 0 <= ends[1]:
        ends = (
            None  # the exact test cannot exclude 0, so an interval of the bootstrap that does is too narrow
        )
    low, high = ends or (None, None)
    return replace(
        d,
        low=low,
        high=high,
        p=m.p,
        p_adjusted=max(together.p_value(m.drawn), least),
        # Of predictions, other rows might differ on more labels; of probabilities, no rows differ on more.
        detectable=None
        if hopeless and METRICS.get(m.metric).of != "counts"
        else detectable(m.drawn, together.level),
        untested=_hopeless(m, comparisons, found, rows) if hopeless else None,
        note=None if ends is None else _rough(together, comparisons),
    )


def _hopeless(m: _Measured, comparisons: int, found: Replicates, rows: int) -> str:
    """Why even a clean sweep would not be significant."""
    least = least_rows(comparisons)
    if found.clustered and found.units < least:
        return f"not testable: there are {found.units} groups, and fewer than {least} show nothing"
    kind = METRICS.get(m.metric).of
    if kind == "ranks":
        return f"not testable: {rows} rows are too few, of these classes, for a ranking to show anything"
    rows_of = f"{m.differing} {'row' if m.differing == 1 else 'rows'}"
    on = f"differ on {rows_of}, and fewer than {least} show nothing"
    return f"their labels {on}" if kind == "counts" else f"not testable: their probabilities {on}"


def _rough(together: Family, comparisons: int) -> str | None:
    """What to say of an interval whose ends rest on a handful of resamples."""
    if together.rank >= LEAST_TAIL:
        return None
    return (
        f"the ends of the interval are rough, {together.rank} of {together.resamples:,} resamples lie at or "
        f"beyond each for {comparisons} comparisons"
    )


def _verdict(d: MetricDifference, c: Comparison) -> str:
    name = METRICS.get(d.metric).title
    if d.value is None:
        return f"{name}: not compared, {d.undefined}."
    note = "" if d.note is None else f"; {d.note}"
    if better(d):
        a_wins = (d.value > 0) != lower_is_better(d.metric)
        winner, loser = (c.a, c.b) if a_wins else (c.b, c.a)
        return f"{winner} is better than {loser} by {_span(d, 1 if a_wins else -1, name)}{note}."
    why = "" if d.untested is None else f"; {d.untested}"
    return f"no difference shown between {c.a} and {c.b} in {name}: {_span(d, 1, '')}{why}{note}."


def _span(d: MetricDifference, sign: int, name: str) -> str:
    """The difference, turned round where `sign` is -1, with its interval."""
    value = f"{signed_end(sign * (d.value or 0.0))} {name}".rstrip()
    if d.low is None or d.high is None:
        return value
    low, high = sorted((sign * d.low, sign * d.high))
    return f"{value} (95 % interval {signed_end(low)} to {signed_end(high)})"


def signed_end(value: float) -> str:
    """Return a difference with its sign and three decimals, or as many as show that it is not 0."""
    shown = (f"{value or 0.0:+.{digits}f}" for digits in range(DIGITS, _MOST_DIGITS))
    return next((s for s in shown if value == 0 or float(s) != 0), f"{0.0:+.{DIGITS}f}")
