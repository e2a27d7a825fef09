"""The training loop of a run: segments one after another, each followed by its evaluation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from core.config import EarlyStopping
from core.errors import MissingInputError
from core.evaluation.decision import should_stop
from core.evaluation.metrics import Metrics
from core.evaluation.student_scores import METRICS_FILE, MeasureSettings, evaluate, read_metrics
from core.pipeline.run_folder import Histories
from core.pipeline.runners import At, PendingStage, Runner
from core.stage import StageCall
from core.store import Manifest
from core.student.encode_stage import DATA_FILE, read_data, read_set
from core.student.train_stage import (
    PlannedSegment,
    PlannedStep,
    SegmentSettings,
    plan_segments,
    plan_steps,
    train,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trained:
    """The checkpoints of a run by step, and their metrics on val.

    Step 0 is the untrained model, which is evaluated but not a checkpoint, or the start of reinforcement.
    """

    checkpoints: dict[int, Manifest] = field(default_factory=dict)
    evaluations: dict[int, Manifest] = field(default_factory=dict)
    curve: dict[int, Metrics] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The last step that was trained; 0 if none was."""
        return max(self.checkpoints, default=0)

    @property
    def segments(self) -> list[Manifest]:
        """The objects of the segments that were trained, in their order."""
        return [manifest for step, manifest in sorted(self.checkpoints.items()) if step > 0]

    def add(self, step: int, manifest: Manifest, metrics: Metrics) -> None:
        """Add an evaluation; it replaces an earlier one of the same step."""
        self.evaluations[step] = manifest
        self.curve[step] = metrics


def train_and_evaluate(run: Runner, histories: Histories, split: Manifest, encoded: Manifest) -> Trained:
    """Train to the last step or to early stopping, which depends on steps and never on arrival.

    If training is the last stage that is on, nothing is evaluated unless training may stop early.
    """
    config, steps = run.config, planned_steps(run, encoded)

    def segment(part: PlannedSegment, parent: Manifest | None) -> StageCall:
        at = {"first": part.start + 1, "stop": part.stop, "total": len(steps)}
        data = partial(run.read, encoded, DATA_FILE, read_data)
        given = {"steps": steps[part.start : part.stop], "total": len(steps), "data": data}
        return run.call(train, SegmentSettings.of(config), at, given, parent=parent)

    stopping = config.evaluation.early_stopping
    loop = TrainingLoop(run, histories, split, planned_segments(run, steps), segment, stopping)
    loop.train(evaluates=run.switches.last != "train" or stopping is not None)
    return loop.trained


def planned_steps(run: Runner, encoded: Manifest) -> list[PlannedStep]:
    examples = run.read(encoded, DATA_FILE, read_set)
    return plan_steps(run.config.student, run.config.training_seed, examples.labels, examples.hashes)


def planned_segments(run: Runner, steps: Sequence[PlannedStep]) -> list[PlannedSegment]:
    """Where training stops to save and to evaluate."""
    config = run.config
    return plan_segments(len(steps), config.evaluation.interval, config.student.save_every)


