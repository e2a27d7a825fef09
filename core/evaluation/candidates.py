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
    scored = np.flatnonzero(~np.isnan(probability))
    order = scored[np.argsort(probability[scored])]
    p, up = probability[order], positive[order].astype(np.int64)
    starts = np.flatnonzero(np.concatenate([[True], p[1:] > p[:-1]])) if len(p) else np.zeros(0, np.int64)
    distinct = p[starts]
    at = np.concatenate([[0.0], between(distinct[:-1], distinct[1:]), [1.0]])
    last = starts[-1] if len(p) and distinct[-1] == 1.0 else len(p)  # 1 itself is flagged at 1
    first = np.concatenate([[0], starts[1:], [last]])
    ups = np.asarray(positive.sum(), dtype=np.int64)
    return Candidates(at, _from(up)[first], _from(1 - up)[first], ups, len(positive) - ups)


def _from(counts: Ints) -> Ints:
    """Sums from each place to the end, and 0 beyond it."""
    out = np.zeros(len(counts) + 1, dtype=np.int64)
    out[:-1] = np.cumsum(counts[::-1])[::-1]
    return out


def between(low: Floats, high: Floats) -> Floats:
    """Midpoints that part `low` from `high` even where no number lies between them."""
    middle = low + (high - low) / 2
    return np.where(middle > low, middle, high)
