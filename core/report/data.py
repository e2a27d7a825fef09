"""What reports are built from: the typed values of a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core.config import Config
from core.evaluation.analysis import Analysis, ProbabilityAnalysis
from core.evaluation.decision import Decided
from core.evaluation.hardness import HardTexts
from core.evaluation.metrics import Metrics
from core.evaluation.selection import Selection
from core.export.ledger import CostEstimate
from core.labels import BINARY
from core.records import SplitName
from core.rejection.funnel import TeacherSummary
from core.results import Ledger, SplitSize
from core.rl.rewards import RLStep, ValRewards
from core.store.reads import Read
from core.teacher.samples import FirstAnswers


@dataclass(frozen=True, slots=True)
class ModelBlock:
    """A model, where it is, and its metrics on the report's split if they were measured."""

    title: str
    model_path: str
    metrics: Metrics | None


@dataclass(frozen=True, slots=True)
class Mistake:
    """A row that was decided wrongly. `probability` is calibrated; `stated` is the label in its answer."""

    id: str
    text: str
    gold: int
    decision: int
    probability: float | None
    threshold: float
    reasoning: str | None = None
    cited: tuple[str, ...] = ()
    stated: int | None = None

    @property
    def missed(self) -> bool:
        """Whether it is a positive that was missed, and not a negative that was flagged."""
        return self.gold == BINARY.positive


@dataclass(frozen=True, slots=True)
class SeedResult:
    """The student of another seed on the same rows, at the threshold that its own val chose."""

    run: str
    seed: int
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Reinforced:
    """What a student learned from rewards: its start in words, the planned steps, and each step taken.

    `val_rewards` has, by step, what greedy answers on val earn.
    """

    start: str
    planned: int
    history: Sequence[RLStep]
    val_rewards: Mapping[int, ValRewards]


@dataclass(frozen=True, slots=True)
class ComparisonData:
    """Scorers on the same rows of one split: test, unless it was not exported.

    The analysis compares its first scorer, in a run the student, with each other one. `decisions` are by the
    scorer's name; scorers whose threshold was not fitted have none.
    """

    run_name: str
    generated_at: str
    config: Config
    analysis: Analysis
    decisions: Mapping[str, Decided]

    @property
    def split(self) -> SplitName:
        """The split that all scorers are measured on."""
        return self.analysis.split


@dataclass(frozen=True, slots=True)
class BaselineData(ComparisonData):
    """What the baseline report shows: before any student is trained."""

    first_answers: FirstAnswers | None = None
    """The teacher's first answers to train; None without a teacher."""


@dataclass(frozen=True, slots=True)
class ReportData(ComparisonData):
    """What the report of a run, or of its reinforcement, shows."""

    selection: Selection
    curve: Mapping[int, Metrics]
    """Metrics on val by step, in the order of steps."""
    sizes: Mapping[SplitName, SplitSize]
    models: Sequence[ModelBlock]
    losses: Sequence[tuple[int, float]] = ()
    """Step and train loss."""
    val_baselines: Mapping[str, Metrics] = field(default_factory=dict)
    """Title to metrics on val: reference lines of the learning curve."""
    teacher: TeacherSummary | None = None
    """None if the student learned from rewards alone."""
    hardness: Sequence[HardTexts] = ()
    """One for each split whose texts the teacher answered."""
    ledger: Ledger | None = None
    """None if it could not be read."""
    estimate: CostEstimate | None = None
    """None if nothing was to be paid to a training server."""
    notices: Sequence[str] = ()
    """Sentences: rows left out, duplicates, truncated texts."""
    resume_state_path: str | None = None
    mistakes: Sequence[Mistake] = ()
    """The most confident first."""
    reads: Sequence[Read] = ()
    """Of this test split, this run's own included."""
    seeds: Sequence[SeedResult] = ()
    """Other seeds of this run; empty if there is one."""
    provenance: Sequence[tuple[str, str]] = ()
    """Name and value: versions, commit, digests."""
    files: Mapping[str, str] = field(default_factory=dict)
    """File name to what is in it."""
    reinforced: Reinforced | None = None
    """None unless the student learned from rewards; step 0 of the curve is then what it started from."""
    untested: Sequence[str] = ()
    """Sentences to add to those that follow from the other fields."""

    @property
    def student(self) -> ProbabilityAnalysis:
        """The first scorer of the analysis."""
        student = self.analysis.first
        assert isinstance(student, ProbabilityAnalysis), "a student gives probabilities"
        return student
