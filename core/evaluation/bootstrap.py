"""Bootstrap replicates of every metric at once, of any number of scorers on the same rows.

Rows are drawn with replacement inside each gold class, so that every resample has the classes'
sizes (stratified: Davison & Hinkley 1997, Bootstrap Methods and their Application, 3.2). Where rows
come in groups, whole groups are drawn (the cluster bootstrap: Field & Welsh 2007, JRSS B 69,
369-390), inside three strata: groups of positives, of negatives, and of both.

A resample is never put together: it is a weight for each row, the times it was drawn. Sums are
products with these weights, and ranks are cumulative sums over rows sorted once. All scorers see
the same resamples, so that the difference of two replicates is that of a paired bootstrap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.config.measure import METRICS
from core.evaluation.metrics import Counts, ratio
from core.evaluation.predictions import Bools, Floats, Predictions, at_or_above
from core.evaluation.ranks import RankedRows, Ranks, Weights

RESAMPLES = 10_000

LEAST_GROUPS = 6
"""Of fewer groups nothing is drawn: there are so few resamples that all may agree by chance, and not even
a clean sweep of five is significant (2 / 2^5 is above 5 %)."""

_CELLS = 1 << 16
"""Weights held at once: 256 kB, so that a block stays in the processor's cache. It decides which
random numbers make which resample, so another value gives other intervals, within their noise."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Judged:
    """What one scorer says of the rows: probabilities for ranking, and predictions at its threshold.

    Either may be missing (a teacher gives labels only; a threshold may be out of reach), `lacks`
    then says why.
    """

    probability: Floats | None
    predicted: Bools | None
    lacks: str = ""

    @staticmethod
    def of(p: Predictions, threshold: float | None, lacks: str = "") -> Judged:
        """A scorer's calibrated predictions at its threshold; without one `lacks` says why."""
        return Judged(p.ranking, None if threshold is None else at_or_above(p.probability, threshold), lacks)


@dataclass(frozen=True, slots=True)
class Units:
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
        """Whether resamples of these groups would be sure of what they do not show."""
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
        """One metric of one scorer, in all resamples."""
        out: Floats = self.values[scorer, self.metrics.index(metric)]
        return out

    def point(self, scorer: int, metric: str) -> float:
        """One metric of one scorer on the rows themselves; NaN where it is undefined."""
        return float(self.points[scorer, self.metrics.index(metric)])


def bootstrap(
    positive: Bools,
    judged: Sequence[Judged],
    groups: Sequence[str | None] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Replicates:
    """Every metric of every scorer in every resample. Memory does not grow with rows times resamples.
    Of fewer than LEAST_GROUPS groups every replicate is NaN.

    `groups` names each row's group, None for a row that stands alone. Equal arguments draw the same
    rows on every machine.
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
    points = [s.point() for s in scorers]
    metrics = tuple(METRICS)
    shape = len(judged), len(metrics)
    return Replicates(
        metrics,
        values.reshape(*shape, resamples),
        np.array(points).reshape(shape),
        drawn.clustered,
        drawn.count,
    )


def units_of(positive: Bools, groups: Sequence[str | None] | None) -> Units:
    """Rows as units by class; or, where any row has a group, groups by which classes they hold."""
    n_up, n_down = int(positive.sum()), int((~positive).sum())
    if groups is None or all(g is None for g in groups):
        return Units((n_up, n_down), np.arange(n_up), n_up + np.arange(n_down), clustered=False)
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
    return Units(sizes, number[of_row[positive]], number[of_row[~positive]], clustered=True)


def weights(units: Units, resamples: int, seed: int) -> Iterator[tuple[int, Weights, Weights]]:
    """Blocks of resamples: the first one's number, and the weights of positive and negative rows."""
    rng = np.random.Generator(np.random.SFC64(seed))
    block = max(1, _CELLS // max(1, units.count))
    for start in range(0, resamples, block):
        parts = [_drawn(rng, min(block, resamples - start), size) for size in units.sizes]
        if not units.clustered:
            yield start, parts[0], parts[1]
        else:
            counts = np.concatenate(parts, axis=1)
            yield start, counts.take(units.of_positive, axis=1), counts.take(units.of_negative, axis=1)


def _drawn(rng: np.random.Generator, many: int, size: int) -> Weights:
    """How often each of `size` units was drawn in `size` draws, `many` times."""
    if size == 0:
        return np.zeros((many, 0), dtype=np.int32)
    from scipy.sparse import csr_array

    drawn = rng.integers(0, size, size=many * size, dtype=np.int32)
    rows = np.arange(many + 1, dtype=np.int32) * size
    # A dense form of ones adds those that fall on one place: a bincount without its wide integers.
    counts: Weights = csr_array((np.ones(len(drawn), np.int32), drawn, rows), shape=(many, size)).toarray()
    return counts


class _Scorer:
    """One scorer's rows, sorted once; what it lacks is NaN in all that follows from it.

    Sums of a resample are, in this order: true and false positives, the sum over rows of each metric of
    probabilities, and the two sums of ranks.
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
        """The sums by resample, from the weights of positive and negative rows."""
        out = np.full((self.count, len(up)), np.nan)
        out[:-2] = (up @ self.up + down @ self.down).T
        if self.ranks is not None:
            out[-2:] = self.ranks.sums(up, down)
        return out

    def metrics(self, sums: Floats, ups: Floats, downs: Floats) -> Floats:
        """All metrics by resample, in the order of their registry, from the sums and the classes' sizes."""
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
        """The metrics of the rows themselves."""
        one = [np.ones((1, len(rows)), dtype=np.int32) for rows in (self.up, self.down)]
        return self.metrics(self.sums(*one), *(np.array([float(w.size)]) for w in one))[:, 0]
