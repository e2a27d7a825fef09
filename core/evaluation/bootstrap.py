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

from core.evaluation.columns import Bools, Columns, Floats
from core.evaluation.counted import OF_COUNTS, Counts, ratio
from core.evaluation.metrics import CLIP

RESAMPLES = 10_000
OF_RANKS = ("auroc", "auprc")
OF_PROBABILITIES = (*OF_RANKS, "log_loss", "brier")
METRICS = (*OF_COUNTS, *OF_PROBABILITIES)

LEAST_GROUPS = 6
"""Of fewer groups nothing is drawn: there are so few resamples that all may agree by chance, and not even
a clean sweep of five is significant (2 / 2^5 is above 5 %)."""

_CELLS = 1 << 16
"""Weights held at once: 256 kB, so that a block stays in the processor's cache. It decides which
random numbers make which resample, so another value gives other intervals, within their noise."""

Weights = NDArray[np.int32]
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
    def of(c: Columns, threshold: float | None, lacks: str = "") -> Judged:
        """A scorer's rows at its threshold; None predicts nothing, and `lacks` says why."""
        return Judged(c.ranking, None if threshold is None else c.predicted(threshold), lacks)


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
    """`values[scorer, metric, resample]` in the order of METRICS, NaN where undefined; `points`
    the same of the rows themselves; `units` the rows or groups that were drawn from."""

    values: Floats
    points: Floats
    clustered: bool
    units: int

    @property
    def resamples(self) -> int:
        return int(self.values.shape[2])

    def of(self, scorer: int, metric: str) -> Floats:
        """One metric of one scorer, in all resamples."""
        out: Floats = self.values[scorer, METRICS.index(metric)]
        return out

    def point(self, scorer: int, metric: str) -> float:
        """One metric of one scorer on the rows themselves; NaN where it is undefined."""
        return float(self.points[scorer, METRICS.index(metric)])


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
    sums = np.empty((len(judged), _SUMS, resamples))
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
    shape = len(judged), len(METRICS)
    return Replicates(
        values.reshape(*shape, resamples), np.array(points).reshape(shape), drawn.clustered, drawn.count
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


_SUMS = 6
"""What is summed of a scorer in a resample: true and false positives, log loss, Brier score, pairs of
a positive and a negative in the wrong order counted twice, and precision at each positive."""


class _Scorer:
    """One scorer's rows, sorted once. What it lacks is NaN in all that follows from it."""

    def __init__(self, positive: Bools, judged: Judged) -> None:
        nothing, zero = np.full(len(positive), np.nan), np.zeros(len(positive))
        says = nothing if judged.predicted is None else judged.predicted.astype(np.float64)
        p = nothing if judged.probability is None else judged.probability
        self.up = np.stack([says, zero, *_costs(p)], axis=1)[positive]
        self.down = np.stack([zero, says, *_costs(1 - p)], axis=1)[~positive]
        self.ranks = None if judged.probability is None else _Ranks(p[positive], p[~positive])

    def sums(self, up: Weights, down: Weights) -> Floats:
        """The _SUMS by resample, from the weights of positive and negative rows."""
        out = np.full((_SUMS, len(up)), np.nan)
        out[:4] = (up @ self.up + down @ self.down).T
        if self.ranks is not None:
            out[4:] = self.ranks.sums(up, down)
        return out

    def metrics(self, sums: Floats, ups: Floats, downs: Floats) -> Floats:
        """Metrics by resample, from the sums and the classes' sizes."""
        tp, fp, loss, brier, disorder, precise = sums
        counts = Counts.of(tp, fp, ups, downs)
        pairs, both = ups * downs, np.where(downs == 0, 0, ups)  # AUPRC too needs both classes
        ranked = ratio(pairs - disorder / 2, pairs), ratio(precise, both)
        costs = ratio(loss, ups + downs), ratio(brier, ups + downs)
        return np.array([*(of(counts) for of in OF_COUNTS.values()), *ranked, *costs])

    def point(self) -> Floats:
        """The metrics of the rows themselves."""
        one = [np.ones((1, len(rows)), dtype=np.int32) for rows in (self.up, self.down)]
        return self.metrics(self.sums(*one), *(np.array([float(w.size)]) for w in one))[:, 0]


def _costs(p: Floats) -> tuple[Floats, Floats]:
    """Log loss and Brier score of each row, from the probability of its gold label."""
    return -np.log(np.clip(p, CLIP, None)), np.square(1 - p)


class _Ranks:
    """Where positives stand among negatives, from the highest probability down."""

    def __init__(self, up: Floats, down: Floats) -> None:
        self.up, self.down = np.argsort(-up, kind="stable"), np.argsort(-down, kind="stable")
        ups, downs = -up[self.up], -down[self.down]
        self.above = np.searchsorted(downs, ups, side="left")
        self.not_below = np.searchsorted(downs, ups, side="right")
        self.last = np.searchsorted(ups, ups, side="right") - 1
        self.ties = bool((self.last != np.arange(len(up))).any())

    def sums(self, up: Weights, down: Weights) -> tuple[Floats, Floats]:
        """By resample: twice the pairs in the wrong order, ties once, of which AUROC is made (Hanley &
        McNeil 1982); and precision at each positive, whose mean is the average precision."""
        up = up.take(self.up, axis=1)
        before = np.zeros((len(down), down.shape[1] + 1), dtype=np.int32)
        np.cumsum(down.take(self.down, axis=1), axis=1, out=before[:, 1:])
        wrong = before.take(self.not_below, axis=1)
        disorder = _sums(up, wrong + before.take(self.above, axis=1))
        right = np.cumsum(up, axis=1, dtype=np.int32)
        if self.ties:
            right = right.take(self.last, axis=1)
        flagged = np.maximum(right + wrong, 1)  # 0 only where the positive itself was not drawn
        return disorder, _sums(up, right / flagged)


def _sums(weights: Weights, of: NDArray[np.int32] | Floats) -> Floats:
    out: Floats = np.einsum("ij,ij->i", weights, of, dtype=np.float64)
    return out
