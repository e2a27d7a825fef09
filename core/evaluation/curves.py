"""Curves for plots: precision by recall, metrics by threshold, accuracy by coverage; a few hundred points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.evaluation.calibration_fits import log_odds
from core.evaluation.candidates import candidates
from core.evaluation.metrics import f1, macro_f1, precision, recall
from core.evaluation.predictions import Bools, Floats, at_or_above

MOST_POINTS = 200

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
    if found.positive == 0 or not (found.tp + found.fp).any():
        return PrecisionRecall([], [], [])
    at = np.flatnonzero(found.tp + found.fp > 0)[::-1]
    recalled = recall(found.counts)[at]
    at = at[_thinned(recalled)]
    values = {"precision": precision(found.counts), "recall": recall(found.counts)}
    return PrecisionRecall(found.at[at].tolist(), **_listed(values, at))


def by_threshold(positive: Bools, probability: Floats) -> ByThreshold:
    """Return metrics of the predictions at thresholds from 0 to 1, evenly over thresholds."""
    found = candidates(positive, probability)
    kept = _thinned(found.at)
    k = found.counts
    share = (k.tp + k.fp) / max(int(found.rows), 1)
    values = {"precision": precision(k), "recall": recall(k), "f1": f1(k), "macro_f1": macro_f1(k)}
    return ByThreshold(found.at[kept].tolist(), **_listed({**values, "share_flagged": share}, kept))


def by_coverage(positive: Bools, probability: Floats, threshold: float) -> ByCoverage:
    """Return the accuracy of the most confident rows by their share of all rows.

    The other rows would be passed to a person (the risk-coverage curve: El-Yaniv & Wiener 2010, JMLR 11,
    1605-1641). Confidence is the distance of the log odds from the threshold's, which for 0.5 orders rows as
    the larger of p and 1 - p does; rows without a probability come last, and ties are covered together.
    """
    n = len(positive)
    if n == 0:
        return ByCoverage([], [], [])
    away = np.abs(log_odds(probability) - log_odds(np.array([threshold])))
    away = np.where(np.isnan(away), -1.0, away)
    order = np.argsort(-away, kind="stable")
    right = np.cumsum((at_or_above(probability, threshold) == positive)[order])
    ends = np.flatnonzero(np.append(np.diff(away[order]) != 0, True))
    ends = ends[_thinned((ends + 1) / n)]
    return ByCoverage(
        coverage=((ends + 1) / n).tolist(),
        accuracy=(right[ends] / (ends + 1)).tolist(),
        distance=[None if d < 0 else float(d) for d in away[order][ends]],
    )


def _thinned(values: Floats) -> Any:
    """Places of at most MOST_POINTS values, evenly over their range, both ends among them."""
    if len(values) <= MOST_POINTS:
        return np.arange(len(values))
    low, high = values[0], values[-1]
    wanted = np.linspace(low, high, MOST_POINTS)
    sign = 1 if high >= low else -1
    places = np.searchsorted(sign * values, sign * wanted, side="left")
    return np.unique(np.concatenate([[0], np.minimum(places, len(values) - 1), [len(values) - 1]]))


def _listed(values: Mapping[str, Floats], at: Any) -> dict[str, Values]:
    return {name: [None if np.isnan(v) else float(v) for v in of[at]] for name, of in values.items()}
