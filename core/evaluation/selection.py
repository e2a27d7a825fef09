"""Which checkpoint is best, whether training taught it anything, and when to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.config.measure import METRICS, EarlyStopping
from core.errors import StageError
from core.evaluation.metrics import Metrics, better, value


@dataclass(frozen=True, slots=True)
class EvaluatedCheckpoint:
    """A step and its metrics on val. Step 0 is what training began with, as a rule the untrained model."""

    step: int
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen step. `beats_untrained` is None where the untrained model was not evaluated."""

    step: int
    metric: str
    value: float | None
    untrained_value: float | None
    beats_untrained: bool | None
    reason: str

    @property
    def score(self) -> float | None:
        """The value with its sign turned where smaller is better, so that larger always is."""
        if self.value is None:
            return None
        return self.value if better(self.metric, 1.0, 0.0) else -self.value


UNTRAINED = "the untrained model"


def select(evaluations: Sequence[EvaluatedCheckpoint], metric: str, *, begun: str = UNTRAINED) -> Selection:
    """The best step by `metric`: strict improvement, so the earliest wins a tie; `begun` is what step 0 is.

    Raises StageError without evaluations, or with two of one step.
    """
    by_step = sorted(evaluations, key=lambda e: e.step)
    steps = [e.step for e in by_step]
    if not steps:
        raise StageError("no checkpoint was evaluated, so none can be chosen")
    if len(set(steps)) < len(steps):
        raise StageError(f"a step was evaluated twice, so the choice would be arbitrary: {steps}")
    best = by_step[0]
    for candidate in by_step[1:]:
        if better(metric, value(candidate.metrics, metric), value(best.metrics, metric)):
            best = candidate
    return _selection(best, by_step, metric, begun)


def should_stop(values: Sequence[float | None], stopping: EarlyStopping | None, metric: str) -> bool:
    """Whether the last `patience` values, in the order of steps, brought nothing better.

    The first value is the untrained model's. An undefined value is no improvement.
    """
    if stopping is None or not values:
        return False
    best_at = 0
    for i in range(1, len(values)):
        if better(metric, values[i], values[best_at], by=stopping.min_delta):
            best_at = i
    return len(values) - 1 - best_at >= stopping.patience


def _selection(
    best: EvaluatedCheckpoint, by_step: Sequence[EvaluatedCheckpoint], metric: str, begun: str
) -> Selection:
    chosen = value(best.metrics, metric)
    has_untrained = by_step[0].step == 0
    untrained = value(by_step[0].metrics, metric) if has_untrained else None
    beats = better(metric, chosen, untrained) if has_untrained else None
    return Selection(
        step=best.step,
        metric=metric,
        value=chosen,
        untrained_value=untrained,
        beats_untrained=beats,
        reason=_reason(best.step, len(by_step), metric, (chosen, untrained), beats, begun),
    )


def _reason(
    step: int,
    of: int,
    metric: str,
    values: tuple[float | None, float | None],
    beats: bool | None,
    begun: str,
) -> str:
    name, (chosen, untrained) = METRICS.get(metric).title, values
    if chosen is None:
        return f"On val {name} is undefined at all {of} evaluations; step {step} is the earliest."
    if beats is False:
        return (
            f"No trained checkpoint beats {begun} on val: its {name} of "
            f"{chosen:.3f} is the best of {of} evaluations, so training taught nothing that val shows."
        )
    found = f"Step {step} has the best {name} on val, {chosen:.3f}, of {of} evaluations"
    if beats is None:
        return f"{found}; {begun} was not evaluated."
    before = "undefined" if untrained is None else f"{untrained:.3f}"
    return f"{found}; {begun} has {before}."
