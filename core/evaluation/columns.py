"""Arrays of rows, and the one comparison of probabilities with a threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def at_or_above(probability: ArrayLike, threshold: float) -> Bools:
    """Return whether each probability is at or above the threshold; NaN never is.

    Every decision is made here, in float64: NumPy compares a float32 score with a Python number in float32,
    where numbers that differ in float64 may be equal.
    """
    return np.asarray(np.asarray(probability, np.float64) >= np.float64(threshold))
