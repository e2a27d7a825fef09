"""Reports as documents: sections of blocks, rendered by markdown.py and page.py.

A section of the run report is a function from ReportData to a Section, a list of them, or None if the run has
nothing to show there. It is registered where it is defined; other distributions register theirs through an
entry point of the group `understudy.report_sections`:

    @section("emoji", order=205)
    def emoji(report: ReportData) -> Section | None: ...
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from core.evaluation.comparison import MetricDifference
from core.evaluation.metrics import lower_is_better
from core.optional import Failure, Failures, Part
from core.registry import Registry
from core.report import sections

if TYPE_CHECKING:
    from core.report.data import BaselineData, Mistake, ReportData  # imports all that reports are built from

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


Built = Section | Sequence[Section] | None
_Builder = TypeVar("_Builder", bound="Callable[[ReportData], Built]")
_Data = TypeVar("_Data")


SECTIONS: Registry[tuple[int, Callable[[Any], Built]]] = Registry(
    "report section",
    "understudy.report_sections",
    [f"{sections.__name__}.{found.name}" for found in pkgutil.iter_modules(sections.__path__)],
)
"""The sections of the run report with their orders, of which the smallest comes first."""
_OF_BASELINES = ("results", "comparisons", "default", "threshold", "probabilities", "teacher")


def section(name: str, *, order: int) -> Callable[[_Builder], _Builder]:
    """Register a function as a section of the report of runs and of reinforcement.

    `name` identifies it in the list of failed parts. The built-in sections have orders from 10 (the verdict)
    to 900 (the models); see core.report.sections.
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


def left_out(failures: Iterable[Failure]) -> list[Section]:
    """Return the section that lists each optional part that failed; no section if none did.

    Drawing plots may add failures, so the renderers add this section, in front of all others.
    """
    rows = [cells(failure.part, failure.error, failure.message) for failure in failures]
    if not rows:
        return []
    are = "1 optional part is" if len(rows) == 1 else f"{len(rows)} optional parts are"
    text = (
        f"{are} missing from this run, because of an error or because the data makes it impossible. The "
        "student, its predictions and its decision do not depend on them. Run the same command again to "
        "retry them; train.log has the details."
    )
    table = Table(["part", "error", "cause"], rows, left=3)
    return [Section("left-out", "Left out of this run", [Prose(text, warning=True), table])]


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
