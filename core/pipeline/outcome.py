"""The outcome of a finished run: the objects that its report, summary and pointer are built from."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from core.config import Config
from core.data.stage import FILE as SPLIT_SUMMARY
from core.data.stage import SplitSummary
from core.errors import Failures, Part
from core.evaluation.analysis import FILE as ANALYSIS
from core.evaluation.analysis import Analysis
from core.evaluation.decision import DECISION, Decided, Decision, Selection
from core.evaluation.metrics import Metrics
from core.evaluation.predictions import Predictions
from core.export.run_files import (
    Pointer,
    metrics_name,
    student_ledger,
)
from core.export.run_files import ledger as ledger_of
from core.export.stage import BUNDLE
from core.intervals import Interval
from core.jsonio import Record, now
from core.pipeline.exporting import BASELINES, Exported, FittedBaseline, Scorer, StudentMode, read_baselines
from core.pipeline.run_context import RL, STUDENT, Phase, RunContext
from core.pipeline.runners import Runner
from core.pipeline.training_loop import Trained, adapter_path, state_path
from core.records import SplitName
from core.rejection.funnel import SUMMARY_FILE as TEACHER_SUMMARY
from core.rejection.funnel import TeacherSummary
from core.results import (
    AdapterDownload,
    AdapterDownloads,
    Ledger,
    ReinforcedVal,
    ReinforcementResult,
    ReinforcementStart,
    RunResult,
    ScorerResult,
    SelectedStep,
    SplitSize,
    StudentSetup,
    TeacherFigures,
)
from core.rl.rewards import RLSegmentSummary, ValRewards
from core.store import Manifest, RunView, Store
from core.store.run_view import current_code
from core.student.train_stage import train
from core.teacher.samples import SampleSummary
from core.teacher.stage import sample

log = logging.getLogger(__name__)
UNTRAINED = "the base model"
"""The path of the model if the untrained one was chosen."""
_RL_COUNTS = ("rollouts", "failed_rollouts", "groups", "groups_skipped", "steps_without_update")


@dataclass(frozen=True, slots=True)
class Start:
    """What reinforcement starts from: a run's chosen checkpoint; without one the base model, which that run
    may have chosen itself."""

    run: str | None
    step: int
    checkpoint: Manifest | None

    def __str__(self) -> str:
        if self.checkpoint is None:
            return "the base model" + (f", which run {self.run} chose before any student" if self.run else "")
        return f"the student of run {self.run}, step {self.step}"

    @property
    def result(self) -> ReinforcementStart:
        digest = None if self.checkpoint is None else self.checkpoint.digest
        return ReinforcementStart(run=self.run, step=self.step, checkpoint_digest=digest)


@dataclass(frozen=True, slots=True)
class Reinforcement:
    """Learning from rewards: the start, the planned steps, and rewards on val by step."""

    start: Start
    planned: int
    rewards: Mapping[int, ValRewards]


@dataclass(frozen=True)
class Outcome:
    """The objects of a finished run."""

    run: Runner
    parts: Manifest
    """The split."""
    trained: Trained
    selection: Selection
    exported: Exported
    home: Manifest | None = None
    """The chosen adapter if it was downloaded from a server."""
    bundle: Manifest | None = None
    """Everything that a deployment needs; None if a checkpoint other than the chosen one is measured."""
    kept: Manifest | None = None
    encoded: Manifest | None = None
    """These two are None if the student learned from rewards alone."""
    hard: Mapping[SplitName, Manifest] = field(default_factory=dict)
    """The hardness stage's objects by split."""
    reinforcement: Reinforcement | None = None
    """Set if the student learned from rewards; checkpoint 0 is then what it started from."""

    @property
    def view(self) -> RunView:
        return self.run.view

    @property
    def store(self) -> Store:
        return self.run.store

    @property
    def context(self) -> RunContext:
        return self.run.context

    @property
    def config(self) -> Config:
        return self.run.config

    @property
    def failures(self) -> Failures:
        """Optional parts that failed; writing the report adds its own."""
        return self.run.failures

    @cached_property
    def readings(self) -> ScorerReader:
        return ScorerReader(self.store)

    @property
    def learned(self) -> Reinforcement:
        """The learning from rewards of a student that did."""
        assert self.reinforcement is not None, "only a student that learned from rewards is reported here"
        return self.reinforcement

    @property
    def phase(self) -> Phase:
        """Where it is in the run's folder."""
        return STUDENT if self.reinforcement is None else RL

    @property
    def first(self) -> StudentMode:
        """The published mode of the exported checkpoint."""
        return self.exported.modes[0]

    @property
    def final(self) -> Manifest | None:
        return self.trained.checkpoints.get(self.trained.last)

    @property
    def model_path(self) -> str:
        """Where the exported checkpoint's adapter is."""
        return adapter_path(self.exported.checkpoint, self.home) or UNTRAINED

    @cached_property
    def teacher_summary(self) -> TeacherSummary | None:
        """teacher_summary.json of what the student learned from; None if it learned from rewards alone."""
        return None if self.kept is None else TeacherSummary.read(self.store.file(self.kept, TEACHER_SUMMARY))

    @cached_property
    def split_summary(self) -> SplitSummary:
        return SplitSummary.read(self.store.file(self.parts, SPLIT_SUMMARY))

    def sizes(self) -> dict[SplitName, SplitSize]:
        """Rows and positives of each split."""
        return {
            name: SplitSize(rows=part.count, positive=part.label_counts.positive)
            for name, part in self.split_summary.used_split_summary.items()
        }

    @cached_property
    def analysis(self) -> Analysis:
        """The content of analysis.json."""
        return Analysis.read(self.store.file(self.exported.analysis, ANALYSIS))

    def intervals(self, scorer: Scorer, split: SplitName) -> Mapping[str, Interval]:
        """A scorer's intervals by metric: on the analyzed split, and on val.

        Empty if the analysis left out rows of this scorer, because a server failed on them for another one.
        """
        if split == self.exported.split:
            analysis = self.analysis
            if self.readings.metrics(scorer, split).rows != analysis.rows:
                return {}
            # A mode with the prompt of the first has its scores, and is not analyzed again.
            return analysis.scorers.get(scorer.name, analysis.scorers[self.first.name]).intervals
        if split == "val" and scorer.decision is not None:
            return Decided.read(self.store.file(scorer.decision, DECISION)).intervals
        return {}

    def ledger(self) -> Ledger:
        """The cost of the run in tokens, money and seconds."""
        price = self.context.engine.price
        if price is None and self.context.capabilities.metered:
            model = self.config.student.model
            log.info("no price of %s is known (student.engine.prices): tokens are counted", model)
        objects, teacher = {m.path: m for m in self.run.used.values()}.values(), self.teacher_summary
        # A segment of reinforcement samples and scores, too; what answers cost is in the teacher's ledger.
        measured = [m for m in objects if m.stage not in (train.name, sample.name)]
        labeled = [m for slot, m in self.run.used.items() if m.stage == sample.name and slot != sample.name]
        asked = [] if teacher is None else [teacher.ledger]
        asked += [SampleSummary.from_json(m.summary, m.path).ledger for m in labeled]
        student = student_ledger(self.trained.segments, measured, price)
        return ledger_of([each for each in asked if each is not None], student, self.seconds())

    def seconds(self) -> dict[str, float]:
        """The seconds of each stage, in pipeline order; reused objects count as they were built."""
        found: dict[str, float] = defaultdict(float)
        for manifest in {m.path: m for m in self.run.used.values()}.values():
            found[manifest.stage] += _Seconds.from_json(manifest.summary, manifest.path).seconds
        return {name: round(seconds, 1) for name, seconds in found.items()}


