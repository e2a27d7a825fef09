"""The outcome of a finished run: the objects that its report, summary and pointer are built from."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from core.config import Config
from core.data.stage import FILE as SPLIT_SUMMARY
from core.data.stage import SplitSummary
from core.errors import Failures
from core.evaluation.analysis import FILE as ANALYSIS
from core.evaluation.analysis import Analysis
from core.evaluation.decision import DECISION, Decided, Selection
from core.export.ledger import ledger as ledger_of
from core.export.ledger import student_ledger
from core.intervals import Interval
from core.jsonio import Record
from core.pipeline.context import RunContext
from core.pipeline.exporting import Exported
from core.pipeline.run_folder import RL, STUDENT, Phase, adapter_path
from core.pipeline.runners import Runner
from core.pipeline.scorers import Scorer, ScorerReader
from core.pipeline.training import Trained
from core.records import SplitName
from core.rejection.funnel import SUMMARY_FILE as TEACHER_SUMMARY
from core.rejection.funnel import TeacherSummary
from core.results import Ledger, ReinforcementStart, SplitSize
from core.rl.rewards import ValRewards
from core.store import Manifest, RunView, Store
from core.student.train_stage import train
from core.teacher.samples import SampleSummary
from core.teacher.stage import sample

log = logging.getLogger(__name__)

UNTRAINED = "the base model"
"""The path of the model if the untrained one was chosen."""


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
    def first(self) -> Scorer:
        """The published mode of the exported checkpoint."""
        return self.exported.modes[0]

    @property
    def final(self) -> Manifest | None:
        return self.trained.checkpoints.get(self.trained.last)

    @property
    def model_path(self) -> str:
        """Where the exported checkpoint's adapter is."""
        return adapter_path(self.exported.checkpoint, self.home) or UNTRAINED

    def teacher_summary(self) -> TeacherSummary | None:
        """teacher_summary.json of what the student learned from; None if it learned from rewards alone."""
        return None if self.kept is None else TeacherSummary.read(self.store.file(self.kept, TEACHER_SUMMARY))

    def split_summary(self) -> SplitSummary:
        return SplitSummary.read(self.store.file(self.parts, SPLIT_SUMMARY))

    def sizes(self) -> dict[SplitName, SplitSize]:
        """Rows and positives of each split."""
        return {
            name: SplitSize(rows=part.count, positive=part.label_counts.positive)
            for name, part in self.split_summary().used_split_summary.items()
        }

    def analysis(self) -> Analysis:
        """The content of analysis.json, which is large and therefore read once."""
        return self._analysis

    @cached_property
    def _analysis(self) -> Analysis:
        return Analysis.read(self.store.file(self.exported.analysis, ANALYSIS))

    def intervals(self, scorer: Scorer, split: SplitName) -> Mapping[str, Interval]:
        """A scorer's intervals by metric: on the analyzed split, and on val.

        Empty if the analysis left out rows of this scorer, because a server failed on them for another one.
        """
        if split == self.exported.split:
            analysis = self.analysis()
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
        objects, teacher = {m.path: m for m in self.run.used.values()}.values(), self.teacher_summary()
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
