"""What is fitted on val and then frozen: the calibrator and the threshold on what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core import jsonio
from core.config.measure import CalibrationConfig, ThresholdConfig
from core.evaluation import calibration
from core.evaluation.bootstrap import RESAMPLES, Judged, units_of
from core.evaluation.calibration import Calibrator, calibrate
from core.evaluation.intervals import Interval, intervals
from core.evaluation.metrics import Metrics, compute
from core.evaluation.objectives import DEFAULT, Choice, choose_by
from core.evaluation.predictions import Bools, Predictions, at_or_above
from core.evaluation.threshold_spread import ThresholdSpread, spread
from core.jsonio import Record

BY_DEFINITION = "by definition"


@dataclass(frozen=True, slots=True)
class Decision:
    """A calibrator, and the threshold on calibrated probabilities; None if none reaches the objective.

    All methods take predictions before calibration.
    """

    calibrator: Calibrator
    threshold: float | None
    reason: str

    def calibrated(self, p: Predictions) -> Predictions:
        """Return the predictions with calibrated probabilities."""
        return self.calibrator.apply_to(p)

    def predicted(self, p: Predictions) -> Bools | None:
        """Return which rows are predicted positive; None without a threshold."""
        at = self.threshold
        return None if at is None else at_or_above(self.calibrated(p).probability, at)

    def metrics(self, p: Predictions) -> Metrics:
        """Return all metrics of the rows that no server failed on."""
        return compute(self.calibrated(p.without_failed()), self.threshold, self.reason)


class Decided(Record):
    """The content of decision.json: how a decision was fitted, and what it does on the rows it was fitted to.

    `metrics` and `intervals` are of calibrated probabilities at the threshold, `at_default` of probabilities
    before calibration at 0.5. The calibrator is not fitted again in the resamples of `threshold_spread`.
    """

    calibrator: Calibrator
    threshold: Choice
    threshold_spread: ThresholdSpread | None
    """None if there is no threshold, or too few groups to draw from."""
    metrics: Metrics
    intervals: dict[str, Interval]
    default_threshold: float = DEFAULT
    at_default: Metrics
    clustered: bool


def by_definition(threshold: float) -> Decision:
    """A threshold that nothing was fitted for, on probabilities as they are."""
    return Decision(calibration.identity(BY_DEFINITION), threshold, BY_DEFINITION)


def decide(
    p: Predictions,
    threshold: ThresholdConfig,
    calibration: CalibrationConfig,
    groups: Sequence[str | None] | None = None,
    *,
    seed: int = 0,
) -> Decided:
    """Fit the calibrator, then the threshold, on rows of val; `groups` keeps rows together."""
    calibrator = calibrate(p.positive, p.probability, calibration, groups, seed=seed)
    c = calibrator.apply_to(p)
    choice = choose_by(c.positive, c.probability, threshold)
    at, moved = choice.value, None
    if at is not None and not units_of(c.positive, groups).too_few:
        moved = spread(c.positive, c.probability, at, threshold, groups, seed=seed)
    judged = Judged.of(c, at, choice.reason)
    return Decided(
        calibrator=calibrator,
        threshold=choice,
        threshold_spread=moved,
        metrics=compute(c, at, choice.reason),
        intervals=intervals(c.positive, [judged], groups, resamples=RESAMPLES, seed=seed)[0],
        at_default=compute(p, DEFAULT),
        clustered=groups is not None and any(g is not None for g in groups),
    )


def read(path: Path) -> Decision:
    """The frozen part of a file that the decide stage wrote."""
    value = jsonio.read_json(path)
    choice = value["threshold"]
    return Decision(calibration.from_json(value["calibrator"]), choice["value"], choice["reason"])
