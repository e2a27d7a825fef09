"""Curves for plots: precision by recall, metrics by threshold, accuracy by coverage, reliability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.evaluation.calibration import confidence
from core.evaluation.metrics import f1, macro_f1, precision, recall
from core.evaluation.predictions import Bools, Floats, Ints, at_or_above
from core.evaluation.threshold import candidates
from core.intervals import Interval, proportion

MOST_POINTS = 200
BINS = 10

Values = list[float | None]
"""One value per point of a curve; None is undefined."""


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Precision and recall by threshold, from the highest threshold down."""

    threshold: list[float]
    precision: Values
    recall: Values


@dataclass(frozen=True, slots=True)
class ByThreshold:
    """Metrics of the predictions by threshold, from 0 to 1."""

    threshold: list[float]
    precision: Values
    recall: Values
    f1: Values
    macro_f1: Values
    share_flagged: Values


@dataclass(frozen=True, slots=True)
class ByCoverage:
    """Accuracy of the most confident rows by their share of all rows.

    `distance` is the confidence of the least confident row covered, in log odds from the threshold; None if
    rows without a probability are covered.
    """

    coverage: list[float]
    accuracy: list[float]
    distance: Values


def precision_recall(positive: Bools, probability: Floats) -> PrecisionRecall:
    """Return precision and recall at each threshold that flags any row.

    More than MOST_POINTS are thinned evenly over recall.
    """
    found = candidates(positive, probability)
    flagged = np.flatnonzero(found.tp[0] + found.fp[0] > 0)[::-1]
    if not positive.any() or len(flagged) == 0:
        return PrecisionRecall([], [], [])
    values = {"precision": precision(found.counts)[0], "recall": recall(found.counts)[0]}
    at = flagged[_thinned(values["recall"][flagged])]
    return PrecisionRecall(found.at[0, at].tolist(), **_listed(values, at))


def by_threshold(positive: Bools, probability: Floats) -> ByThreshold:
    """Return metrics of the predictions at thresholds from 0 to 1, thinned evenly over thresholds."""
    found = candidates(positive, probability)
    at, k = _thinned(found.at[0]), found.counts
    values = {"precision": precision(k), "recall": recall(k), "f1": f1(k), "macro_f1": macro_f1(k)}
    values["share_flagged"] = (k.tp + k.fp) / max(len(positive), 1)
    curves = _listed({name: of[0] for name, of in values.items()}, at)
    return ByThreshold(found.at[0, at].tolist(), **curves)


def by_coverage(positive: Bools, probability: Floats, threshold: float) -> ByCoverage:
    """Return the accuracy of the most confident rows by their share of all rows.

    The other rows would be passed to a person (the risk-coverage curve: El-Yaniv & Wiener 2010, JMLR 11,
    1605-1641). Confidence is that of `confidence`; ties are covered together.
    """
    n = len(positive)
    if n == 0:
        return ByCoverage([], [], [])
    away = confidence(probability, threshold)
    order = np.argsort(-away, kind="stable")
    right = np.cumsum((at_or_above(probability, threshold) == positive)[order])
    ends = np.flatnonzero(np.append(np.diff(away[order]) != 0, True))
    ends = ends[_thinned((ends + 1) / n)]
    return ByCoverage(
        coverage=((ends + 1) / n).tolist(),
        accuracy=(right[ends] / (ends + 1)).tolist(),
        distance=[None if d < 0 else float(d) for d in away[order][ends]],
    )


def _thinned(values: Floats) -> Ints:
    """Return the places of at most MOST_POINTS values, evenly over their range, with both ends."""
    if len(values) <= MOST_POINTS:
        return np.arange(len(values))
    low, high = values[0], values[-1]
    wanted = np.linspace(low, high, MOST_POINTS)
    sign = 1 if high >= low else -1
    places = np.searchsorted(sign * values, sign * wanted, side="left")
    return np.unique(np.concatenate([[0], np.minimum(places, len(values) - 1), [len(values) - 1]]))


def _listed(values: Mapping[str, Floats], at: Ints) -> dict[str, Values]:
    return {name: [None if np.isnan(v) else float(v) for v in of[at]] for name, of in values.items()}


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
    """Return bins of as equal sizes as ties allow: rows of one probability are never separated.

    Ties belong to the bin of the first of them. Rows without a probability are in none.
    """
    scored = np.flatnonzero(~np.isnan(probability))
    order = scored[np.argsort(probability[scored], kind="stable")]
    p, y = probability[order], positive[order]
    cuts = np.cumsum([len(part) for part in np.array_split(p, bins)])
    # A cut inside a run of ties moves to the end of the run.
    ends = sorted({int(np.searchsorted(p, p[k - 1], side="right")) for k in cuts if k > 0})
    points = []
    for start, end in zip([0, *ends], ends, strict=False):
        part, ups = p[start:end], y[start:end]
        share = proportion(int(ups.sum()), len(ups))
        points.append(Point(len(part), float(part.min()), float(part.max()), float(part.mean()), share))
    away = sum(each.rows * abs(each.mean_probability - (each.positive.value or 0.0)) for each in points)
    return Reliability(away / len(order) if len(order) else None, len(order), tuple(points))
