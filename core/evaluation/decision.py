"""What is fitted on val and then frozen: the calibrator and the threshold on what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import jsonio
from core.config.measure import CalibrationConfig, ThresholdConfig
from core.evaluation import calibration
from core.evaluation.bootstrap import RESAMPLES, Judged, units_of
from core.evaluation.calibration import Calibrator, calibrate
from core.evaluation.columns import columns
from core.evaluation.intervals import Interval, intervals
from core.evaluation.metrics import Metrics, compute
from core.evaluation.objectives import DEFAULT, Choice, choose_by
from core.evaluation.threshold_spread import ThresholdSpread, spread
from core.records import ScoredExample

BY_DEFINITION = "by definition"


@dataclass(frozen=True, slots=True)
class Decision:
    """A calibrator and the threshold on calibrated probabilities; None where no threshold does it."""

    calibrator: Calibrator
    threshold: float | None
    reason: str

    def metrics(self, rows: Sequence[ScoredExample]) -> Metrics:
        """All metrics of rows as they were scored; those that a server failed on are left out."""
        kept = [row for row in rows if row.error is None]
        return compute(self.calibrator.apply_to(kept), self.threshold, self.reason)


@dataclass(frozen=True, slots=True)
class Decided:
    """How a decision was fitted, and what it does on the rows it was fitted to.

    `metrics` and `intervals` are of calibrated probabilities at the threshold; `spread` is None where there
    is no threshold, or too few groups to draw from. `at_default` are what was said beforehand: probabilities
    as they are, at 0.5. The calibrator is not fitted anew in the resamples of `spread`.
    """

    calibrator: Calibrator
    choice: Choice
    spread: ThresholdSpread | None
    metrics: Metrics
    intervals: Mapping[str, Interval]
    at_default: Metrics
    clustered: bool

    def to_json(self) -> dict[str, Any]:
        """The mapping that is written; see `read`."""
        return {
            "calibrator": self.calibrator.to_json(),
            "threshold": self.choice.to_json(),
            "threshold_spread": None if self.spread is None else self.spread.to_json(),
            "metrics": self.metrics.to_json(),
            "intervals": {name: i.to_json() for name, i in self.intervals.items()},
            "default_threshold": DEFAULT,
            "at_default": self.at_default.to_json(),
            "clustered": self.clustered,
        }


def by_definition(threshold: float) -> Decision:
    """A threshold that nothing was fitted for, on probabilities as they are."""
    return Decision(calibration.identity(BY_DEFINITION), threshold, BY_DEFINITION)


def decide(
    rows: Sequence[ScoredExample],
    threshold: ThresholdConfig,
    calibration: CalibrationConfig,
    groups: Sequence[str | None] | None = None,
    *,
    seed: int = 0,
) -> Decided:
    """Fit the calibrator, then the threshold, on rows of val; `groups` keeps rows together."""
    raw = columns(rows)
    calibrator = calibrate(raw.positive, raw.probability, calibration, groups, seed=seed)
    calibrated = calibrator.apply_to(rows)
    c = columns(calibrated)
    choice = choose_by(c.positive, c.probability, threshold)
    at, moved = choice.value, None
    if at is not None and not units_of(c.positive, groups).too_few:
        moved = spread(c.positive, c.probability, at, threshold, groups, seed=seed)
    judged = Judged.of(c, at, choice.reason)
    return Decided(
        calibrator=calibrator,
        choice=choice,
        spread=moved,
        metrics=compute(calibrated, at, choice.reason),
        intervals=intervals(c.positive, [judged], groups, resamples=RESAMPLES, seed=seed)[0],
        at_default=compute(rows, DEFAULT),
        clustered=groups is not None and any(g is not None for g in groups),
    )


def read(path: Path) -> Decision:
    """The frozen part of a file that the decide stage wrote."""
    value = jsonio.read_json(path)
    choice = value["threshold"]
    return Decision(calibration.from_json(value["calibrator"]), choice["value"], choice["reason"])
