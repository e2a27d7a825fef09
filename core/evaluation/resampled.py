"""Every threshold that tells the rows of a resample apart, for many resamples at once.

As core.evaluation.candidates has them for rows that count once: a resample is a weight for each row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.evaluation.candidates import Candidates, Ints, between
from core.evaluation.columns import Bools, Floats

Weights = NDArray[np.int32]


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
        at = np.concatenate([zeros, between(d[smaller], d[1:]) if len(d) else zeros[:, :0], ones], axis=1)
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
