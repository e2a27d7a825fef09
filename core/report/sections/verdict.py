"""The verdict in sentences, which hide neither a baseline's win nor that nothing was shown."""

from __future__ import annotations

from core.config.measure import METRICS
from core.evaluation.analysis import Analysis, ProbabilityAnalysis, ScorerAnalysis
from core.evaluation.metrics import value
from core.report.data import ReportData
from core.report.document import Conclusion, Finding, Findings, Section, Tile, conclusion, section
from core.report.sections.limits import selected_on_test
from core.report.text import and_, begins, name_of, number, plural, with_interval

SHOWN = ("macro_f1", "auroc")
_IN_SENTENCES = {"label_only": "its own label-only prompt", "teacher": "the teacher"}


@section("verdict", order=10)
def verdict(data: ReportData) -> Section:
    """The student against each other scorer, by the metric of selection, macro-F1 and AUROC."""
    return Section("verdict", "Verdict", [findings(data)])


def findings(data: ReportData) -> Findings:
    """Return the verdict's block."""
    metrics = shown(data)
    found = [
        Finding(
            against=other.title,
            kind=other.kind,
            conclusions=[
                (m, conclusion(c.differences[m]), begins(c.differences[m].verdict)) for m in metrics
            ],
            detectable=_detectable(c.differences[metrics[0]].detectable, metrics[0]),
        )
        for other, c in data.analysis.compared()
    ]
    return Findings(headline(data), found, remarks(data), tiles(data))


def shown(data: ReportData) -> list[str]:
    """Return the metrics of the verdict. The first decides: that of selection, named before any result."""
    first = data.selection.metric
    return list(dict.fromkeys([*([first] if first in METRICS else []), *SHOWN]))


def headline(data: ReportData) -> str:
    """Return one sentence on whom the student beats, whom it loses to, and where nothing is shown."""
    metric, rows = shown(data)[0], plural(data.analysis.rows, "row")
    by: dict[Conclusion, list[str]] = {}
    for other, c in data.analysis.compared():
        by.setdefault(conclusion(c.differences[metric]), []).append(_short(other))
    if not by:
        return f"Nothing else was measured on these {rows} of {data.split}, so the student beats nothing."
    wordings: dict[Conclusion, str] = {
        "better": "{student} beats {others}",
        "worse": "{loses} to {others}",
        "even": "no difference is shown between {it} and {others}",
        "open": "{it} could not be compared with {others}",
    }
    parts: list[str] = []
    for found, wording in wordings.items():
        if found in by:
            it = "it" if parts else "the student"
            loses = "loses" if parts else "the student loses"
            parts.append(wording.format(student="the student", loses=loses, it=it, others=and_(by[found])))
    return f"By {name_of(metric)} on {rows} of {data.split}, {'; '.join(parts)}."


def _short(other: ScorerAnalysis) -> str:
    """A scorer in the middle of a sentence; the untrained model with the prompt that its title names."""
    if other.kind == "untrained":
        named = other.title.replace("Untrained student", "the untrained model")
        return named.replace("Student before", "the student before")
    return _IN_SENTENCES.get(other.kind, other.title)


def remarks(data: ReportData) -> list[str]:
    """Return what has to be read together with the verdict."""
    metric = shown(data)[0]
    return [
        *_of_training(data.analysis, metric),
        *_smallest(data.analysis, metric),
        *_at_default(data.analysis.first, metric),
        *selected_on_test(data),
        data.selection.reason,
    ]


def _of_training(analysis: Analysis, metric: str) -> list[str]:
    """A student that is not shown to beat the untrained model: that its training is not shown to help."""
    untrained = [
        (_short(other), conclusion(c.differences[metric]))
        for other, c in analysis.compared()
        if other.kind == "untrained"
    ]
    unbeaten = [name for name, found in untrained if found in ("even", "worse")]
    if not unbeaten:
        return []
    own = untrained[0][0] in unbeaten  # the first has the student's own prompt
    helps = "to help" if own else "to help more than another prompt does"
    return [
        f"Training is not shown {helps}: in {name_of(metric)} the student is not shown to be better than "
        f"{and_(unbeaten)} on these rows."
    ]


def _smallest(analysis: Analysis, metric: str) -> list[str]:
    found = [
        (d, other.title)
        for other, c in analysis.compared()
        if (d := c.differences[metric].detectable) is not None
    ]
    if not found:
        return []
    (low, one), (high, other_one) = min(found), max(found)
    verb = "shows" if analysis.rows == 1 else "show"
    text = (
        f"The smallest difference that can be shown here: {plural(analysis.rows, 'row')} {verb} a difference "
        f"of {name_of(metric)}, with 80 % power, from {low:.3f} up"
    )
    if f"{low:.3f}" == f"{high:.3f}" and len(found) > 1:
        return [f"{text}, against any other scorer."]
    if len(found) == 1:
        return [f"{text} (against {one})."]
    return [
        f"{text} against {one}, and from {high:.3f} up against {other_one}; a smaller one may exist and not "
        "be visible."
    ]


def _at_default(student: ScorerAnalysis, metric: str) -> list[str]:
    if not isinstance(student, ProbabilityAnalysis):
        return []
    at_default, chosen = value(student.at_default, metric), student.intervals[metric]
    text = (
        f"At 0.5, declared before anything was fitted, the student's {name_of(metric)} is "
        f"{_in_sentence(at_default)}; "
    )
    if student.threshold is None:
        return [f"{text}no other threshold was found ({student.threshold_reason})."]
    cell = with_interval(chosen)
    interval = f" ({cell.detail})" if cell.detail else ""
    at = f"at the threshold that val chose, {number(student.threshold)}, it is {_in_sentence(chosen.value)}"
    return [f"{text}{at}{interval}."]


def _in_sentence(value: float | None) -> str:
    return "undefined" if value is None else number(value)


def _detectable(found: float | None, metric: str) -> str:
    if found is None:
        return ""
    return f"The smallest difference of {name_of(metric)} that these rows show: {found:.3f}."


def tiles(data: ReportData) -> list[Tile]:
    """Return the student in a few numbers, and what the run took."""
    student, ledger = data.analysis.first, data.ledger
    out = []
    for metric in dict.fromkeys([*shown(data), "accuracy"]):
        cell = with_interval(student.intervals[metric])
        out.append(Tile(begins(name_of(metric)), cell.text, cell.detail))
    if isinstance(student, ProbabilityAnalysis):
        error = student.reliability.expected_calibration_error
        out.append(Tile("Calibration error", number(error)))
    if student.threshold is not None:
        out.append(Tile("Threshold", number(student.threshold)))
    if ledger is not None and ledger.usd is not None:
        out.append(Tile("Cost", f"US$ {ledger.usd:.2f}"))
    if ledger is not None and ledger.seconds:
        out.append(Tile("Time", f"{sum(ledger.seconds.values()) / 60:.1f} min"))
    return out
