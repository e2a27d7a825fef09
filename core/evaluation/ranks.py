"""How positive rows are ranked among negative ones, for resamples given as weights of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.evaluation.predictions import Floats

Weights = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Ranks:
    """Sums over the ranks of each resample's rows.

    `pairs` of a positive and a negative row; `disorder` counts those in the wrong order twice and ties once;
    `precision_sum` adds, over positive rows, the precision among the rows ranked at least as high;
    `positives` counts the positive rows, 0 if there are no negative ones.
    """

    pairs: Floats
    disorder: Floats
    precision_sum: Floats
    positives: Floats

    @staticmethod
    def of(disorder: Floats, precision_sum: Floats, positive: Floats, negative: Floats) -> Ranks:
        """From the sums and the sizes of the classes."""
        return Ranks(positive * negative, disorder, precision_sum, np.where(negative == 0, 0, positive))


class RankedRows:
    """Rows sorted by probability once, for the rank sums of any resamples of them."""

    def __init__(self, up: Floats, down: Floats) -> None:
        """`up` and `down` are the probabilities of positive and of negative rows."""
        self.up, self.down = np.argsort(-up, kind="stable"), np.argsort(-down, kind="stable")
        ups, downs = -up[self.up], -down[self.down]
        self.above = np.searchsorted(downs, ups, side="left")
        self.not_below = np.searchsorted(downs, ups, side="right")
        self.last = np.searchsorted(ups, ups, side="right") - 1
        self.ties = bool((self.last != np.arange(len(up))).any())

    def sums(self, up: Weights, down: Weights) -> tuple[Floats, Floats]:
        """Return `disorder` and `precision_sum` of each resample; see Ranks."""
        up = up.take(self.up, axis=1)
        before = np.zeros((len(down), down.shape[1] + 1), dtype=np.int32)
        np.cumsum(down.take(self.down, axis=1), axis=1, out=before[:, 1:])
        wrong = before.take(self.not_below, axis=1)
        disorder = _weighted(up, wrong + before.take(self.above, axis=1))
        right = np.cumsum(up, axis=1, dtype=np.int32)
        if self.ties:
            right = right.take(self.last, axis=1)
        flagged = np.maximum(right + wrong, 1)  # 0 only where the positive itself was not drawn
        return disorder, _weighted(up, right / flagged)


def _weighted(weights: Weights, of: NDArray[np.int32] | Floats) -> Floats:
    out: Floats = np.einsum("ij,ij->i", weights, of, dtype=np.float64)
    return out
