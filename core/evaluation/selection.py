"""Checkpoint selection on val, and early stopping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.config.measure import METRICS, EarlyStopping
from core.errors import StageError
from core.evaluation.metrics import Metrics, better, lower_is_better

UNTRAINED = "the untrained model"


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
