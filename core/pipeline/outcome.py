"""What a finished run is reported from: the manifests of its stages."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core.config import Config
from core.data.summary import FILE as SPLIT_SUMMARY
from core.data.summary import SplitSummary
from core.evaluation.analysis import FILE as ANALYSIS
from core.evaluation.analysis import Analysis
from core.evaluation.decision import DECISION, Decided
from core.evaluation.selection import EvaluatedCheckpoint, Selection
from core.export.ledger import ledger as ledger_of
from core.export.ledger import student_ledger
from core.intervals import Interval
from core.jsonio import Record
from core.optional import Failures
from core.pipeline.context import RunContext
from core.pipeline.phases import RL, STUDENT, Phase
from core.pipeline.scorers import Readings, Scorer
from core.pipeline.starting import Start
from core.records import SplitName
from core.rejection.files import SUMMARY_FILE as TEACHER_SUMMARY
from core.rejection.files import TeacherSummary
from core.results import Ledger
from core.store.manifest import Manifest
from core.store.objects import Store
from core.teacher.summary import SampleSummary, TeacherLedger

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reinforcement:
    """What is known of learning from rewards: the start, its steps, and rewards on val by step."""

    start: Start
    planned: int
    rewards: Mapping[int, Manifest]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The manifests of a finished run."""

    store: Store
    run: str
    config: Config
    bench: RunContext
    parts: Manifest
    kept: Manifest | None
    encoded: Manifest | None
    """These two are None where the student learnt from rewards alone."""
    checkpoints: Mapping[int, Manifest]
    curve: Sequence[EvaluatedCheckpoint]
    selection: Selection
    modes: Sequence[Scorer]
    """The chosen checkpoint as it is asked; the first is the one that is published."""
    others: Sequence[Scorer]
    """Whom it is compared with."""
    split: SplitName
    """Where the table is measured: test, unless it was not exported."""
    analysis: Manifest
    explained: Manifest | None
    """What the student says of its worst errors."""
    evaluations: Mapping[int, Manifest] = field(default_factory=dict)
    home: Manifest | None = None
    """The chosen adapter as it was taken home from a server."""
    bundle: Manifest | None = None
    """All that a deployment needs; None where another checkpoint than the chosen one is measured."""
    reinforcement: Reinforcement | None = None
    """Where the student learnt from rewards: checkpoint 0 is then what it began with."""
    hard: Mapping[SplitName, Manifest] = field(default_factory=dict)
    """The hardness stage's objects by split."""
    failures: Failures = field(default_factory=Failures)
    """Optional parts that failed; writing the report adds its own."""
    readings: Readings = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "readings", Readings(self.store))

    @property
    def phase(self) -> Phase:
        """Where it stands in the run's folder."""
        return STUDENT if self.reinforcement is None else RL

    @property
    def trained(self) -> list[Manifest]:
        """The segments that were trained, in their order."""
        return [manifest for step, manifest in sorted(self.checkpoints.items()) if step > 0]

    @property
    def teaching(self) -> TeacherSummary | None:
        """teacher_summary.json of what the student learned from; None if it learned from rewards alone."""
        return None if self.kept is None else TeacherSummary.read(self.store.file(self.kept, TEACHER_SUMMARY))

    @property
    def split_summary(self) -> SplitSummary:
        """split_summary.json."""
        return SplitSummary.read(self.store.file(self.parts, SPLIT_SUMMARY))

    @property
    def analysis_of_all(self) -> Analysis:
        """analysis.json."""
        return Analysis.read(self.store.file(self.analysis, ANALYSIS))

    @property
    def checkpoint(self) -> Manifest | None:
        """The chosen checkpoint; None where the untrained model was chosen."""
        return self.checkpoints.get(self.selection.step)

    @property
    def final(self) -> Manifest | None:
        """The last checkpoint."""
        return self.checkpoints[max(self.checkpoints)] if self.checkpoints else None

    def intervals(self, scorer: Scorer, split: SplitName) -> dict[str, Interval]:
        """Return a scorer's intervals by metric, if they were made: on val, and where all were compared.

        Empty if the comparison left out rows of this scorer, because a server failed on them for another.
        """
        if split == self.split:
            analysis = self.analysis_of_all
            if self.readings.metrics(scorer, split).rows != analysis.rows:
                return {}
            # A mode that asks the same as the first has its scores, and is not analysed again.
            return analysis.scorers.get(scorer.name, analysis.scorers[self.modes[0].name]).intervals
        if split == "val" and scorer.decision is not None:
            return Decided.read(self.store.file(scorer.decision, DECISION)).intervals
        return {}


class _Seconds(Record):
    """What is read of every stage's summary."""

    seconds: float = 0.0


def ledger(o: Outcome) -> Ledger:
    """Return what the run took, in tokens, money and seconds."""
    engine = o.bench.engine
    price = engine.price
    if price is None and o.bench.capabilities.metered:
        log.info(
            "no price of %s is known (student.engine.prices): tokens are counted", o.config.student.model
        )
    asked = [s for s in (*o.modes, *o.others) if s.kind in ("student", "label_only", "untrained")]
    explained = [o.explained] if o.explained else []
    measured = [*o.evaluations.values(), *(m for s in asked for m in s.rows.values()), *explained]
    if o.reinforcement is not None:  # its segments sample, too
        measured += [*o.trained, *o.reinforcement.rewards.values()]
    unique = {m.path: m for m in measured}
    found = student_ledger(o.trained, unique.values(), price)
    return ledger_of(_asked(o), found, seconds(o))


def _asked(o: Outcome) -> list[TeacherLedger]:
    """The ledgers of the sample stages, of train and of the splits that the teacher is measured on."""
    labelled = [m for s in o.others if s.kind == "teacher" for m in s.rows.values()]
    teacher = None if o.teaching is None else o.teaching.ledger
    found = [teacher, *(SampleSummary.from_json(m.summary, m.path).ledger for m in labelled)]
    return [each for each in found if each is not None]


def seconds(o: Outcome) -> dict[str, float]:
    """Return the seconds that each stage took when it was made, reused stages included."""
    scored = {m.path: m for s in (*o.modes, *o.others) for m in s.rows.values()}
    stages: dict[str, Sequence[Manifest | None]] = {
        "split": [o.parts],
        "reject": [o.kept],
        "encode": [o.encoded],
        "train" if o.reinforcement is None else "reinforce": o.trained,
        "reward": [] if o.reinforcement is None else list(o.reinforcement.rewards.values()),
        "evaluate": list(o.evaluations.values()),
        "export": [m for m in scored.values() if m.stage == "export"],
        "baseline": [m for m in scored.values() if m.stage == "baseline"],
        "decide": [s.decision for s in (*o.modes, *o.others)],
        "analyse": [o.analysis],
        "explain": [o.explained],
        "bundle": [o.bundle],
        "hardness": list(o.hard.values()),
    }
    return {
        name: round(sum(_Seconds.from_json(m.summary, m.path).seconds for m in found if m), 1)
        for name, found in stages.items()
        if name != "reward" or o.reinforcement is not None
    }
