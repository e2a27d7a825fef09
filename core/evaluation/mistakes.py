"""Which rows are decided wrongly, the surest first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.evaluation.calibration_fits import log_odds
from core.evaluation.columns import columns
from core.evaluation.decision import Decision
from core.records import ScoredExample


def surest_wrong(rows: Sequence[ScoredExample], decision: Decision, most: int) -> list[int]:
    """Places of at most `most` rows, as they were scored, that are decided wrongly; of equals the first.

    Sureness is the distance of the log odds from the threshold's, as in the curve by coverage; rows
    without a probability, which are decided 0, come last. Rows that a server failed on are decided
    by nobody. Nothing is wrong where no threshold was chosen.
    """
    at = decision.threshold
    if at is None:
        return []
    kept = [i for i, row in enumerate(rows) if row.error is None]
    c = columns(decision.calibrator.apply_to([rows[i] for i in kept]))
    away = np.abs(log_odds(c.probability) - log_odds(np.array([at])))
    away = np.where(np.isnan(away), -1.0, away)
    wrong = np.flatnonzero(c.predicted(at) != c.positive)
    order = wrong[np.argsort(-away[wrong], kind="stable")][:most]
    return [kept[int(i)] for i in order]
