"""The training loop of a run: segments one after another, each followed by its evaluation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from core.config.measure import EarlyStopping
from core.errors import MissingInputError
from core.evaluation.metrics import Metrics, value
from core.evaluation.selection import EvaluatedCheckpoint, should_stop
from core.evaluation.stages import METRICS, MeasureSettings, evaluate, read_metrics
from core.pipeline.run_folder import RunFolder, evaluation_row
from core.pipeline.runners import Pending, Runner
from core.stage import StageCall
from core.store.manifest import Manifest
from core.student import plan
from core.student.plan import PlannedSegment, PlannedStep
from core.student.segment import SegmentSettings, train
from core.student.stage import read_data, read_set

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trained:
    """The checkpoints of a run by step, and their metrics on val.

    Step 0 is the untrained model: evaluated, but no checkpoint; or the start of reinforcement.
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


def train_and_evaluate(run: Runner, folder: RunFolder, split: Manifest, encoded: Manifest) -> Trained:
    """Train to the last step or to early stopping, which goes by steps and never by arrival.

    If training is the last stage that is on, nothing is evaluated unless training may stop early.
    """
    config, examples = run.config, run.store.folder(encoded)
    steps = planned_steps(run, encoded)

    def segment(part: PlannedSegment, parent: Manifest | None) -> StageCall:
        own = steps[part.start : part.stop]
        given = {"steps": own, "total": len(steps), "data": partial(read_data, examples)}
        at = {"first": part.start + 1, "stop": part.stop, "total": len(steps)}
        return run.call(train, SegmentSettings.of(config), at, given, parent=parent)

    trained = Trained({}, {}, [])
    stopping = config.evaluation.early_stopping
    measures = run.switches.last != "train" or stopping is not None
    with Evaluations(run, folder, split, trained, stopping, measures=measures) as evaluations:
        chain = SegmentChain(run, trained, planned_segments(run, steps), segment, folder.train)
        chain.train_all(evaluations)
    return trained


def planned_steps(run: Runner, encoded: Manifest) -> list[PlannedStep]:
    """The training steps over the encoded examples."""
    examples = read_set(run.store.folder(encoded))
    return plan.plan(run.config.student, run.config.training_seed, examples.labels, examples.hashes)


def planned_segments(run: Runner, steps: Sequence[PlannedStep]) -> list[PlannedSegment]:
    """Where training stops to save and to evaluate."""
    config = run.config
    return plan.segments(len(steps), config.evaluation.interval, config.student.save_every)


class Evaluations:
    """Measures checkpoints on val, and records the results by their steps, never by arrival.

    Use it as a context: at its end every evaluation has been waited for, also if something failed.
    """

    def __init__(
        self,
        run: Runner,
        folder: RunFolder,
        split: Manifest,
        trained: Trained,
        stopping: EarlyStopping | None,
        *,
        measures: bool = True,
    ) -> None:
        """Unless it `measures`, nothing is evaluated: only training is on."""
        self._run, self._folder, self._split, self.trained = run, folder, split, trained
        self._stopping, self._measures = stopping, measures
        self._waiting: list[tuple[int, Pending]] = []

    def __enter__(self) -> Evaluations:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            while error is None and self._waiting:
                self._record_first()
        finally:
            for _, pending in self._waiting:
                pending.release()

    def measure(self, step: int, ensure: Callable[[int], None]) -> None:
        """Evaluate the checkpoint of a step, now or while training continues.

        `ensure` trains the checkpoint again if a server deleted it.
        """
        if not self._measures:
            return
        run = self._run
        call = self._call(step)
        can = run.context.capabilities
        missing = (can.checkpoints_expire or can.overlaps_evaluation) and run.must_build(call)
        if missing and can.checkpoints_expire and step in self.trained.checkpoints:
            ensure(step)
            call = self._call(step)
        self._waiting.append((step, run.submit(call, overlap=missing and self._may_overlap)))
        # In the order of steps. An evaluation that failed stops the run here, and not at its end.
        while self._waiting and self._waiting[0][1].done():
            self._record_first()

    def stop_early(self) -> bool:
        """Whether early stopping ends training here; what is not measured yet stops nothing."""
        metric = self._run.config.evaluation.metric
        values = [value(point.metrics, metric) for point in self.trained.curve]
        return not self._waiting and should_stop(values, self._stopping, metric)

    def _call(self, step: int) -> StageCall:
        settings = MeasureSettings.for_evaluation(self._run.config)
        at = {"phase": self._folder.phase, "step": step}
        checkpoint = self.trained.checkpoints.get(step)
        return self._run.call(evaluate, settings, at, split=self._split, checkpoint=checkpoint)

    @property
    def _may_overlap(self) -> bool:
        """With early stopping, training waits for each result."""
        return self._stopping is None and self._run.context.capabilities.overlaps_evaluation

    def _record_first(self) -> None:
        step, pending = self._waiting.pop(0)
        manifest, run = pending.result(), self._run
        metrics = metrics_of(run, manifest)
        self.trained.add(step, manifest, metrics)
        checkpoint = self.trained.checkpoints.get(step)
        name = run.resolved.run_name
        self._folder.evaluate(step, evaluation_row(manifest, checkpoint, self._split, metrics, step, name))
        chosen_by = run.config.evaluation.metric
        log.info(
            "%sstep %d on val: %s %s, AUROC %s, log loss %s, invalid %s",
            self._folder.phase.said,
            step,
            chosen_by,
            *(_shown(value(metrics, m)) for m in (chosen_by, "auroc", "log_loss", "invalid_label_rate")),
        )
        rate = metrics.invalid_label_rate
        if step > 0 and rate is not None and rate > run.config.evaluation.invalid_warn_rate:
            log.warning("step %d: %.0f %% of val has no valid label at the label's place", step, 100 * rate)