class _Seconds(Record):
    """What is read of every stage's summary."""

    seconds: float = 0.0


class ScorerReader:
    """Reads the objects of scorers: rows, decision and metrics."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._metrics: dict[tuple[str, SplitName], Metrics] = {}

    def rows(self, scorer: Scorer, split: SplitName) -> Predictions:
        """A scorer's predictions of a split, before calibration."""
        return Predictions.read(self._store.file(scorer.rows[split], scorer.file.format(split=split)))

    def decided(self, scorers: Sequence[Scorer]) -> dict[str, Decided]:
        """The content of decision.json of the scorers that have one, by name."""
        found = {s.name: s.decision for s in scorers if s.decision is not None}
        return {name: Decided.read(self._store.file(m, DECISION)) for name, m in found.items()}

    def decision(self, scorer: Scorer) -> Decision:
        """The calibration and threshold that were frozen for a scorer on val."""
        if scorer.decision is not None:
            return Decision.read(self._store.file(scorer.decision, DECISION))
        assert scorer.threshold is not None, f"{scorer.name} gives labels and decides nothing"
        return Decision.by_definition(scorer.threshold)

    def metrics(self, scorer: Scorer, split: SplitName) -> Metrics:
        """A scorer's metrics on a split at its decision."""
        at = scorer.name, split
        if at not in self._metrics:
            self._metrics[at] = self.decision(scorer).metrics(self.rows(scorer, split))
        return self._metrics[at]

    def results(self, scorers: Sequence[Scorer]) -> dict[str, ScorerResult]:
        """How each scorer with probabilities was fitted and decides, and its metrics, by name."""
        found: dict[str, ScorerResult] = {}
        for scorer in scorers:
            if scorer.labels_only:
                continue
            frozen, scored = self.decision(scorer), next(iter(scorer.rows.values()))
            fitted = FittedBaseline(title=scorer.title)
            if scored.stage == "baseline":
                fitted = read_baselines(self._store.file(scored, BASELINES))[scorer.name]
            found[scorer.name] = ScorerResult(
                title=scorer.title,
                kind=scorer.kind,
                **fitted.model_dump(include={"trained_on", "settings", "grid", "settings_reason"}),
                calibration=frozen.calibrator.kind,
                decision_threshold=frozen.threshold,
                decision_threshold_reason=frozen.reason,
                metrics={split: self.metrics(scorer, split) for split in scorer.rows},
            )
        return found


