"""The training loop of a run: segments one after another, each followed by its evaluation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.errors import MissingInputError
from core.pipeline.views import View
from core.stages import Stage
from core.store.manifest import Manifest
from core.student.plan import PlannedSegment
from flows.evaluating import Evaluations
from flows.execution import Execution
from flows.walking import Trained, metrics_of

log = logging.getLogger(__name__)

HISTORY = "student_phase/train_history.jsonl"
MEASURED = "student_phase/eval_history.jsonl"
FILES = {
    "split": "data_splits/train.csv",
    "sample": "teacher_phase/teacher_samples.jsonl",
    "reject": "teacher_phase/accepted_samples.jsonl",
    "encode": "student_phase/train_sft.jsonl",
}
"""Of each stage before training, the file that a reader of the run's folder would look for."""


def require_inputs(run: Execution) -> None:
    """Find, before any work, that a stage which is off has no earlier result that a later one needs.

    Raises MissingInputError naming the run and the file.
    """
    off = run.switches.read()
    for name in [name for name in FILES if name in off]:
        run.require(name, FILES[name])
    stopping = run.config.evaluation.early_stopping
    if "train" in off:
        _require_each(run, "train", HISTORY, [] if stopping else [part.stop for part in _known(run)])
    if "evaluate" in off or (run.switches.last == "train" and stopping):
        stops = [0, *(part.stop for part in _known(run) if part.evaluate and not stopping)]
        _require_each(run, "evaluate", MEASURED, stops)


def _known(run: Execution) -> Sequence[PlannedSegment]:
    """The segments of training, where the examples are not to be encoded first."""
    if run.switches.on("encode"):
        return []
    encoded = run.require("encode", FILES["encode"])
    return run.pipeline.segments(run.pipeline.plan(run.folder(encoded)))


def _require_each(run: Execution, stage: str, file: str, stops: Sequence[int]) -> None:
    """The results of a stage at these steps; where they are not known yet, that there is any."""
    if not any(slot.startswith(f"{stage}/") for slot in run.view.stages()):
        run.require(stage, file)
    for stop in stops:
        run.require(f"{stage}/{stop}", file)


def train_and_evaluate(run: Execution, view: View, parts: Manifest, encoded: Manifest) -> Trained:
    """Train to the last step, or until early stopping says so, going by steps and never by arrival.

    Nothing is evaluated where training is the last stage that is on, unless it may stop early.
    """
    data = run.folder(encoded)
    steps = run.pipeline.plan(data)
    course = Course(
        run.pipeline.segments(steps),
        lambda part, parent: run.pipeline.train(part, steps, parent, data),
        view.train,
        HISTORY,
    )
    trained = Trained({}, {}, [])
    stopping = run.config.evaluation.early_stopping
    measures = run.switches.last != "train" or stopping is not None
    with Evaluations(run, view, parts, trained, stopping, measures=measures) as evaluations:
        follow(Chain(run, trained, course, evaluations.measure), evaluations)
    return trained


@dataclass(frozen=True, slots=True)
class Course:
    """The segments of a training, how each is made from the one before, and where people see them."""

    parts: Sequence[PlannedSegment]
    build: Callable[[PlannedSegment, Manifest | None], Stage]
    show: Callable[[int, Manifest], None]
    file: str


def follow(chain: Chain, evaluations: Evaluations, beside: Callable[[int], None] | None = None) -> None:
    """Segment after segment, each evaluated where that is planned, until the last or an early end.

    `beside` is called with every step that is evaluated, 0 included.
    """

    def measure(step: int) -> None:
        evaluations.measure(step)
        if beside is not None:
            beside(step)

    evaluations.ensure_with(chain.ensure)
    measure(0)
    for part in chain.parts:
        chain.train(part)
        if part.evaluate:
            measure(part.stop)
            if evaluations.stops():
                log.info("early stopping after step %d of %d", part.stop, chain.parts[-1].stop)
                break


class Chain:
    """A run's segments, each from the one before.

    A server forgets checkpoints. One that is needed and gone is trained again from the newest before it
    that lives, and measured anew; one that nobody needs any more is not missed.
    """

    def __init__(
        self, run: Execution, trained: Trained, course: Course, measure: Callable[[int], None]
    ) -> None:
        self._run, self._trained, self._course, self._measure = run, trained, course, measure
        self.parts = course.parts

    def train(self, part: PlannedSegment) -> None:
        """The segment's checkpoint, made or found."""
        i = self.parts.index(part)
        if self._run.pipeline.capabilities.checkpoints_expire and self._run.must_make(self._stage(i)):
            self.ensure(self.parts[i - 1].stop if i else 0)
        self._do(i, refresh=False)

    def ensure(self, step: int) -> None:
        """See to it that the server has the checkpoint of a step that was trained."""
        if step == 0:
            self._need_start()
            return
        last = next(i for i, part in enumerate(self.parts) if part.stop == step)
        newest = next((i for i in range(last, -1, -1) if self._lives(i)), -1)
        if newest == last:
            return
        at = f"step {self.parts[newest].stop}" if newest >= 0 else "the start"
        log.warning("the server has forgotten the checkpoint of step %d: trained again from %s", step, at)
        for i in range(newest + 1, last + 1):
            self._do(i, refresh=True)
            # What was measured of the weights that are gone says nothing of these.
            if self.parts[i].stop in self._trained.evaluations:
                self._measure(self.parts[i].stop)

    def _need_start(self) -> None:
        """What reinforcement begins with was trained by another chain; the base model is always there."""
        start = self._trained.checkpoints.get(0)
        if start is not None and not self._run.pipeline.checkpoint_exists(self._run.folder(start)):
            raise MissingInputError(
                "the server has forgotten the student to begin with; run `understudy run` with its config "
                "and --refresh train, which trains it again"
            )

    def _lives(self, i: int) -> bool:
        return self._run.pipeline.checkpoint_exists(
            self._run.folder(self._trained.checkpoints[self.parts[i].stop])
        )

    def _do(self, i: int, *, refresh: bool) -> None:
        manifest = self._run.do_built(self._stage(i), self._course.file, refresh=refresh)
        self._trained.checkpoints[self.parts[i].stop] = manifest
        self._course.show(self.parts[i].stop, manifest)

    def _stage(self, i: int) -> Stage:
        parent = self._trained.checkpoints[self.parts[i - 1].stop] if i else None
        return self._course.build(self.parts[i], parent)


def recorded(run: Execution) -> Trained:
    """What the run's record says was trained and evaluated, without training anything."""
    trained = Trained({}, {}, [])
    slots = sorted(
        (int(slot.partition("/")[2]), slot) for slot in run.view.stages() if slot.startswith("train/")
    )
    for step, slot in slots:
        trained.checkpoints[step] = run.view.earlier(slot, file=HISTORY)
    for step in (0, *trained.checkpoints):
        slot = f"evaluate/{step}"
        if slot in run.view.stages():
            manifest = run.view.earlier(slot, file=f"student_phase/metrics_val_step_{step}.json")
            trained.add(step, manifest, metrics_of(run, manifest))
    return trained
