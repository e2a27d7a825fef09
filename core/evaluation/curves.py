"""Curves for plots: precision by recall, metrics by threshold, accuracy by coverage, reliability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.evaluation.calibration import confidence
from core.evaluation.metrics import f1, macro_f1, precision, recall
from core.evaluation.predictions import Bools, Floats, Ints, at_or_above, optional
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

    `distance` is the least confident row's, in log odds from the threshold; None without a probability.
    """

    coverage: list[float]
    accuracy: list[float]
    distance: Values

    @staticmethod
    def of(positive: Bools, probability: Floats, threshold: float) -> ByCoverage:
        """Return the curve; rows with equal confidence are covered together.

        The other rows would be passed to a person (the risk-coverage curve: El-Yaniv & Wiener 2010, JMLR 11,
        1605-1641).
        """
        n = len(positive)
        away = confidence(probability, threshold)
        order = np.argsort(-away, kind="stable")
        right = np.cumsum((at_or_above(probability, threshold) == positive)[order])
        ends = np.flatnonzero(np.append(np.diff(away[order]) != 0, n > 0))
        ends = ends[_thinned((ends + 1) / max(n, 1))]
        return ByCoverage(
            coverage=((ends + 1) / max(n, 1)).tolist(),
            accuracy=(right[ends] / (ends + 1)).tolist(),
            distance=[None if d < 0 else float(d) for d in away[order][ends]],
        )


@dataclass(frozen=True, slots=True)
class Curves:
    """Curves of one scorer; `by_coverage` is None without a threshold."""

    precision_recall: PrecisionRecall
    by_threshold: ByThreshold
    by_coverage: ByCoverage | None


def draw_curves(positive: Bools, probability: Floats, threshold: float | None) -> Curves:
    """Return the curves of rows with gold labels, of at most MOST_POINTS each.

    Points are thinned evenly over recall, thresholds and coverage. `probability` is NaN where a row has none.
    All curves are empty without rows, and precision by recall without positive ones.
    """
    found = candidates(positive, probability)
    k, recalls = found.counts.at(0), recall(found.counts.at(0))
    flagged = np.flatnonzero(k.tp + k.fp > 0)[::-1]
    at = flagged if positive.any() else flagged[:0]
    at = at[_thinned(recalls[at])]
    ranked = PrecisionRecall(found.at[0, at].tolist(), _listed(precision(k.at(at))), _listed(recalls[at]))
    at = _thinned(found.at[0])
    k = k.at(at)
    by_threshold = ByThreshold(
        threshold=found.at[0, at].tolist(),
        precision=_listed(precision(k)),
        recall=_listed(recall(k)),
        f1=_listed(f1(k)),
        macro_f1=_listed(macro_f1(k)),
        share_flagged=_listed((k.tp + k.fp) / np.maximum(k.tp + k.fp + k.fn + k.tn, 1)),
    )
    covered = None if threshold is None else ByCoverage.of(positive, probability, threshold)
    return Curves(ranked, by_threshold, covered)


def _thinned(values: Floats) -> Ints:
    """Return the places of at most MOST_POINTS values, evenly over their range, with both ends."""
    if len(values) <= MOST_POINTS:
        return np.arange(len(values))
    low, high = values[0], values[-1]
    wanted = np.linspace(low, high, MOST_POINTS)
    sign = 1 if high >= low else -1
    places = np.searchsorted(sign * values, sign * wanted, side="left")
    return np.unique(np.concatenate([[0], np.minimum(places, len(values) - 1), [len(values) - 1]]))


def _listed(values: Floats) -> Values:
    return [optional(v) for v in values]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A bin: its rows, their mean probability, and the share that is positive with its interval."""

    rows: int
    lowest: float
    highest: float
    mean_probability: float
    positive: Interval


@dataclass(frozen=True, slots=True)
class Reliability:
    """The bins from the lowest probability up, and the expected calibration error.

    The error is the mean distance of a bin's mean probability from its share of positives, weighted by rows
    (Nguyen & O'Connor 2015); None without rows. Even a perfect model has about the bins' own noise.
    """

    expected_calibration_error: float | None
    rows: int
    points: tuple[CurvePoint, ...]


def reliability(positive: Bools, probability: Floats, bins: int = BINS) -> Reliability:
    """Return bins of as equal sizes as ties allow: rows of one probability are never separated.

    Rows without a probability are in none.
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
        points.append(CurvePoint(len(part), float(part.min()), float(part.max()), float(part.mean()), share))
    away = sum(each.rows * abs(each.mean_probability - (each.positive.value or 0.0)) for each in points)
    return Reliability(away / len(order) if len(order) else None, len(order), tuple(points))
