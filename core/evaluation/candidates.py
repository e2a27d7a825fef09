"""Every threshold from 0 to 1 that tells rows apart, with what is right and wrong at each.

Candidates are 0, 1 and the midpoints between neighbouring distinct probabilities. They make every
split of the rows that a threshold from 0 to 1 can make. The midpoint stands for the whole gap: a
threshold on an observed probability, the other usual choice, sits at the very edge of that gap, so
that a text scored a rounding error lower falls on the other side, and texts in the gap that were
not seen yet would all be predicted 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.evaluation.metrics import Counts
from core.evaluation.predictions import Bools, Floats

Ints = NDArray[np.int64]
Weights = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Thresholds in ascending order, the true and false positives at each, and the classes' sizes.

    The sizes count rows without a probability too: these are predicted 0 at any threshold. Of many
    resamples the arrays are (resamples, candidates), and the sizes (resamples, 1).
    """

    at: Floats
    tp: Ints
    fp: Ints
    positive: Ints
    negative: Ints

    def __len__(self) -> int:
        """Candidates of one resample."""
        return int(self.at.shape[-1])

    @property
    def rows(self) -> Ints:
        """The classes together."""
        return self.positive + self.negative

    @property
    def counts(self) -> Counts:
        """The same as tables of counts."""
        return Counts.of(self.tp, self.fp, self.positive, self.negative)


def candidates(positive: Bools, probability: Floats) -> Candidates:
    """Of rows that count once each; `probability` is NaN where a row has none."""
    once = (np.ones((1, np.count_nonzero(part)), dtype=np.int32) for part in (positive, ~positive))
    found, _ = Resampled(positive, probability).candidates(*once)
    return Candidates(found.at[0], found.tp[0], found.fp[0], found.positive[0, 0], found.negative[0, 0])


class Resampled:
    """Rows sorted by probability once, for the candidates of any resamples of them."""

    def __init__(self, positive: Bools, probability: Floats) -> None:
        """`probability` is NaN where a row has none."""
        self._distinct = np.unique(probability[~np.isnan(probability)])
        self._up = _Tails(probability[positive], self._distinct)
        self._down = _Tails(probability[~positive], self._distinct)

    def candidates(self, up: Weights, down: Weights) -> tuple[Candidates, Bools]:
        """Those of all resamples, each array of (resamples, candidates), and which of them are one.

        `up` and `down` hold the weights of positive and of negative rows, (resamples, rows), in the
        order of rows. A row of weight 0 is not there: no candidate is next to it.
        """
        tp, fp = self._up.sums(up), self._down.sums(down)
        d, many = self._distinct, len(up)
        here = (tp[:, :-1] > tp[:, 1:]) | (fp[:, :-1] > fp[:, 1:])
        # For each value the next smaller one that is there too; -1 where there is none.
        smaller = np.maximum.accumulate(np.where(here, np.arange(len(d)), -1), axis=1)[:, :-1]
        zeros, ones = np.zeros((many, 1)), np.ones((many, 1))
        at = np.concatenate([zeros, _between(d[smaller], d[1:]) if len(d) else zeros[:, :0], ones], axis=1)
        always = np.ones((many, 1), dtype=np.bool_)
        real = np.concatenate([always, here[:, 1:] & (smaller >= 0), always], axis=1)
        if len(d) == 0:  # neither 0 nor 1 flags anything
            tp, fp = tp.repeat(2, axis=1), fp.repeat(2, axis=1)
        elif d[-1] == 1.0:  # 1 itself is flagged at 1
            tp[:, -1], fp[:, -1] = tp[:, -2], fp[:, -2]
        sizes = (weights.sum(axis=1, dtype=np.int64)[:, None] for weights in (up, down))
        return Candidates(at, tp, fp, *sizes), real


class _Tails:
    """Rows of one class: how many of a resample's have a value or a larger one."""

    def __init__(self, probability: Floats, distinct: Floats) -> None:
        scored = np.flatnonzero(~np.isnan(probability))
        self._order = scored[np.argsort(probability[scored], kind="stable")]
        first = np.searchsorted(probability[self._order], distinct)
        self._first = np.append(first, len(self._order))

    def sums(self, weights: Weights) -> Ints:
        """(resamples, distinct values + 1): for each value, and 0 beyond the last."""
        of = weights.take(self._order, axis=1)
        tails = np.zeros((len(of), of.shape[1] + 1), dtype=np.int64)
        np.cumsum(of[:, ::-1], axis=1, out=tails[:, -2::-1])
        return tails.take(self._first, axis=1)


def _between(low: Floats, high: Floats) -> Floats:
    """Midpoints that part `low` from `high` even where no number lies between them."""
    middle = low + (high - low) / 2
    return np.where(middle > low, middle, high)
