"""All scorers on the same rows: metrics with intervals, decisions, comparisons, and the result at 0.5."""

from __future__ import annotations

from collections.abc import Iterable

from core.config.measure import METRICS
from core.evaluation.analysis import Analysis, LabelAnalysis, ProbabilityAnalysis, ScorerAnalysis
from core.evaluation.comparison import Comparison
from core.evaluation.metrics import value
from core.report.data import ComparisonData
from core.report.document import UNDEFINED, Block, Bullets, Cell, Prose, Section, Table, cells, section
from core.report.plots.comparisons import confusion, differences
from core.report.text import count, grouped, name_of, number, p_value, plural, signed, span, with_interval

_FIRST = ("macro_f1", "auroc", "accuracy", "precision", "recall")
"""The metrics that a reader looks for first."""
TESTED = ("macro_f1", "auroc")
_AT_DEFAULT = ("macro_f1", "accuracy", "precision", "recall")
FIRST = frozenset({0})
"""The student's row, to look at first."""


def compared() -> tuple[str, ...]:
    """Return all metrics in the order of the tables."""
    return tuple(dict.fromkeys([*_FIRST, *METRICS]))


@section("results", order=20)
def results(data: ComparisonData) -> Section:
    """Every metric of every scorer with its interval, and the decisions counted."""
    analysis = data.analysis
    intro = (
        f"Values on {plural(analysis.rows, 'row')} of {data.split}, {analysis.positive:,} of them positive, "
        f"with 95 % intervals. {_method(analysis)} Precision, recall, F1 and AUPRC are those of the positive "
        "class; log loss and Brier score are better when smaller. A text is predicted positive when its "
        "probability is at or above the scorer's own threshold, which was chosen on val (that of the "
        "majority class is 0.5)."
    )
    picture = confusion(analysis)
    blocks: list[Block] = [Prose(intro), _metrics(analysis), _decisions(analysis)]
    return Section(
        "results", f"All on the same rows of {data.split}", [*blocks, *([picture] if picture else [])]
    )


def _method(analysis: Analysis) -> str:
    text = f"Intervals are percentiles of {analysis.resamples:,} bootstrap resamples"
    if analysis.clustered:
        return f"{text}, {plural(analysis.groups, 'group')} drawn whole."
    return f"{text}, drawn within each class, and Wilson's for accuracy, precision and recall."


def _metrics(analysis: Analysis) -> Table:
    rows = [
        [
            Cell(s.title),
            *(with_interval(s.intervals[m]) for m in compared()),
            Cell(number(s.threshold)),
            Cell(number(_unlabelled_share(s, analysis.rows))),
        ]
        for s in analysis.scorers.values()
    ]
    columns = ["", *map(name_of, compared()), "threshold", "without a label"]
    return Table(columns, rows, strong=FIRST, notes=_reasons(analysis.scorers.values()))


def _unlabelled_share(s: ProbabilityAnalysis | LabelAnalysis, rows: int) -> float | None:
    """The share of rows that a scorer gave no valid label."""
    if isinstance(s, ProbabilityAnalysis):
        return s.at_default.invalid_label_rate
    return s.unlabelled / rows if rows else None


def _reasons(scorers: Iterable[ScorerAnalysis]) -> list[str]:
    """For each scorer with a dash, or with an interval to be careful with, the reason."""
    out = []
    for s in scorers:
        undefined = grouped((name_of(m), i.undefined) for m, i in s.intervals.items() if i.undefined)
        noted = grouped((name_of(m), i.note) for m, i in s.intervals.items() if i.note)
        for why, names in undefined.items():
            out.append(f"{s.title}: {', '.join(names)} undefined, {_without_name(why, s.title)}.")
        if isinstance(s, LabelAnalysis) and s.unlabelled:
            rows = plural(s.unlabelled, "row")
            out.append(f"{s.title}: {rows} without a label, which counts as negative.")
        out += [f"{s.title}, {', '.join(names)}: {why}." for why, names in noted.items()]
    return out


