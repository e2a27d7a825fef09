"""Bootstrap replicates of every metric at once, for any number of scorers on the same rows.

Rows are drawn with replacement inside each gold class (stratified: Davison & Hinkley 1997, Bootstrap Methods
and their Application, 3.2). Where rows come in groups, whole groups are drawn (the cluster bootstrap: Field &
Welsh 2007, JRSS B 69, 369-390), inside three strata: groups of positives, of negatives, and of both.

A resample is a weight for each row, the times it was drawn: sums are products with these weights, and ranks
are cumulative sums over rows sorted once. All scorers see the same resamples, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from core.config import METRICS
from core.evaluation.metrics import Counts, RankedRows, Ranks, Weights, ratio
from core.evaluation.predictions import Bools, Floats, Ints, Predictions, at_or_above
from core.intervals import LEAST_GROUPS, Interval, percentile, proportion

RESAMPLES = 10_000
_CELLS = 1 << 16
"""Weights held at once: 256 kB, so that a block stays in the processor's cache. It decides which
random numbers make which resample, so another value gives other intervals, within their noise."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One scorer's rows: probabilities for ranking, and predictions at its threshold.

    Either may be missing, as a teacher's probabilities are, for the reason in `lacks`.
    """

    probability: Floats | None
    predicted: Bools | None
    lacks: str = ""

    @staticmethod
    def of(p: Predictions, threshold: float | None, lacks: str = "") -> Judged:
        return Judged(p.ranking, None if threshold is None else at_or_above(p.probability, threshold), lacks)

    def take(self, rows: Bools) -> Judged:
        p, predicted = self.probability, self.predicted
        return Judged(
            None if p is None else p[rows], None if predicted is None else predicted[rows], self.lacks
        )

    def basis(self, metric: str) -> Floats | Bools | None:
        """Return what a metric is computed from: predictions or probabilities; None if missing."""
        return self.predicted if METRICS.get(metric).of == "counts" else self.probability


@dataclass(frozen=True, slots=True)
class ResamplingUnits:
    """What is drawn. Units are numbered stratum after stratum; `sizes` are the strata's.

    `of_positive` and `of_negative` name the unit of each row of a class, in the order of rows.
    """

    sizes: tuple[int, ...]
    of_positive: Ints
    of_negative: Ints
    clustered: bool

    @property
    def count(self) -> int:
        return sum(self.sizes)

    @property
    def too_few(self) -> bool:
        """Whether there are too few groups for resamples to show how sure a value is."""
        return self.clustered and self.count < LEAST_GROUPS


@dataclass(frozen=True, slots=True)
class Replicates:
    """`values[scorer, metric, resample]`, NaN where undefined; `points` the same of the rows themselves;
    `metrics` the metrics in their order; `units` the number of rows or groups that were drawn from."""

    metrics: tuple[str, ...]
    values: Floats
    points: Floats
    clustered: bool
    units: int

    @property
    def resamples(self) -> int:
        return int(self.values.shape[2])

    def of(self, scorer: int, metric: str) -> Floats:
        return np.asarray(self.values[scorer, self.metrics.index(metric)])

    def point(self, scorer: int, metric: str) -> float:
        return float(self.points[scorer, self.metrics.index(metric)])


def intervals(
    positive: Bools,
    judged: Sequence[Judged],
    groups: Sequence[str | None] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Interval]]:
    """Return every metric of each scorer with its interval, from one set of resamples."""
    found = bootstrap(positive, judged, groups, resamples=resamples, seed=seed)
    return [intervals_of(positive, j, found, i) for i, j in enumerate(judged)]


def intervals_of(positive: Bools, judged: Judged, found: Replicates, scorer: int) -> dict[str, Interval]:
    """Return every metric of one scorer with its interval, from given replicates.

    Shares of independent rows have Wilson's, which holds near 0 and 1, where the bootstrap collapses.
    """
    out = {}
    for name in found.metrics:
        why = judged.lacks if judged.basis(name) is None else METRICS.get(name).undefined
        out[name] = percentile(found.point(scorer, name), found.of(scorer, name), why)
    predicted = judged.predicted
    if predicted is not None and not found.clustered:
        right = predicted & positive
        for name, hits, of in (
            ("accuracy", predicted == positive, np.ones_like(positive)),
            ("recall", right, positive),
            ("precision", right, predicted),
        ):
            out[name] = proportion(int(hits.sum()), int(of.sum()), METRICS.get(name).undefined)
    return out


def bootstrap(
    positive: Bools,
    judged: Sequence[Judged],
    groups: Sequence[str | None] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Replicates:
    """Return every metric of every scorer in every resample; of fewer than LEAST_GROUPS groups all are NaN.

    `groups` names each row's group, None for a row without one. Equal arguments draw the same rows on every
    machine. Memory does not grow with rows times resamples.
    """
    scorers = [_Scorer(positive, j) for j in judged]
    drawn = units_of(positive, groups)
    sums = [np.empty((s.count, resamples)) for s in scorers]
    sizes = np.empty((2, resamples))
    for start, up, down in weights(drawn, resamples, seed):
        block = slice(start, start + len(up))
        sizes[:, block] = up.sum(axis=1), down.sum(axis=1)
        for of, scorer in zip(sums, scorers, strict=True):
            of[:, block] = scorer.sums(up, down)
    values = np.array([s.metrics(of, *sizes) for s, of in zip(scorers, sums, strict=True)])
    if drawn.too_few:
        values = np.full_like(values, np.nan)
    metrics = tuple(METRICS)
    shape = len(judged), len(metrics)
    points = np.array([s.point() for s in scorers]).reshape(shape)
    return Replicates(metrics, values.reshape(*shape, resamples), points, drawn.clustered, drawn.count)


def units_of(positive: Bools, groups: Sequence[str | None] | None) -> ResamplingUnits:
    """Return rows as units by class; or, if any row has a group, groups by the classes they contain."""
    n_up, n_down = int(positive.sum()), int((~positive).sum())
    if groups is None or all(g is None for g in groups):
        return ResamplingUnits((n_up, n_down), np.arange(n_up), n_up + np.arange(n_down), clustered=False)
    if len(groups) != len(positive):
        raise ValueError(f"{len(groups)} groups for {len(positive)} rows")
    numbers: dict[str | int, int] = {}
    own = (i if g is None else g for i, g in enumerate(groups))
    of_row = np.array([numbers.setdefault(name, len(numbers)) for name in own])
    ups = np.bincount(of_row[positive], minlength=len(numbers)) > 0
    downs = np.bincount(of_row[~positive], minlength=len(numbers)) > 0
    stratum = np.where(ups & downs, 2, np.where(ups, 0, 1))
    number = np.empty(len(numbers), dtype=np.int64)
    number[np.argsort(stratum, kind="stable")] = np.arange(len(numbers))
    sizes = tuple(int(k) for k in np.bincount(stratum, minlength=3))
    return ResamplingUnits(sizes, number[of_row[positive]], number[of_row[~positive]], clustered=True)


def weights(units: ResamplingUnits, resamples: int, seed: int) -> Iterator[tuple[int, Weights, Weights]]:
    """Yield blocks of resamples: the first one's number, and the weights of positive and negative rows."""
    from scipy.sparse import csr_array

    rng = np.random.Generator(np.random.SFC64(seed))
    block = max(1, _CELLS // max(1, units.count))
    for start in range(0, resamples, block):
        many, parts = min(block, resamples - start), list[Weights]()
        for (
            size
        ) in units.sizes:  # how often each unit of a stratum was drawn, in as many draws as it has units
            drawn = rng.integers(0, max(1, size), size=many * size, dtype=np.int32)
            rows, ones = np.arange(many + 1, dtype=np.int32) * size, np.ones(many * size, np.int32)
            # Densifying a sparse array of ones adds those of one place: a bincount without its wide integers.
            parts.append(csr_array((ones, drawn, rows), shape=(many, size)).toarray())
        if not units.clustered:
            yield start, parts[0], parts[1]
        else:
            counts = np.concatenate(parts, axis=1)
            yield start, counts.take(units.of_positive, axis=1), counts.take(units.of_negative, axis=1)


class _Scorer:
    """One scorer's rows, sorted once; everything that follows from what it lacks is NaN.

    The sums of a resample are true and false positives, each metric of probabilities, and two of ranks.
    """

    def __init__(self, positive: Bools, judged: Judged) -> None:
        nothing, zero = np.full(len(positive), np.nan), np.zeros(len(positive))
        predicted = nothing if judged.predicted is None else judged.predicted.astype(np.float64)
        p = nothing if judged.probability is None else judged.probability
        of_rows = [m.function for _, m in METRICS.items() if m.of == "probabilities"]
        # Such a metric treats both classes alike, so that a row is one of the positive class with P(gold).
        all_ = np.ones(len(positive), dtype=np.bool_)
        self.up = np.stack([predicted, zero, *(of(all_, p) for of in of_rows)], axis=1)[positive]
        self.down = np.stack([zero, predicted, *(of(all_, 1 - p) for of in of_rows)], axis=1)[~positive]
        self.ranks = None if judged.probability is None else RankedRows(p[positive], p[~positive])
        self.count = self.up.shape[1] + 2

    def sums(self, up: Weights, down: Weights) -> Floats:
        """Return the sums by resample, from the weights of positive and negative rows."""
        out = np.full((self.count, len(up)), np.nan)
        out[:-2] = (up @ self.up + down @ self.down).T
        if self.ranks is not None:
            out[-2:] = self.ranks.sums(up, down)
        return out

    def metrics(self, sums: Floats, ups: Floats, downs: Floats) -> Floats:
        """Return all metrics by resample, in registry order, from the sums and the classes' sizes."""
        tp, fp, *of_rows, disorder, precise = sums
        counts, ranks = Counts.of(tp, fp, ups, downs), Ranks.of(disorder, precise, ups, downs)
        means = iter([ratio(each, ups + downs) for each in of_rows])
        found = []
        for _, metric in METRICS.items():
            if metric.of == "probabilities":
                found.append(next(means))
            else:
                found.append(metric.function(counts if metric.of == "counts" else ranks))
        return np.array(found)

    def point(self) -> Floats:
        """Return the metrics of the rows themselves."""
        one = [np.ones((1, len(rows)), dtype=np.int32) for rows in (self.up, self.down)]
        return self.metrics(self.sums(*one), *(np.array([float(w.size)]) for w in one))[:, 0]
