"""The verdict, which hides neither a baseline's win nor that nothing was shown, its tests, and its limits."""

from __future__ import annotations

from collections.abc import Sequence

from core.config import METRICS
from core.errors import CLASSICAL
from core.evaluation.analysis import Analysis, ScorerAnalysis
from core.evaluation.comparison import MetricDifference
from core.intervals import TOO_FEW
from core.report import plots
from core.report.document import (
    UNDEFINED,
    Block,
    Bullets,
    Cell,
    ComparisonData,
    Conclusion,
    Findings,
    Prose,
    ReportData,
    Section,
    Table,
    Tile,
    cells,
    conclusion,
    section,
)
from core.report.render import and_, begins, grouped, name_of, number, p_value, plural, were, with_interval

SHOWN = ("macro_f1", "auroc")
_IN_SENTENCES = {"label_only": "its own label-only prompt", "teacher": "the teacher"}
_WORDINGS: dict[Conclusion, str] = {
    "better": "{student} beats {others}",
    "worse": "{student} loses to {others}",
    "even": "no difference is shown between {student} and {others}",
    "open": "{student} could not be compared with {others}",
}


@section("verdict", order=10)
def verdict(data: ReportData) -> Section:
    """The student against each other scorer, by the metric of selection, macro-F1 and AUROC."""
    against = differences(data.analysis, shown(data))
    return Section("verdict", "Verdict", [Findings(headline(data), against, remarks(data), tiles(data))])


def shown(data: ReportData) -> list[str]:
    """Return the metrics of the verdict. The first decides: that of selection, named before any result."""
    first = data.selection.metric
    return list(dict.fromkeys([*([first] if first in METRICS else []), *SHOWN]))


def differences(analysis: Analysis, metrics: Sequence[str]) -> dict[str, list[MetricDifference]]:
    """Return how the first scorer differs from each other one, by that one's title."""
    return {other.title: [c.differences[m] for m in metrics] for other, c in analysis.compared()}


def by_conclusion(analysis: Analysis, metric: str) -> dict[Conclusion, list[ScorerAnalysis]]:
    """Return the other scorers by the conclusion about the first one."""
    out: dict[Conclusion, list[ScorerAnalysis]] = {}
    for other, c in analysis.compared():
        out.setdefault(conclusion(c.differences[metric]), []).append(other)
    return out


def headline(data: ReportData) -> str:
    """Return one sentence on whom the student beats, whom it loses to, and where nothing is shown."""
    metric, rows = shown(data)[0], plural(data.analysis.rows, "row")
    by = by_conclusion(data.analysis, metric)
    if not by:
        return f"Nothing else was measured on these {rows} of {data.split}, so the student beats nothing."
    parts: list[str] = []
    for found, wording in _WORDINGS.items():
        if found in by:
            student = "it" if parts else "the student"
            wording = wording.removeprefix("{student} ") if found == "worse" and parts else wording
            parts.append(wording.format(student=student, others=and_([_short(s) for s in by[found]])))
    return f"By {name_of(metric)} on {rows} of {data.split}, {'; '.join(parts)}."


def _short(other: ScorerAnalysis) -> str:
    """A scorer in the middle of a sentence; the untrained model with the prompt that its title names."""
    if other.kind == "untrained":
        named = other.title.replace("Untrained student", "the untrained model")
        return named.replace("Student before", "the student before")
    return _IN_SENTENCES.get(other.kind, other.title)


def remarks(data: ReportData) -> list[str]:
    """Return what has to be read together with the verdict."""
    student, metric, out = data.student, shown(data)[0], list[str]()
    name, against = name_of(metric), [(other, c.differences[metric]) for other, c in data.analysis.compared()]
    if advice := recommendation(data):
        out.append(advice)
    untrained = [(_short(other), conclusion(d)) for other, d in against if other.kind == "untrained"]
    if unbeaten := [other for other, found in untrained if found in ("even", "worse")]:
        own = untrained[0][0] in unbeaten  # the first has the student's own prompt
        helps = "to help" if own else "to help more than another prompt does"
        out.append(
            f"Training is not shown {helps}: in {name} the student is not shown to be better than "
            f"{and_(unbeaten)} on these rows."
        )
    if detectable := [(d.detectable, other.title) for other, d in against if d.detectable is not None]:
        out.append(_smallest_difference(detectable, data.analysis.rows, name))
    at_default, chosen = student.at_default[metric], student.intervals[metric]
    shown_default = "undefined" if at_default is None else number(at_default)
    text = f"At 0.5, declared before anything was fitted, the student's {name} is {shown_default};"
    if student.threshold is None:
        out.append(f"{text} no other threshold was found ({student.threshold_reason}).")
    else:
        value = "undefined" if chosen.value is None else with_interval(chosen).line
        out.append(f"{text} at the threshold that val chose, {number(student.threshold)}, it is {value}.")
    return [*out, *([_meaning(data)] if _several(data) else []), data.selection.reason]