def _without_name(why: str, title: str) -> str:
    """A reason that begins with its scorer's name, without it."""
    if why.startswith(f"{title}: "):
        return why.removeprefix(f"{title}: ")
    return f"it{why.removeprefix(title)}" if why.startswith(f"{title} ") else why


def _decisions(analysis: Analysis) -> Table:
    rows = []
    for s in analysis.scorers.values():
        k = s.counts
        four = [UNDEFINED] * 4 if k is None else [count(n) for n in (k.tp, k.fp, k.fn, k.tn)]
        rows.append(cells(s.title, *four))
    columns = ["", "true positives", "false positives", "false negatives", "true negatives"]
    return Table(columns, rows, title="Counts of the decisions", strong=FIRST)


@section("comparisons", order=30)
def comparisons(data: ComparisonData) -> Section | None:
    """The paired tests behind the verdict; None if there is one scorer."""
    analysis = data.analysis
    if not analysis.comparisons:
        return None
    intro = (
        f"{analysis.first.title} minus the other, on the same rows. The interval decides: a difference is "
        "shown if its 95 % interval excludes 0. The intervals of a metric hold together, for all "
        f"{plural(len(analysis.comparisons), 'comparison')} at once, and p, from the paired bootstrap, is "
        "adjusted in the same way. McNemar's exact test counts the rows that only one of the two has right; "
        "its p is not adjusted and decides nothing here. The smallest difference is the one that these rows "
        "show with 80 % power."
    )
    pictures = [differences(analysis, metric) for metric in TESTED]
    notes = grouped((other.title, c.note) for other, c in analysis.compared() if c.note)
    bullets = [Bullets([f"{', '.join(titles)}: {note}." for note, titles in notes.items()])] if notes else []
    blocks: list[Block] = [Prose(intro), *(p for p in pictures if p is not None), _tests(analysis), *bullets]
    return Section("comparisons", "Against the others", blocks)


def _tests(analysis: Analysis) -> Table:
    rows = [[Cell(other.title), *_tests_against(c)] for other, c in analysis.compared()]
    by_metric = [column for m in map(name_of, TESTED) for column in (f"Δ {m}", f"p, {m}", f"smallest Δ {m}")]
    return Table(["against", *by_metric, "right alone, it : other", "p, McNemar"], rows)


def _tests_against(c: Comparison) -> list[Cell]:
    out: list[Cell] = []
    for metric in TESTED:
        d = c.differences[metric]
        out.append(Cell(signed(d.value), span(d.low, d.high, sign=True)))
        out += cells(p_value(d.p_adjusted), number(d.detectable))
    m = c.mcnemar
    alone = UNDEFINED if m is None else f"{m.only_a:,} : {m.only_b:,}"
    return [*out, *cells(alone, p_value(None if m is None else m.p))]


@section("default", order=40)
def default(data: ComparisonData) -> Section:
    """The result at 0.5, declared in advance, next to what val chose."""
    intro = (
        "0.5 on uncalibrated probabilities was declared before anything was fitted; the chosen threshold "
        "applies to calibrated probabilities. If the two tell different stories, the choice on val made the "
        "difference."
    )
    rows = []
    for s in data.analysis.with_probabilities.values():
        pairs = [(value(s.metrics, m), value(s.at_default, m)) for m in _AT_DEFAULT]
        rows.append(cells(s.title, number(s.threshold), *(number(v) for pair in pairs for v in pair)))
    columns = [c for m in _AT_DEFAULT for c in (f"{name_of(m)}, chosen", f"{name_of(m)}, at 0.5")]
    table = Table(["", "chosen", *columns], rows, strong=FIRST)
    return Section("default", "At 0.5, declared in advance", [Prose(intro), table])


def scorer_rows(analysis: Analysis) -> list[dict[str, str]]:
    """Return the table of all scorers as plain rows, the student first, for tables outside of reports."""
    out = []
    for s in analysis.scorers.values():
        row = {"scorer": s.title}
        for metric in compared():
            cell = with_interval(s.intervals[metric])
            row[name_of(metric)] = f"{cell.text} ({cell.detail})" if cell.detail else cell.text
        row |= {"threshold": number(s.threshold)}
        out.append(row)
    return out
