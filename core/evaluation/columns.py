"""Scored rows as columns, checked once, so that every measure is computed from the same numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import StageError
from core.records import ScoredExample

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NO_PROBABILITY = 0.5
"""What a row without a probability counts as in ranking, log loss and Brier score."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows as arrays of one length.

    `positive` is the gold label; `probability` is NaN where a row has none; `invalid` marks rows
    that reached no label; `outside` is the mass on neither label.
    """

    positive: Bools
    probability: Floats
    invalid: Bools
    outside: Floats

    def __len__(self) -> int:
        return len(self.positive)

    @property
    def ranking(self) -> Floats:
        """The probabilities, with `NO_PROBABILITY` where there is none."""
        return np.where(np.isnan(self.probability), NO_PROBABILITY, self.probability)

    def predicted(self, threshold: float) -> Bools:
        """Probability at or above `threshold`; never where there is no probability."""
        return at_or_above(self.probability, threshold)


def columns(rows: Sequence[ScoredExample]) -> Columns:
    """The rows as columns. Raises StageError where a row holds a number that cannot be one."""
    for row in rows:
        _check(row)
    none = float("nan")
    return Columns(
        positive=np.array([r.gold == 1 for r in rows], dtype=np.bool_),
        probability=np.array([none if r.probability is None else r.probability for r in rows], np.float64),
        invalid=np.array([not r.valid or r.probability is None for r in rows], dtype=np.bool_),
        outside=np.array([r.outside for r in rows], dtype=np.float64),
    )


def predict(probability: float | None, threshold: float) -> int:
    """The label at `threshold`: 1 iff the probability is at or above it, 0 where there is none."""
    return 0 if probability is None else int(at_or_above(probability, threshold))


def at_or_above(probability: ArrayLike, threshold: float) -> Bools:
    """Return whether each probability is at or above the threshold; NaN never is.

    Every decision is made here, in float64: NumPy compares a float32 score with a Python number in
    float32, where numbers that differ in float64 may be equal.
    """
    return np.asarray(np.asarray(probability, np.float64) >= np.float64(threshold))


def _check(row: ScoredExample) -> None:
    if row.gold not in (0, 1):
        raise StageError(f"scored row {row.example_id}: gold label {row.gold!r} is neither 0 nor 1")
    if row.probability is not None and not 0 <= row.probability <= 1:  # NaN fails this too
        raise StageError(f"scored row {row.example_id}: probability {row.probability} is not in [0, 1]")
    if not math.isfinite(row.outside):
        raise StageError(f"scored row {row.example_id}: outside mass {row.outside} is not a number")