class SegmentChain:
    """The segments of a training, each from the one before.

    A server deletes checkpoints after a time. One that is needed and gone is trained again from the newest
    one before it that exists, and evaluated again; one that nobody needs is not restored.
    """

    def __init__(
        self,
        run: Runner,
        trained: Trained,
        segments: Sequence[PlannedSegment],
        call: Callable[[PlannedSegment, Manifest | None], StageCall],
        show: Callable[[int, Manifest], None],
    ) -> None:
        """`call` builds a segment from its parent, `show` writes it to the run's folder."""
        self._run, self._trained, self._segments, self._call, self._show = run, trained, segments, call, show
        self._evaluations: Evaluations | None = None

    def train_all(self, evaluations: Evaluations, also: Callable[[int], None] | None = None) -> None:
        """Train every segment and evaluate where that is planned, until the last one or an early stop.

        `also` is called with every step that is evaluated, 0 included.
        """
        self._evaluations = evaluations

        def measure(step: int) -> None:
            evaluations.measure(step, self.ensure)
            if also is not None:
                also(step)

        measure(0)
        for i, segment in enumerate(self._segments):
            if self._run.context.capabilities.checkpoints_expire and self._run.must_build(
                self._segment_call(i)
            ):
                self.ensure(self._segments[i - 1].stop if i else 0)
            self._do(i)
            if segment.evaluate:
                measure(segment.stop)
                if evaluations.stop_early():
                    log.info("early stopping after step %d of %d", segment.stop, self._segments[-1].stop)
                    break

    def ensure(self, step: int) -> None:
        """Make sure that the server has the checkpoint of a step that was trained."""
        if step == 0:
            self._require_start()
            return
        last = next(i for i, segment in enumerate(self._segments) if segment.stop == step)
        newest = next((i for i in range(last, -1, -1) if self._exists(i)), -1)
        if newest == last:
            return
        at = f"step {self._segments[newest].stop}" if newest >= 0 else "the start"
        log.warning("the server deleted the checkpoint of step %d: training again from %s", step, at)
        for i in range(newest + 1, last + 1):
            self._do(i, refresh=True)
            # The metrics of the deleted weights do not apply to these.
            if self._evaluations is not None and self._segments[i].stop in self._trained.evaluations:
                self._evaluations.measure(self._segments[i].stop, self.ensure)

    def _require_start(self) -> None:
        """The start of reinforcement was trained by another chain; the base model is always there."""
        start = self._trained.checkpoints.get(0)
        if start is not None and not self._run.context.checkpoint_exists(self._run.store.folder(start)):
            raise MissingInputError(
                "the server deleted the student to begin with; run `understudy run` with its config and "
                "--refresh train, which trains it again"
            )

    def _exists(self, i: int) -> bool:
        manifest = self._trained.checkpoints[self._segments[i].stop]
        return self._run.context.checkpoint_exists(self._run.store.folder(manifest))

    def _do(self, i: int, *, refresh: bool = False) -> None:
        stop, manifest = self._segments[i].stop, self._run.do(self._segment_call(i), refresh=refresh)
        self._trained.checkpoints[stop] = manifest
        if self._run.executes:
            self._show(stop, manifest)

    def _segment_call(self, i: int) -> StageCall:
        parent = self._trained.checkpoints[self._segments[i - 1].stop] if i else None
        return self._call(self._segments[i], parent)


def metrics_of(run: Runner, evaluation: Manifest) -> Metrics:
    """The metrics of an evaluation."""
    return read_metrics(run.store.file(evaluation, METRICS))


def _shown(number: float | None) -> str:
    return "undefined" if number is None else f"{number:.4f}"