def recommendation(data: ReportData) -> str:
    """Return which model to use: the cheapest that the student is not shown to beat, else the student.

    Of models that beat the student, the cheapest; empty if the student could be compared with no cheaper one.
    """
    metric = shown(data)[0]
    by, order = by_conclusion(data.analysis, metric), [str(part) for part in CLASSICAL.values()]

    def cheaper(found: Conclusion) -> list[str]:
        """Return the cheaper models with a conclusion, the cheapest first."""
        return sorted({s.title for s in by.get(found, [])} & set(order), key=order.index)

    reasons: dict[Conclusion, str] = {
        "worse": "It is shown to be better than the student",
        "even": "The student is not shown to be better",
    }
    for found, reason in reasons.items():
        if titles := cheaper(found):
            return f"Recommended: {titles[0]}. {reason} in {name_of(metric)}, and it costs far less to run."
    if not cheaper("better"):
        return ""
    return (
        f"Recommended: the student. In {name_of(metric)} it is shown to be better than every cheaper model."
    )


def _smallest_difference(found: Sequence[tuple[float, str]], rows: int, metric: str) -> str:
    (low, one), (high, other_one) = min(found), max(found)
    text = (
        f"The smallest difference that can be shown here: {plural(rows, 'row')} "
        f"{'shows' if rows == 1 else 'show'} a difference of {metric}, with 80 % power, from {low:.3f} up"
    )
    if len(found) == 1:
        return f"{text} (against {one})."
    if f"{low:.3f}" == f"{high:.3f}":
        return f"{text}, against any other scorer."
    return (
        f"{text} against {one}, and from {high:.3f} up against {other_one}; a smaller one may exist and not "
        "be visible."
    )


def metric_tile(scorer: ScorerAnalysis, metric: str, where: str = "") -> Tile:
    """Return a scorer's metric as a number to see first."""
    cell = with_interval(scorer.intervals[metric])
    return Tile(f"{begins(name_of(metric))}{where}", cell.text, cell.detail)


def tiles(data: ReportData) -> list[Tile]:
    """Return the student in a few numbers, and what the run took."""
    student, ledger = data.student, data.ledger
    out = [metric_tile(student, metric) for metric in dict.fromkeys([*shown(data), "accuracy"])]
    out.append(Tile("Calibration error", number(student.reliability.expected_calibration_error)))
    if student.threshold is not None:
        out.append(Tile("Threshold", number(student.threshold)))
    if ledger is not None and ledger.usd is not None:
        out.append(Tile("Cost", f"US$ {ledger.usd:.2f}"))
    if ledger is not None and ledger.seconds:
        out.append(Tile("Time", f"{ledger.total_seconds / 60:.1f} min"))
    return out


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
    pictures = [plots.differences(analysis, metric) for metric in SHOWN]
    rows = []
    for other, c in analysis.compared():
        m, tests = c.mcnemar, list[Cell]()
        for d in (c.differences[metric] for metric in SHOWN):
            tests += [*difference(d), Cell(number(d.detectable))]
        alone = UNDEFINED if m is None else f"{m.only_a:,} : {m.only_b:,}"
        rows.append([Cell(other.title), *tests, *cells(alone, p_value(None if m is None else m.p))])
    by_metric = [column for m in map(name_of, SHOWN) for column in (f"Δ {m}", f"p, {m}", f"smallest Δ {m}")]
    table = Table(["against", *by_metric, "right alone, it : other", "p, McNemar"], rows)
    notes = grouped((other.title, c.note) for other, c in analysis.compared() if c.note)
    bullets = [Bullets([f"{', '.join(titles)}: {note}." for note, titles in notes.items()])] if notes else []
    blocks: list[Block] = [Prose(intro), *(p for p in pictures if p is not None), table, *bullets]
    return Section("comparisons", "Against the others", blocks)


def difference(d: MetricDifference | None) -> list[Cell]:
    """Return a difference with its interval, and its adjusted p-value."""
    if d is None:
        return cells(UNDEFINED, UNDEFINED)
    return [with_interval(d), Cell(p_value(d.p_adjusted))]


@section("reads of test", order=300)
def reads(data: ReportData) -> Section | None:
    """Every student measured on this test split under the root; None if none was counted."""
    if not data.reads:
        return None
    rows = [[Cell(r.run, code=True), Cell(r.at), Cell(r.what)] for r in data.reads]
    table = Table(["run", "when", "what was measured"], rows, left=3)
    return Section("reads", "Who has read test", [Prose(_meaning(data), _several(data)), table])


