"""What the parts of the flow need of a run, be it carried out or only planned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from core.config import Config
from core.config.measure import EarlyStopping
from core.evaluation.metrics import Metrics, value
from core.evaluation.selection import EvaluatedCheckpoint, should_stop
from core.evaluation.stage import METRICS, read_metrics
from core.optional import Part
from core.pipeline.stages import Pipeline
from core.stages import Stage
from core.store.manifest import Manifest
from core.store.objects import Store


class Walk(Protocol):
    """A run on its way through the pipeline."""

    @property
    def config(self) -> Config: ...

    @property
    def store(self) -> Store: ...

    @property
    def pipeline(self) -> Pipeline: ...

    def do_built(self, stage: Stage, file: str) -> Manifest:
        """The manifest of a stage; `file` is what a reader of the run's folder would look for."""

    def do_without(self, build: Callable[[tuple[Part, ...]], Stage], file: str) -> Manifest:
        """The manifest of a stage, made without those of its optional parts that fail."""

    def optional(self, part: Part, detail: str = "") -> AbstractContextManager[None]:
        """What fails inside is recorded, and the run continues without it."""

    def leave_out(self, part: Part, error: Exception) -> None:
        """Record a part that is known to be impossible."""

    def reads_test(self, parts: Manifest, frozen: Sequence[Manifest], what: str) -> None:
        """The next thing that is measured on test is what `frozen` consists of."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The checkpoints of a run by step, and what they reached on val.

    Step 0 is the untrained model: evaluated, but no checkpoint; or what reinforcement began with.
    """

    checkpoints: dict[int, Manifest]
    evaluations: dict[int, Manifest]
    curve: list[EvaluatedCheckpoint]

    @property
    def last(self) -> int:
        """The last step that was trained."""
        return max(self.checkpoints)

    def add(self, step: int, manifest: Manifest, metrics: Metrics) -> None:
        """Note an evaluation; an earlier one of the same step is replaced."""
        self.evaluations[step] = manifest
        self.curve[:] = [point for point in self.curve if point.step != step]
        self.curve.append(EvaluatedCheckpoint(step, metrics))
        self.curve.sort(key=lambda point: point.step)


def metrics_of(walk: Walk, manifest: Manifest) -> Metrics:
    """The metrics that a stage measured."""
    return read_metrics(walk.store.file(manifest, METRICS))


def stops(run: Walk, trained: Trained, stopping: EarlyStopping | None) -> bool:
    """Whether early stopping ends training after the last evaluation."""
    metric = run.config.evaluation.metric
    return should_stop([value(point.metrics, metric) for point in trained.curve], stopping, metric)
