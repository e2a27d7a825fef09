"""The decision threshold: where macro-F1 is largest on the rows given, in O(n log n).

Candidates are 0, 1 and the midpoints between neighbouring distinct probabilities. They make every
split of the rows that a threshold from 0 to 1 can make. The midpoint stands for the whole gap: a
threshold on an observed probability, the other usual choice, sits at the very edge of that gap, so
that a text scored a rounding error lower falls on the other side, and texts in the gap that were
not seen yet would all be predicted 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from core.evaluation.columns import Bools, Floats, columns
from core.records import ScoredExample

DEFAULT = 0.5
RULE = "val_max_macro_f1"
"""The rule's name in manifests."""

_NEAR = 1e-9
"""Macro-F1 in floating point is surer than this; within it, fractions decide."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold, what it reaches on the rows it was chosen on, and why it is what it is."""

    value: float
    macro_f1: float | None
    accuracy: float | None
    candidates: int
    reason: str


def choose(rows: Sequence[ScoredExample]) -> Threshold:
    """The threshold that maximises macro-F1 on `rows`; see `choose_from`."""
    c = columns(rows)
    return choose_from(c.positive, c.probability)


def choose_from(positive: Bools, probability: Floats) -> Threshold:
    """The threshold that maximises macro-F1; ties go to accuracy, then to the nearest to 0.5.

    `probability` is NaN where a row has none: it is predicted 0 at any threshold. Of two equally
    near thresholds the smaller wins. Without rows, with one class only, or without any probability
    it is 0.5 and the reason says so.
    """
    n, n_positive = len(positive), int(positive.sum())
    if n == 0:
        return _default("there are no rows")
    if n_positive in (0, n):
        return _default(f"all {n} rows are of one class, so macro-F1 does not tell thresholds apart")
    scored = ~np.isnan(probability)
    if not scored.any():
        return _default(f"none of {n} rows has a probability")
    at, tp, fp = _curve(positive[scored], probability[scored])
    twice_f1 = _twice_macro_f1(tp, fp, n_positive, n)
    near = np.flatnonzero(twice_f1 >= twice_f1.max() - _NEAR)
    i = min(near, key=lambda j: _rank(float(at[j]), int(tp[j]), int(fp[j]), n_positive, n))
    return Threshold(
        value=float(at[i]),
        macro_f1=float(twice_f1[i]) / 2,
        accuracy=int(n - n_positive - fp[i] + tp[i]) / n,
        candidates=len(at),
        reason=f"largest macro-F1 on {n} rows ({n_positive} positive), of {len(at)} thresholds",
    )


def _default(why: str) -> Threshold:
    return Threshold(DEFAULT, None, None, 0, f"the default {DEFAULT}: {why}")


def _curve(positive: Bools, p: Floats) -> tuple[Floats, Ints, Ints]:
    """Candidates in ascending order, and the true and false positives at each."""
    order = np.argsort(p)
    p, positive = p[order], positive[order]
    distinct = p[np.concatenate([[True], p[1:] > p[:-1]])]
    at = np.concatenate([[0.0], _between(distinct[:-1], distinct[1:]), [1.0]])
    first = np.searchsorted(p, at, side="left")  # rows from here on are predicted 1
    above = np.concatenate([[0], np.cumsum(positive[::-1])])[::-1].astype(np.int64)
    tp = above[first]
    return at, tp, (len(p) - first) - tp


def _between(low: Floats, high: Floats) -> Floats:
    """Midpoints that part `low` from `high` even where no number lies between them."""
    middle = low + (high - low) / 2
    return np.where(middle > low, middle, high)


def _twice_macro_f1(tp: Ints, fp: Ints, n_positive: int, n: int) -> Floats:
    """F1 of both classes, added. With both classes in gold no denominator is 0."""
    wrong = fp + (n_positive - tp)
    tn = (n - n_positive) - fp
    out: Floats = 2 * tp / (2 * tp + wrong) + 2 * tn / (2 * tn + wrong)
    return out


def _rank(at: float, tp: int, fp: int, n_positive: int, n: int) -> tuple[Fraction, int, float, float]:
    """Sorts the best first. Exact, since counts that tie on paper may differ in the last bit."""
    wrong, tn = fp + (n_positive - tp), (n - n_positive) - fp
    f1 = Fraction(2 * tp, 2 * tp + wrong) + Fraction(2 * tn, 2 * tn + wrong)
    return -f1, -(tp + tn), abs(at - DEFAULT), at
