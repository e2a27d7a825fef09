"""What is chosen on val and then frozen: the checkpoint, the calibrator, and the threshold on calibrated
probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core import jsonio
from core.config import METRICS, CalibrationConfig, Config, EarlyStopping, MeasuringSettings, ThresholdConfig
from core.errors import StageError
from core.evaluation.bootstrap import Judged, intervals, units_of
from core.evaluation.calibration import Calibrator, calibrate, confidence
from core.evaluation.metrics import Metrics, better, compute, lower_is_better
from core.evaluation.predictions import SCORES, Bools, Predictions, at_or_above
from core.evaluation.threshold import DEFAULT, Choice, ThresholdSpread, choose, spread
from core.intervals import Interval
from core.jsonio import Record
from core.records import read_examples
from core.stage import StageIO, stage

DECISION = "decision.json"
BY_DEFINITION = "by definition"
UNTRAINED = "the untrained model"


@dataclass(frozen=True, slots=True)
class Decision:
    """A calibrator, and the threshold on calibrated probabilities; None if none reaches the objective.

    Its methods take predictions before calibration.
    """

    calibrator: Calibrator
    threshold: float | None
    reason: str

    @staticmethod
    def by_definition(threshold: float) -> Decision:
        """Return a decision that nothing was fitted for, on probabilities as they are."""
        return Decision(Calibrator.identity(BY_DEFINITION), threshold, BY_DEFINITION)

    @staticmethod
    def read(path: Path) -> Decision:
        """Return the frozen part of a file that the decide stage wrote."""
        value = jsonio.read_json(path)
        chosen = value["threshold"]
        return Decision(Calibrator(**value["calibrator"]), chosen["value"], chosen["reason"])

    def calibrated(self, p: Predictions) -> Predictions:
        return self.calibrator.apply_to(p)

    def predicted(self, p: Predictions) -> Bools | None:
        """Return which rows are predicted positive; None without a threshold."""
        at = self.threshold
        return None if at is None else at_or_above(self.calibrated(p).probability, at)

    def metrics(self, p: Predictions) -> Metrics:
        """Return all metrics of the rows that no server failed on."""
        return compute(self.calibrated(p.without_failed()), self.threshold, self.reason)


def worst_errors(p: Predictions, decision: Decision, most: int) -> list[int]:
    """Return at most `most` rows, before calibration, that are decided wrongly, the most confident first.

    Rows without a probability come last, and equal ones in their order. Rows that a server failed on are not
    decided, and none is without a threshold.
    """
    predicted = decision.predicted(p)
    if predicted is None or decision.threshold is None:
        return []
    away = confidence(decision.calibrated(p).probability, decision.threshold)
    wrong = np.flatnonzero((predicted != p.positive) & ~p.failed)
    return [int(i) for i in wrong[np.argsort(-away[wrong], kind="stable")][:most]]


class Decided(Record):
    """The content of decision.json: how a decision was fitted, and what it does on the rows it was fitted to.

    `metrics` and `intervals` are of calibrated probabilities at the threshold, `at_default` of probabilities
    before calibration at 0.5. The calibrator is not fitted again in the resamples of `threshold_spread`.
    """

    calibrator: Calibrator
    threshold: Choice
    threshold_spread: ThresholdSpread | None
    """None without a threshold, or with too few groups to draw from."""
    metrics: Metrics
    intervals: dict[str, Interval]
    default_threshold: float = DEFAULT
    at_default: Metrics
    clustered: bool


def fit_decision(
    p: Predictions,
    threshold: ThresholdConfig,
    calibration: CalibrationConfig,
    groups: Sequence[str | None] | None = None,
    *,
    seed: int = 0,
) -> Decided:
    """Fit the calibrator, then the threshold, on rows of val; `groups` keeps rows together."""
    calibrator = calibrate(p.positive, p.probability, calibration, groups, seed=seed)
    c, units = calibrator.apply_to(p), units_of(p.positive, groups)
    choice, moved = choose(c.positive, c.probability, threshold), None
    if choice.value is not None and not units.too_few:
        moved = spread(c.positive, c.probability, choice.value, threshold, groups, seed=seed)
    judged = Judged.of(c, choice.value, choice.reason)
    return Decided(
        calibrator=calibrator,
        threshold=choice,
        threshold_spread=moved,
        metrics=compute(c, choice.value, choice.reason),
        intervals=intervals(c.positive, [judged], groups, seed=seed)[0],
        at_default=compute(p, DEFAULT),
        clustered=units.clustered,
    )


class DecideSettings(MeasuringSettings):
    """Settings of the decide stage. `scores` is the file of the input `scored` with val's scores; `seed`
    draws the resamples, and the folds of auto calibration."""

    threshold: ThresholdConfig
    calibration: CalibrationConfig
    scores: str = SCORES
    seed: int

    @classmethod
    def of(cls, config: Config, file: str = SCORES) -> DecideSettings:
        own = config.evaluation
        return cls(threshold=own.threshold, calibration=own.calibration, scores=file, seed=config.seed)


@stage(
    "decide",
    version=2,
    inputs=("split", "scored"),
    switch="export",
    shows="student_phase/decision.json",
    slot="decide/{who}",
    label="decide the threshold of {who}",
)
def decide(settings: DecideSettings, io: StageIO) -> dict[str, Any]:
    """Write decision.json. Inputs: `scored`, and `split` for the rows' groups.

    Rows that a server failed on are left out. Raises StageError if a scored row is not in val.
    """
    scored = Predictions.read(io.input("scored") / settings.scores).without_failed()
    group_of = {e.id: e.group for e in read_examples(io.input("split") / "val.csv")}
    if strange := [name for name in scored.ids if name not in group_of]:
        raise StageError(
            f"{settings.scores} contains {len(strange)} rows that are not of val, {strange[0]} for one: "
            "calibration and threshold are fitted on val only"
        )
    groups = [group_of[name] for name in scored.ids]
    found = fit_decision(scored, settings.threshold, settings.calibration, groups, seed=settings.seed)
    found.write(io.out / DECISION)
    at = {"threshold": found.threshold.value, "reason": found.threshold.reason}
    return {"rows": len(scored), "calibration": found.calibrator.kind, **at}


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen step. `beats_untrained` is None if the untrained model was not evaluated."""

    step: int
    metric: str
    value: float | None
    beats_untrained: bool | None
    reason: str

    @property
    def score(self) -> float | None:
        """The value, negated where smaller is better, so that larger always is."""
        if self.value is None:
            return None
        return -self.value if lower_is_better(self.metric) else self.value