def run_result(o: Outcome) -> RunResult:
    """The run's result without what is only known once the reports are written: cost and failed parts."""
    teacher, run, others = o.teacher_summary, f"runs/{o.view.name}", o.exported.others
    measured = [s for s in others if s.name == "untrained"]
    baselines = [s for s in others if s.kind == "baseline"]
    assert teacher is not None, "only reinforcement has no teacher's answers"
    student, chosen = o.config.student, o.selection
    download = None
    if o.home is not None:
        found = AdapterDownload.from_json(o.home.summary, o.home.path)
        download = found.model_copy(update={"output_dir": f"{STUDENT.folder}/adapter"})
    return RunResult(
        run_dir=run,
        teacher_dir=f"{run}/teacher_phase",
        report_path=f"{run}/{STUDENT.report}",
        final_model_path=adapter_path(o.final),
        best_model_path=o.model_path,
        resume_state_path=state_path(o.final),
        best_step=chosen.step,
        best_val_macro_f1=o.trained.curve[chosen.step].macro_f1,
        selection_metric=chosen.metric,
        best_val_selection_score=chosen.score,
        best_val_selection_metric_value=chosen.value,
        beats_untrained=chosen.beats_untrained,
        selection_reason=chosen.reason,
        teacher_summary=TeacherFigures.of(teacher),
        sizes=o.sizes(),
        test=_on_test(o),
        untrained=o.failures.attempt(
            Part.FACTS,
            "untrained",
            lambda: {split: o.readings.metrics(s, split) for s in measured for split in s.rows},
            dict,
        ),
        baselines=o.failures.attempt(Part.FACTS, "baselines", lambda: o.readings.results(baselines), dict),
        funnel=teacher.funnel,
        timings=o.seconds(),
        adapter_downloads=AdapterDownloads(best_val=download),
        student=StudentSetup(engine=student.engine.kind, base_model=student.model, target=student.target),
        made_by=current_code(),
    )


def _on_test(o: Outcome) -> dict[str, Metrics]:
    return {m.name: o.readings.metrics(m, "test") for m in o.exported.modes if "test" in m.rows}


def reinforcement_result(o: Outcome) -> ReinforcementResult:
    """The result of reinforcement, as `run_result`."""
    of, chosen = o.learned, o.selection
    others = [s for s in o.exported.others if "test" in s.rows and not s.labels_only]
    segments = [RLSegmentSummary.from_json(m.summary, m.path) for m in o.trained.segments]
    return ReinforcementResult(
        start=of.start.result,
        steps=o.trained.last,
        steps_planned=of.planned,
        best_step=chosen.step,
        selection=SelectedStep(metric=chosen.metric, value=chosen.value, reason=chosen.reason),
        best_model_path=o.model_path,
        final_model_path=adapter_path(o.final),
        final_state_path=state_path(o.final),
        val=ReinforcedVal(start=o.trained.curve[0], best=o.trained.curve[chosen.step]),
        val_reward={str(step): rewards.reward_mean for step, rewards in of.rewards.items()},
        **{count: sum(getattr(s, count) for s in segments) for count in _RL_COUNTS},
        test=_on_test(o),
        compared=o.failures.attempt(
            Part.FACTS, "compared", lambda: {s.name: o.readings.metrics(s, "test") for s in others}, dict
        ),
    )


def pointer_of(o: Outcome) -> Pointer:
    """Where the chosen model is, and its frozen decision."""
    frozen, student, run = o.readings.decision(o.first), o.config.student, f"runs/{o.view.name}"
    metrics = metrics_name(o.exported.split, label_only=o.first.kind == "label_only")
    return Pointer(
        saved_at=now(),
        run_name=o.view.name,
        final_model_path=adapter_path(o.final),
        best_model_path=o.model_path,
        resume_state_path=state_path(o.final),
        best_step=o.selection.step,
        threshold=frozen.threshold,
        threshold_reason=frozen.reason,
        calibrator=frozen.calibrator,
        decision_path=f"{o.first.decision.folder}/{DECISION}",
        metrics_path=f"{run}/{o.phase.folder}/{metrics}",
        run_dir=run,
        engine=student.engine.kind,
        base_model=student.model,
        base_digest=o.context.base_digest,
        target=student.target,
        prompts_digest=o.context.prompts.student_digest,
        server=o.context.engine.identity.server,
        sampler_path=adapter_path(o.exported.checkpoint) if o.home is not None else None,
        bundle_path=None if o.bundle is None else f"{o.bundle.folder}/{BUNDLE}",
    )