class TrainingLoop:
    """Trains segments, each from the one before, and evaluates their checkpoints on val.

    A server deletes checkpoints after a time. One that is needed and gone is trained again from the newest
    one before it that exists, and evaluated again; one that is not needed is not restored.
    """

    def __init__(
        self,
        run: Runner,
        histories: Histories,
        split: Manifest,
        segments: Sequence[PlannedSegment],
        call: Callable[[PlannedSegment, Manifest | None], StageCall],
        stopping: EarlyStopping | None,
        start: Manifest | None = None,
    ) -> None:
        """`call` builds a segment from its parent; `start` is the checkpoint of step 0, if it is one."""
        self._run, self._histories, self._split = run, histories, split
        self._segments, self._call, self._stopping = segments, call, stopping
        self.trained = Trained({} if start is None else {0: start})
        self._waiting: list[tuple[int, PendingStage]] = []

    def train(self, also: Callable[[int], None] = lambda step: None, *, evaluates: bool = True) -> None:
        """Train every segment until the last one or an early stop, and evaluate where that is planned.

        `also` is called with every step to evaluate, 0 included. At the end no evaluation is pending, also
        if something failed.
        """
        try:
            self._train(also, evaluates=evaluates)
            while self._waiting:
                self._record_first()
        finally:
            for _, pending in self._waiting:
                pending.release()

    def measuring(self, step: int, call: Callable[[Manifest | None], StageCall]) -> StageCall:
        """A call that measures the checkpoint of a step, which is trained again if a server deleted it."""
        found = call(self.trained.checkpoints.get(step))
        expire = self._run.context.capabilities.checkpoints_expire
        if expire and step in self.trained.checkpoints and self._run.must_build(found):
            self._ensure(step)
            return call(self.trained.checkpoints[step])
        return found

    def _train(self, also: Callable[[int], None], *, evaluates: bool) -> None:
        def measure(step: int) -> None:
            if evaluates:
                self._evaluate(step)
            also(step)

        measure(0)
        for i, segment in enumerate(self._segments):
            expire = self._run.context.capabilities.checkpoints_expire
            if expire and self._run.must_build(self._segment_call(i)):
                self._ensure(self._segments[i - 1].stop if i else 0)
            self._do(i)
            if segment.evaluate:
                measure(segment.stop)
                if self._stops_early():
                    log.info("early stopping after step %d of %d", segment.stop, self._segments[-1].stop)
                    break

    def _segment_call(self, i: int) -> StageCall:
        parent = self.trained.checkpoints[self._segments[i - 1].stop] if i else None
        return self._call(self._segments[i], parent)

    def _do(self, i: int, *, refresh: bool = False) -> None:
        stop, manifest = self._segments[i].stop, self._run.do(self._segment_call(i), refresh=refresh)
        self.trained.checkpoints[stop] = manifest
        if self._run.executes:
            self._histories.segment(stop, manifest)

    def _ensure(self, step: int) -> None:
        """Make sure that the server has the checkpoint of a step that was trained.

        Raises MissingInputError if the start of reinforcement, which another run trained, is gone.
        """
        if step == 0:
            start = self.trained.checkpoints.get(0)
            if start is not None and not self._exists(start):
                raise MissingInputError(
                    "the server deleted the student to start from; run `understudy run` with its config and "
                    "--refresh train, which trains it again"
                )
            return
        stops = [segment.stop for segment in self._segments]
        last = stops.index(step)
        newest = next(
            (i for i in range(last, -1, -1) if self._exists(self.trained.checkpoints[stops[i]])), -1
        )
        if newest == last:
            return
        at = f"step {stops[newest]}" if newest >= 0 else "the start"
        log.warning("the server deleted the checkpoint of step %d: training again from %s", step, at)
        for i in range(newest + 1, last + 1):
            self._do(i, refresh=True)
            if stops[i] in self.trained.evaluations:  # the metrics of the deleted weights do not apply
                self._evaluate(stops[i])

    def _exists(self, checkpoint: Manifest) -> bool:
        return self._run.context.checkpoint_exists(self._run.store.folder(checkpoint))

    def _stops_early(self) -> bool:
        """Whether early stopping ends training here; pending evaluations do not stop it."""
        metric = self._run.config.evaluation.metric
        values = [metrics[metric] for _, metrics in sorted(self.trained.curve.items())]
        return not self._waiting and should_stop(values, self._stopping, metric)

    def _evaluate(self, step: int) -> None:
        """Evaluate the checkpoint of a step, now or while training continues."""
        settings = MeasureSettings.for_evaluation(self._run.config)
        at: At = {"phase": self._histories.phase, "step": step}

        def evaluation(checkpoint: Manifest | None) -> StageCall:
            return self._run.call(evaluate, settings, at, split=self._split, checkpoint=checkpoint)

        # With early stopping, training waits for each result.
        overlap = self._stopping is None and self._run.context.capabilities.overlaps_evaluation
        self._waiting.append((step, self._run.submit(self.measuring(step, evaluation), overlap=overlap)))
        # In the order of steps. An evaluation that failed stops the run here, and not at its end.
        while self._waiting and self._waiting[0][1].done():
            self._record_first()

    def _record_first(self) -> None:
        step, pending = self._waiting.pop(0)
        manifest, run, prefix = pending.result(), self._run, self._histories.phase.prefix
        metrics = run.read(manifest, METRICS_FILE, read_metrics)
        self.trained.add(step, manifest, metrics)
        if not run.executes:
            return
        self._histories.evaluate(step, metrics, manifest, self.trained.checkpoints.get(step), self._split)
        chosen_by = run.config.evaluation.metric
        values = [metrics[name] for name in (chosen_by, "auroc", "log_loss", "invalid_label_rate")]
        shown = ["undefined" if value is None else f"{value:.4f}" for value in values]
        what = "%sstep %d on val: %s %s, AUROC %s, log loss %s, invalid %s"
        log.info(what, prefix, step, chosen_by, *shown)
        rate = metrics.invalid_label_rate
        if step > 0 and rate is not None and rate > run.config.evaluation.invalid_warn_rate:
            log.warning("step %d: %.0f %% of val has no valid label at the label's place", step, 100 * rate)
