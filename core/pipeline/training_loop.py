"""The training loop of a run: segments one after another, each with its evaluation, and their histories."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from core import jsonio
from core.config import EarlyStopping
from core.errors import MissingInputError
from core.evaluation.decision import should_stop
from core.evaluation.metrics import Metrics
from core.evaluation.student_scores import METRICS_FILE, MeasureSettings, evaluate, read_metrics
from core.evaluation.threshold import rule
from core.export.bundle import ADAPTER
from core.jsonio import Record
from core.pipeline.run_context import RL, STUDENT, Phase
from core.pipeline.runners import At, PendingStage, Runner
from core.records import SplitName
from core.rejection.funnel import SUMMARY_FILE, TeacherSummary
from core.rl.rewards import RLSegmentSummary, RLStep, ValRewards
from core.rl.stages import ROLLOUTS, STEPS
from core.stage import StageCall
from core.store import Manifest, RunView
from core.student.encode_stage import DATA_FILE, read_data, read_set
from core.student.train_stage import (
    STEPS_FILE,
    PlannedSegment,
    PlannedStep,
    SegmentSettings,
    SegmentWork,
    TrainStep,
    plan_segments,
    plan_steps,
    train,
)
from core.tracking.trackers import Trackers, evaluation_point, reward_points, teacher_point, training_points

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
        data = partial(run.read, encoded, DATA_FILE, read_data)
        work = SegmentWork(steps[part.start : part.stop], len(steps), data)
        return run.call(train, SegmentSettings.of(config), work.at, work, parent=parent)

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
        expire = self._run.context.capabilities.checkpoints_expire

        def measure(step: int) -> None:
            if evaluates:
                self._evaluate(step)
            also(step)

        try:
            measure(0)
            for i, segment in enumerate(self._segments):
                if expire and self._run.must_build(self._segment_call(i)):
                    self._ensure(self._segments[i - 1].stop if i else 0)
                self._do(i)
                if segment.evaluate:
                    measure(segment.stop)
                    metric = self._run.config.evaluation.metric
                    values = [metrics[metric] for _, metrics in sorted(self.trained.curve.items())]
                    # Pending evaluations do not stop training.
                    if not self._waiting and should_stop(values, self._stopping, metric):
                        log.info("early stopping after step %d of %d", segment.stop, self._segments[-1].stop)
                        break
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


class EvaluationRow(Record):
    """A checkpoint on val: a line of eval_history.jsonl and the content of metrics_val_step_<n>.json."""

    created_at: str
    discrete_metrics_source: str = f"threshold_{rule()}"
    checkpoint_path: str | None
    checkpoint_name: str
    step: int
    split: SplitName = "val"
    dataset_fingerprint: str
    config_fingerprint: str
    metrics: Metrics


class Histories:
    """Writes the histories of a phase into the run's folder, and sends them to its trackers.

    Single files are published as their stages declare. A history is written from the objects of this run
    alone, so that no lines of an earlier run remain.
    """

    def __init__(self, run: RunView, trackers: Trackers, phase: Phase = STUDENT) -> None:
        self.run, self.phase, self._trackers = run, phase, trackers
        self._rows: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(dict)
        """The rows of each file by step."""

    def teacher(self, rejected: Manifest) -> None:
        self._trackers.send([teacher_point(TeacherSummary.read(self.run.store.file(rejected, SUMMARY_FILE)))])

    def segment(self, stop: int, manifest: Manifest) -> None:
        """Add the rows of a segment, or replace them; `stop` is its last step."""
        store = self.run.store
        if self.phase is STUDENT:
            rows = list(jsonio.read_jsonl(store.file(manifest, STEPS_FILE)))
            self._trackers.send(training_points(map(TrainStep.model_validate, rows)))
            self._write("train_history.jsonl", stop, rows)
            return
        rows, rollouts = (list(jsonio.read_jsonl(store.file(manifest, f))) for f in (STEPS, ROLLOUTS))
        seconds = RLSegmentSummary.from_json(manifest.summary, manifest.path).seconds_by_step
        rows = [{**row, "seconds": s} for row, s in zip(rows, seconds, strict=True)]
        self._trackers.send(reward_points(map(RLStep.model_validate, rows)))
        self._write("rl_history.jsonl", stop, rows)
        self._write("rollouts.jsonl", stop, rollouts)

    def rewards(self, step: int, rewards: ValRewards) -> None:
        """Add a line to val_rewards.jsonl: what greedy answers on val earn."""
        self._write("val_rewards.jsonl", step, [{"step": step, **rewards.to_json()}])

    def evaluate(
        self, step: int, metrics: Metrics, measured: Manifest, checkpoint: Manifest | None, parts: Manifest
    ) -> None:
        """Write metrics_val_step_<n>.json and add a line to eval_history.jsonl."""
        row = EvaluationRow(
            created_at=measured.created_at,
            checkpoint_path=adapter_path(checkpoint),
            checkpoint_name=f"{self.run.name}_step_{step}",
            step=step,
            dataset_fingerprint=parts.digest,
            config_fingerprint=measured.key,
            metrics=metrics,
        )
        self.run.write_json(f"{self.phase.folder}/metrics_val_step_{step}.json", row.to_json())
        self._trackers.send([evaluation_point(step, metrics, "rl_val" if self.phase is RL else "val")])
        self._write("eval_history.jsonl", step, [row.to_json()])

    def _write(self, name: str, step: int, rows: list[dict[str, Any]]) -> None:
        """Add the rows of a step to a file of JSON lines, in the order of steps, or replace them."""
        by_step = self._rows[name]
        by_step[step] = rows
        ordered = (row for _, rows in sorted(by_step.items()) for row in rows)
        lines = "".join(jsonio.canonical(row).decode() + "\n" for row in ordered)
        self.run.write(f"{self.phase.folder}/{name}", lines)


class _OnServer(Record):
    """What the summary of a segment contains if its checkpoint is on a server."""

    sampler_path: str | None = None
    state_path: str | None = None


def adapter_path(checkpoint: Manifest | None, home: Manifest | None = None) -> str | None:
    """Where a checkpoint's adapter is under the root; None for the untrained model.

    One on a server has its path there, unless it was downloaded.
    """
    if checkpoint is None:
        return None
    if home is not None:
        return f"{home.folder}/{ADAPTER}"
    remote = _OnServer.from_json(checkpoint.summary, checkpoint.path).sampler_path
    return remote or f"{checkpoint.folder}/{ADAPTER}"


def state_path(checkpoint: Manifest | None) -> str | None:
    """Where a checkpoint's resumable state is, under the root or on its server."""
    if checkpoint is None:
        return None
    return _OnServer.from_json(checkpoint.summary, checkpoint.path).state_path or checkpoint.folder
