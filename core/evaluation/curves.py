"""Curves for plots: precision by recall, metrics by threshold, accuracy by coverage; a few hundred points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from core.evaluation.calibration_fits import log_odds
from core.evaluation.candidates import Candidates, candidates
from core.evaluation.columns import Bools, Floats, at_or_above
from core.evaluation.metrics import f1, macro_f1, precision, recall

MOST_POINTS = 200

Curve = Mapping[str, list[float | None]]
"""Arrays of one length by name; None is undefined."""


def precision_recall(positive: Bools, probability: Floats) -> Curve:
    """Precision and recall at each threshold that flags any row, from the highest threshold down.

    Evenly over recall where there are more than MOST_POINTS.
    """
    found = candidates(positive, probability)
    if found.positive == 0 or not (found.tp + found.fp).any():
        return {"threshold": [], "precision": [], "recall": []}
    at = np.flatnonzero(found.tp + found.fp > 0)[::-1]
    recalled = recall(found.counts)[at]
    at = at[_thinned(recalled)]
    return _arrays(found, at, {"precision": precision(found.counts), "recall": recall(found.counts)})


def by_threshold(positive: Bools, probability: Floats) -> Curve:
    """Metrics of the predictions at thresholds from 0 to 1, evenly over thresholds."""
    found = candidates(positive, probability)
    kept = _thinned(found.at)
    k = found.counts
    share = (k.tp + k.fp) / max(int(found.rows), 1)
    values = {"precision": precision(k), "recall": recall(k), "f1": f1(k), "macro_f1": macro_f1(k)}
    return _arrays(found, kept, {**values, "share_flagged": share})


def by_coverage(positive: Bools, probability: Floats, threshold: float) -> Curve:
    """Accuracy of the surest rows, by which share of all rows they are.

    The less sure rows would be handed to a person (the risk-coverage curve: El-Yaniv & Wiener 2010, JMLR
    11, 1605-1641). Sureness is the distance of the log odds from the threshold's, which for 0.5 is the
    larger of p and 1 - p; rows without a probability come last, and rows equally sure come together.
    """
    n = len(positive)
    if n == 0:
        return {"coverage": [], "accuracy": [], "distance": []}
    away = np.abs(log_odds(probability) - log_odds(np.array([threshold])))
    away = np.where(np.isnan(away), -1.0, away)
    order = np.argsort(-away, kind="stable")
    right = np.cumsum((at_or_above(probability, threshold) == positive)[order])
    ends = np.flatnonzero(np.append(np.diff(away[order]) != 0, True))
    ends = ends[_thinned((ends + 1) / n)]
    return {
        "coverage": ((ends + 1) / n).tolist(),
        "accuracy": (right[ends] / (ends + 1)).tolist(),
        "distance": [None if d < 0 else float(d) for d in away[order][ends]],
    }


def _thinned(values: Floats) -> Any:
    """Places of at most MOST_POINTS values, evenly over their range, both ends among them."""
    if len(values) <= MOST_POINTS:
        return np.arange(len(values))
    low, high = values[0], values[-1]
    wanted = np.linspace(low, high, MOST_POINTS)
    sign = 1 if high >= low else -1
    places = np.searchsorted(sign * values, sign * wanted, side="left")
    return np.unique(np.concatenate([[0], np.minimum(places, len(values) - 1), [len(values) - 1]]))


def _arrays(found: Candidates, at: Any, values: Mapping[str, Floats]) -> Curve:
    return {"threshold": found.at[at].tolist(), **{name: _listed(v[at]) for name, v in values.items()}}


def _listed(values: Floats) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in values]
