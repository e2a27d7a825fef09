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

from core.evaluation.columns import Bools, Floats
from core.evaluation.counted import Counts

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Thresholds in ascending order, the true and false positives at each, and the classes' sizes.

    The sizes count rows without a probability too: these are predicted 0 at any threshold.
    """

    at: Floats
    tp: Ints
    fp: Ints
    positive: int
    negative: int

    def __len__(self) -> int:
        return len(self.at)

    @property
    def rows(self) -> int:
        return self.positive + self.negative

    @property
    def counts(self) -> Counts:
        """The same as tables of counts."""
        return Counts.of(self.tp, self.fp, self.positive, self.negative)


class Sorted:
    """Rows sorted by probability once, for the candidates of all of them or of any resample."""

    def __init__(self, positive: Bools, probability: Floats) -> None:
        """`probability` is NaN where a row has none."""
        scored = np.flatnonzero(~np.isnan(probability))
        order = scored[np.argsort(probability[scored])]
        self._all, self._order = positive, order
        self._p, self._positive = probability[order], positive[order]

    def __len__(self) -> int:
        """Rows that have a probability."""
        return len(self._p)

    def candidates(self, weights: Ints | None = None) -> Candidates:
        """Of rows that count as often as `weights` says, in the order of rows; by default once each.

        A row of weight 0 is not there: no candidate is next to it.
        """
        p, up = self._p, self._positive.astype(np.int64)
        down = 1 - up
        if weights is not None:
            here = weights[self._order]
            drawn = here > 0
            p, here = p[drawn], here[drawn]
            up, down = here * up[drawn], here * down[drawn]
        all_up, all_down = self._sizes(weights)
        return _candidates(p, up, down, all_up, all_down)

    def _sizes(self, weights: Ints | None) -> tuple[int, int]:
        if weights is None:
            up = int(self._all.sum())
            return up, len(self._all) - up
        up = int(weights[self._all].sum())
        return up, int(weights.sum()) - up


def _candidates(p: Floats, up: Ints, down: Ints, all_up: int, all_down: int) -> Candidates:
    starts = np.flatnonzero(np.concatenate([[True], p[1:] > p[:-1]])) if len(p) else np.zeros(0, np.int64)
    distinct = p[starts]
    middles = _between(distinct[:-1], distinct[1:])
    at = np.concatenate([[0.0], middles, [1.0]])
    last = starts[-1] if len(p) and distinct[-1] == 1.0 else len(p)  # 1 itself is flagged at 1
    first = np.concatenate([[0], starts[1:], [last]])
    return Candidates(at, _from(up)[first], _from(down)[first], all_up, all_down)


def _from(counts: Ints) -> Ints:
    """Sums from each place to the end, and 0 beyond it."""
    out = np.zeros(len(counts) + 1, dtype=np.int64)
    out[:-1] = np.cumsum(counts[::-1])[::-1]
    return out


def _between(low: Floats, high: Floats) -> Floats:
    """Midpoints that part `low` from `high` even where no number lies between them."""
    middle = low + (high - low) / 2
    return np.where(middle > low, middle, high)
