"""Whether probabilities mean what they say: in bins of equal size, and as one number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.evaluation.intervals import Interval, proportion
from core.evaluation.predictions import Bools, Floats

BINS = 10


@dataclass(frozen=True, slots=True)
class Point:
    """A bin: its rows, their mean probability, and the share that is positive with its interval."""

    rows: int
    lowest: float
    highest: float
    mean_probability: float
    positive: Interval


@dataclass(frozen=True, slots=True)
class Reliability:
    """The bins from the lowest probability up, and the expected calibration error.

    The error is the mean distance of a bin's mean probability from its share of positives, weighted by
    rows (Naeini et al. 2015; in bins of equal size Nguyen & O'Connor 2015). None without rows. It is
    above 0 even for a perfect model, by about the bins' own noise.
    """

    expected_calibration_error: float | None
    rows: int
    points: tuple[Point, ...]


def reliability(positive: Bools, probability: Floats, bins: int = BINS) -> Reliability:
    """Bins of as equal sizes as ties allow: rows of one probability are never parted, and go where the
    first of them belongs. Rows without a probability are in none."""
    scored = np.flatnonzero(~np.isnan(probability))
    order = scored[np.argsort(probability[scored], kind="stable")]
    points = [_point(positive[part], probability[part]) for part in _parts(probability[order], order, bins)]
    away = sum(p.rows * abs(p.mean_probability - (p.positive.value or 0.0)) for p in points)
    return Reliability(away / len(order) if len(order) else None, len(order), tuple(points))


def _parts(p: Floats, order: Any, bins: int) -> Sequence[Any]:
    """The rows of each bin that has any."""
    cuts = [len(part) for part in np.array_split(p, bins)]
    # A cut inside a run of ties moves to the end of the run.
    ends = [int(np.searchsorted(p, p[k - 1], side="right")) for k in np.cumsum(cuts) if k > 0]
    starts = [0, *ends][: len(ends)]
    return [order[a:b] for a, b in zip(starts, ends, strict=True) if b > a]


def _point(y: Bools, p: Floats) -> Point:
    return Point(len(p), float(p.min()), float(p.max()), float(p.mean()), proportion(int(y.sum()), len(y)))
