"""The training loop of a run: segments one after another, each followed by its evaluation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from core.config.measure import EarlyStopping
from core.errors import MissingInputError
from core.evaluation.metrics import Metrics
from core.evaluation.selection import should_stop
from core.evaluation.stages import METRICS_FILE, MeasureSettings, evaluate, read_metrics
from core.pipeline.run_folder import RunFolder
from core.pipeline.runners import At, Pending, Runner
from core.stage import StageCall
from core.store.manifest import Manifest
from core.student import plan
from core.student.plan import PlannedSegment, PlannedStep
from core.student.segment import SegmentSettings, train
from core.student.stage import DATA_FILE, read_data, read_set

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trained:
    """The checkpoints of a run by step, and their metrics on val.

    Step 0 is the untrained model, which is evaluated but not a checkpoint, or the start of reinforcement.
    """

    checkpoints: dict[int, Manifest]
    evaluations: dict[int, Manifest]
    curve: dict[int, Metrics]

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


def train_and_evaluate(run: Runner, folder: RunFolder, split: Manifest, encoded: Manifest) -> Trained:
    """Train to the last step or to early stopping, which depends on steps and never on arrival.

    If training is the last stage that is on, nothing is evaluated unless training may stop early.
    """
    config, steps = run.config, planned_steps(run, encoded)

    def segment(part: PlannedSegment, parent: Manifest | None) -> StageCall:
        own = steps[part.start : part.stop]
        at = {"first": part.start + 1, "stop": part.stop, "total": len(steps)}
        call = run.call(train, SegmentSettings.of(config), at, parent=parent)
        data = partial(run.read, encoded, DATA_FILE, read_data)
        return call.giving(steps=own, total=len(steps), data=data)

    trained = Trained({}, {}, {})
    stopping = config.evaluation.early_stopping
    measures = run.switches.last != "train" or stopping is not None
    with Evaluations(run, folder, split, trained, stopping, measures=measures) as evaluations:
        chain = SegmentChain(run, trained, planned_segments(run, steps), segment, folder.train)
        chain.train_all(evaluations)
    return trained


def planned_steps(run: Runner, encoded: Manifest) -> list[PlannedStep]:
    examples = run.read(encoded, DATA_FILE, read_set)
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
        self._run, self._folder, self._split, self._trained = run, folder, split, trained
        self._stopping, self._measures = stopping, measures
        self._waiting: list[tuple[int, Pending]] = []

    def __enter__(self) -> Evaluations:
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
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
        run, can, call = self._run, self._run.context.capabilities, self._call(step)
        missing = (can.checkpoints_expire or can.overlaps_evaluation) and run.must_build(call)
        if missing and can.checkpoints_expire and step in self._trained.checkpoints:
            ensure(step)
            call = self._call(step)
        # With early stopping, training waits for each result.
        overlap = missing and self._stopping is None and can.overlaps_evaluation
        self._waiting.append((step, run.submit(call, overlap=overlap)))
        # In the order of steps. An evaluation that failed stops the run here, and not at its end.
        while self._waiting and self._waiting[0][1].done():
            self._record_first()

    def stop_early(self) -> bool:
        """Whether early stopping ends training here; pending evaluations do not stop it."""
        metric = self._run.config.evaluation.metric
        values = [metrics[metric] for _, metrics in sorted(self._trained.curve.items())]
        return not self._waiting and should_stop(values, self._stopping, metric)

    def _call(self, step: int) -> StageCall:
        settings = MeasureSettings.for_evaluation(self._run.config)
        at: At = {"phase": self._folder.phase, "step": step}
        checkpoint = self._trained.checkpoints.get(step)
        return self._run.call(evaluate, settings, at, split=self._split, checkpoint=checkpoint)

    def _record_first(self) -> None:
        step, pending = self._waiting.pop(0)
        manifest, run = pending.result(), self._run
        metrics = run.read(manifest, METRICS_FILE, read_metrics)
        self._trained.add(step, manifest, metrics)
        if not run.executes:
            return
        self._folder.evaluate(step, metrics, manifest, self._trained.checkpoints.get(step), self._split)
        chosen_by, prefix = run.config.evaluation.metric, self._folder.phase.prefix
        values = [metrics[name] for name in (chosen_by, "auroc", "log_loss", "invalid_label_rate")]
        shown = ["undefined" if value is None else f"{value:.4f}" for value in values]
        what = "%sstep %d on val: %s %s, AUROC %s, log loss %s, invalid %s"
        log.info(what, prefix, step, chosen_by, *shown)
        rate = metrics.invalid_label_rate
        if step > 0 and rate is not None and rate > run.config.evaluation.invalid_warn_rate:
            log.warning("step %d: %.0f %% of val has no valid label at the label's place", step, 100 * rate)


class SegmentChain:
    """The segments of a training, each from the one before.

    A server deletes checkpoints after a time. One that is needed and gone is trained again from the newest
    one before it that exists, and evaluated again; one that is not needed is not restored.
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
            expire = self._run.context.capabilities.checkpoints_expire
            if expire and self._run.must_build(self._segment_call(i)):
                self.ensure(self._segments[i - 1].stop if i else 0)
            self._do(i)
            if segment.evaluate:
                measure(segment.stop)
                if evaluations.stop_early():
                    log.info("early stopping after step %d of %d", segment.stop, self._segments[-1].stop)
                    break

    def ensure(self, step: int) -> None:
        """Make sure that the server has the checkpoint of a step that was trained.

        Raises MissingInputError if the start of reinforcement, which was trained by another chain, is gone.
        """
        if step == 0:
            start = self._trained.checkpoints.get(0)
            if start is not None and not self._exists(start):
                raise MissingInputError(
                    "the server deleted the student to start from; run `understudy run` with its config and "
                    "--refresh train, which trains it again"
                )
            return
        last = next(i for i, segment in enumerate(self._segments) if segment.stop == step)
        trained = [self._trained.checkpoints[segment.stop] for segment in self._segments[: last + 1]]
        newest = next((i for i in range(last, -1, -1) if self._exists(trained[i])), -1)
        if newest == last:
            return
        at = f"step {self._segments[newest].stop}" if newest >= 0 else "the start"
        log.warning("the server deleted the checkpoint of step %d: training again from %s", step, at)
        for i in range(newest + 1, last + 1):
            self._do(i, refresh=True)
            # The metrics of the deleted weights do not apply to these.
            if self._evaluations is not None and self._segments[i].stop in self._trained.evaluations:
                self._evaluations.measure(self._segments[i].stop, self.ensure)

    def _exists(self, checkpoint: Manifest) -> bool:
        return self._run.context.checkpoint_exists(self._run.store.folder(checkpoint))

    def _do(self, i: int, *, refresh: bool = False) -> None:
        stop, manifest = self._segments[i].stop, self._run.do(self._segment_call(i), refresh=refresh)
        self._trained.checkpoints[stop] = manifest
        if self._run.executes:
            self._show(stop, manifest)

    def _segment_call(self, i: int) -> StageCall:
        parent = self._trained.checkpoints[self._segments[i - 1].stop] if i else None
        return self._call(self._segments[i], parent)