def select(curve: Mapping[int, Metrics], metric: str, *, begun: str = UNTRAINED) -> Selection:
    """Return the best step of `curve`, metrics on val by step; the earliest wins a tie.

    `begun` names step 0, the start of training, in the reason. Raises StageError without evaluations.
    """
    if not curve:
        raise StageError("no checkpoint was evaluated, so none can be chosen")
    steps = sorted(curve)
    values = [curve[step][metric] for step in steps]
    best = _last_improvement(values, metric)
    untrained = values[0] if steps[0] == 0 else None
    beats = better(metric, values[best], untrained) if steps[0] == 0 else None
    step, chosen, name, many = steps[best], values[best], METRICS.get(metric).title, len(values)
    if chosen is None:
        reason = f"On val {name} is undefined at all {many} evaluations; step {step} is the earliest."
    elif beats is False:
        reason = (
            f"No trained checkpoint beats {begun} on val: its {name} of {chosen:.3f} is the best of {many} "
            "evaluations, so training taught nothing that val shows."
        )
    else:
        start = "was not evaluated" if beats is None else "has undefined"
        if untrained is not None:
            start = f"has {untrained:.3f}"
        found = f"Step {step} has the best {name} on val, {chosen:.3f}, of {many} evaluations"
        reason = f"{found}; {begun} {start}."
    return Selection(step, metric, chosen, beats, reason)


def should_stop(values: Sequence[float | None], stopping: EarlyStopping | None, metric: str) -> bool:
    """Return whether the last `patience` values, in the order of steps, have no improvement.

    The first value is the untrained model's. An undefined value does not improve.
    """
    if stopping is None or not values:
        return False
    return len(values) - 1 - _last_improvement(values, metric, stopping.min_delta) >= stopping.patience


def _last_improvement(values: Sequence[float | None], metric: str, by: float = 0.0) -> int:
    """Return the place of the last value that is better, by more than `by`, than the best before it."""
    best = 0
    for i in range(1, len(values)):
        if better(metric, values[i], values[best], by=by):
            best = i
    return best