def _meaning(data: ReportData) -> str:
    """What the reads of test mean for the results."""
    if (n := len(data.reads)) == 1:
        return (
            "One student was measured on this test split, with checkpoint, calibration and threshold frozen "
            "before: nothing was chosen by its results."
        )
    if not _several(data):
        return (
            f"{n} students were measured on this test split, one of each seed of this run: the seeds were "
            "named in advance, and nothing was chosen among them by these results."
        )
    runs = len({r.run for r in data.reads})
    return (
        f"{n} students of {plural(runs, 'run')} under this root were measured on this test split. Choosing "
        "among them by these results selects on test: the best of several looks better than it is, and only "
        "rows that none of them was measured on can show by how much."
    )


def _several(data: ReportData) -> bool:
    """Whether more were measured than one student, or one of each seed."""
    runs = [r.run for r in data.reads]
    seeds = {data.run_name, *(s.run for s in data.seeds)}
    return len(runs) > 1 and (len(set(runs)) < len(runs) or not set(runs) <= seeds)


@section("what was not tested", order=600)
def untested(data: ReportData) -> Section:
    """Always there: something is always untested."""
    return Section("untested", "What was not tested", [Bullets(sentences(data))])


def sentences(data: ReportData) -> list[str]:
    """Return the limits of the results, the most serious first."""
    return [
        *_limits_of_rows(data),
        *_limits_of_scorers(data),
        "Checkpoint, calibration and threshold were fitted on val, so results on val are too good.",
        "All splits come from the same data: texts of another time or source, or written to mislead, are not "
        "tested.",
        "Gold labels are taken as correct; their errors count against any scorer that is right there.",
        *data.untested,
    ]


def _limits_of_rows(data: ReportData) -> list[str]:
    analysis, student, out = data.analysis, data.student, list[str]()
    if data.split != "test":
        out.append(
            f"Test was not exported: all results are of {data.split}, on which checkpoint, calibration and "
            "threshold were chosen, and so too good."
        )
    if student.threshold is None:
        out.append(
            f"The student has no threshold ({student.threshold_reason}): its ranking was measured, its "
            "decisions were not, apart from those at 0.5."
        )
    if analysis.positive:
        out.append(
            f"{begins(data.split)} has {plural(analysis.rows, 'row')}, {analysis.positive:,} of them "
            f"positive: one more text found or missed moves recall by {1 / analysis.positive:.4f} and "
            f"accuracy by {1 / analysis.rows:.4f}."
        )
    if analysis.left_out:
        left = were(analysis.left_out, "row")
        out.append(f"{left} left out for all scorers, because a server failed on one of them.")
    if not data.seeds:
        out.append(
            f"One seed ({data.config.training_seed}): intervals cover which rows were drawn, not which "
            "batches were; another seed may train a better or a worse student."
        )
    if not analysis.clustered:
        out.append(
            "The data names no groups (data.group_column), so every row counts as independent: if several "
            "texts come from one source, intervals are too narrow."
        )
    elif all(i.note == TOO_FEW for i in student.intervals.values() if i.value is not None):
        out.append(f"{begins(TOO_FEW)}, so nothing is shown to be better or worse.")
    return out


def _limits_of_scorers(data: ReportData) -> list[str]:
    kinds = {s.kind for s in data.analysis.scorers.values()}
    is_gold = data.teacher is not None and data.teacher.is_gold
    out = []
    if "teacher" not in kinds and not is_gold and data.reinforced is None:
        out.append(
            "The teacher was not asked about these rows, so it is unknown how far the student is behind it "
            "here."
        )
    if "untrained" not in kinds:
        out.append("The untrained model was not measured on these rows: the effect of training is unknown.")
    if "baseline" not in kinds:
        out.append("No baseline was measured: it is unknown whether a simpler model does as well.")
    if len(data.analysis.comparisons) > 1:
        out.append(
            "Intervals of differences and p-values are adjusted for the number of scorers compared, and not "
            "for the number of metrics and slices."
        )
    found, rows = data.analysis.faithfulness, data.analysis.rows
    if found is None:
        but = " except for the worst errors" if any(m.reasoning for m in data.mistakes) else ""
        out.append(
            f"No reasoning was generated{but}: whether the student's reasoning is true was not evaluated."
        )
    elif found.with_reasoning.total < rows:
        asked = found.with_reasoning.total
        out.append(f"The student's reasoning was evaluated on {asked:,} of {rows:,} rows only.")
    return out
