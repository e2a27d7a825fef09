"""Which rows are decided wrongly, the surest first."""

from __future__ import annotations

import numpy as np

from core.evaluation.calibration_fits import log_odds
from core.evaluation.decision import Decision
from core.evaluation.predictions import Predictions


def surest_wrong(p: Predictions, decision: Decision, most: int) -> list[int]:
    """Return at most `most` rows, before calibration, that are decided wrongly; the most confident first.

    Confidence is the distance of the log odds from the threshold's, as in the curve by coverage; rows without
    a probability, which are decided 0, come last, and equal ones in their order. Rows that a server failed on
    are not decided, and without a threshold none is.
    """
    predicted = decision.predicted(p)
    if predicted is None or decision.threshold is None:
        return []
    calibrated = decision.calibrated(p).probability
    away = np.abs(log_odds(calibrated) - log_odds(np.array([decision.threshold])))
    away = np.where(np.isnan(away), -1.0, away)
    wrong = np.flatnonzero((predicted != p.positive) & ~p.failed)
    return [int(i) for i in wrong[np.argsort(-away[wrong], kind="stable")][:most]]
