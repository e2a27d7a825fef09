"""Reports as documents: what a report shows, its sections of blocks, and the registry of sections.

A section of the run report is a function from ReportData to a Section, a list of them, or None if the run has
nothing to show there. It is registered where it is defined; other distributions register theirs through an
entry point of the group `understudy.report_sections`:

    @section("emoji", order=205)
    def emoji(report: ReportData) -> Section | None: ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from core.config import Config
from core.errors import Failures, Part
from core.evaluation.analysis import Analysis, ProbabilityAnalysis
from core.evaluation.comparison import MetricDifference
from core.evaluation.decision import Decided, Selection
from core.evaluation.metrics import Metrics, lower_is_better
from core.evaluation.slices import HardTexts
from core.records import BINARY, SplitName
from core.registry import Registry
from core.rejection.funnel import TeacherSummary
from core.results import CostEstimate, Ledger, SplitSize
from core.rl.rewards import RLStep, ValRewards
from core.store.run_view import Read
from core.teacher.samples import FirstAnswers

UNDEFINED = "–"

Mark = Literal["line", "point", "square", "diamond", "band"]
Conclusion = Literal["better", "worse", "even", "open"]
"""Of the first scorer against another; CONCLUSIONS has them in words."""
CONCLUSIONS: Mapping[Conclusion, str] = {
    "better": "shown to be better",
    "worse": "shown to be worse",
    "even": "no difference shown",
    "open": "not compared",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, and a detail in smaller print: usually its interval."""

    text: str
    detail: str = ""
    code: bool = False

    @property
    def line(self) -> str:
        """Value and detail as they appear in a sentence."""
        return f"{self.text} ({self.detail})" if self.detail else self.text


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; the first `left` columns and those in `words` hold words, the others numbers.

    `strong` are the rows to look at first. A `sortable` table can be sorted and filtered on the page.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    left: int = 1
    strong: frozenset[int] = frozenset()
    notes: Sequence[str] = ()
    sortable: bool = False
    words: frozenset[int] = frozenset()

    @property
    def classes(self) -> list[str]:
        """The class attribute of each column's cells: numbers are aligned to the right."""
        columns = range(len(self.columns))
        return ["" if i < self.left or i in self.words else ' class="n"' for i in columns]


@dataclass(frozen=True, slots=True)
class Prose:
    """A paragraph; a warning is highlighted."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """One entry of a picture's legend; `dash` is an SVG stroke-dasharray, empty for a solid line."""

    label: str
    color: str
    mark: Mark = "line"
    dash: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A plot, shown on the page only: `paint` fills a matplotlib figure of `size` inches."""

    name: str
    title: str
    description: str
    paint: Callable[[Any], None]
    keys: Sequence[LegendEntry] = ()
    note: str = ""
    size: tuple[float, float] = (4.6, 3.2)


@dataclass(frozen=True, slots=True)
class Tile:
    """A number to see first."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """The verdict: one sentence, then the differences from each other scorer, the decisive metric first.

    `tiles` are shown on the page only.
    """

    headline: str
    against: Mapping[str, Sequence[MetricDifference]]
    remarks: Sequence[str]
    tiles: Sequence[Tile] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values, one per line, in a form that scripts can read."""

    items: Sequence[tuple[str, Cell]]


@dataclass(frozen=True, slots=True)
class Mistakes:
    """Rows that were decided wrongly, with their texts: shown on the page only."""

    rows: Sequence[Mistake]


Block = Table | Prose | Bullets | Facts | Picture | Findings | Mistakes


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the blocks below it; `key` is its anchor on the page."""

    key: str
    title: str
    blocks: Sequence[Block] = field(default=())


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report. `facts` are a line below the page's name; `generated_at` None leaves the date out."""

    title: str
    sections: Sequence[Section]
    generated_at: str | None = None
    kind: str = ""
    """What the page is: "Report of a run"."""
    name: str = ""
    """What the page is about: the run's name."""
    facts: Sequence[str] = ()
    lines: Sequence[tuple[str, str]] = ()
    """Names and values below the date, in Markdown only: paths that scripts read there."""


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


Built = Section | Sequence[Section] | None
_Builder = TypeVar("_Builder", bound="Callable[[ReportData], Built]")
_Data = TypeVar("_Data")


SECTIONS: Registry[tuple[int, Callable[[Any], Built]]] = Registry(
    "report section",
    "understudy.report_sections",
    ["core.report.verdict", "core.report.scorer_sections", "core.report.run_sections"],
)
"""The sections of the run report with their orders, of which the smallest comes first."""
_OF_BASELINES = ("results", "comparisons", "default", "threshold", "probabilities", "teacher")


def section(name: str, *, order: int) -> Callable[[_Builder], _Builder]:
    """Register a function as a section of the report of runs and of reinforcement.

    `name` identifies it in the list of failed parts. The built-in sections have orders from 10 (the verdict)
    to 900 (the models).
    """

    def register(build: _Builder) -> _Builder:
        SECTIONS.register(name, (order, build), defined=build)
        return build

    return register


def run_report(data: ReportData, failures: Failures) -> Document:
    """Return the report of a run, or of its reinforcement; sections that fail are recorded in `failures`."""
    ordered = sorted(SECTIONS.items(), key=lambda item: item[1][0])
    state, at = data.resume_state_path, data.generated_at
    return Document(
        title=f"Test report: {data.run_name}",
        sections=build_sections({name: build for name, (_, build) in ordered}, data, failures),
        generated_at=at,
        kind="Report of a run",
        name=data.run_name,
        facts=(f"measured on {data.split}", data.config.student.model, at),
        lines=() if state is None else (("resume_state_path", state),),
    )


def baseline_report(data: BaselineData, failures: Failures) -> Document:
    """Return the report of scorers that need no training; sections that fail are recorded in `failures`."""
    builders = {name: SECTIONS.get(name)[1] for name in _OF_BASELINES}
    found = build_sections(builders, data, failures)
    return Document(f"Baselines: {data.run_name}", found, data.generated_at)


def build_sections(
    builders: Mapping[str, Callable[[_Data], Built]], data: _Data, failures: Failures
) -> list[Section]:
    """Build sections by name. One that has nothing to show, or that fails and is recorded, has no heading."""
    found: list[Section] = []
    for name, build in builders.items():
        with failures.optional(Part.SECTION, name):
            built = build(data)
            found += [built] if isinstance(built, Section) else built or []
    return found


def cells(*texts: str) -> list[Cell]:
    """Return a row of cells without details."""
    return [Cell(text) for text in texts]


def conclusion(d: MetricDifference) -> Conclusion:
    """Return whether the first scorer is shown to be better, by the rule of core.evaluation.comparison."""
    if d.value is None:
        return "open"
    if not d.shown:
        return "even"
    return "better" if (d.value > 0) != lower_is_better(d.metric) else "worse"
