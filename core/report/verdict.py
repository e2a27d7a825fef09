"""Who wins, in sentences that hide neither a baseline's win nor that nothing was shown."""

from __future__ import annotations

from collections.abc import Sequence

from core.config.measure import METRICS
from core.report.blocks import Finding, Findings, Outcome, Section
from core.report.inputs import Report
from core.report.reads import selected_on_test
from core.report.scorers import Facts, comparisons, outcome, student
from core.report.words import and_, begins, name_of, number, plural, with_interval

SHOWN = ("macro_f1", "auroc")
_CALLED = {"label_only": "its own label-only prompt", "teacher": "the teacher"}


def section(report: Report) -> Section:
    """The report's first words."""
    return Section("verdict", "Verdict", [verdict(report)])


def verdict(report: Report) -> Findings:
    """The student against each other scorer, by the metric of selection, macro-F1 and AUROC."""
    metrics = shown(report)
    findings = [
        Finding(
            against=other["title"],
            kind=other["kind"],
            outcomes=[(m, outcome(c, m), begins(c["differences"][m]["verdict"])) for m in metrics],
            detectable=_detectable(c, metrics[0]),
        )
        for other, c in comparisons(report)
    ]
    return Findings(headline(report), findings, remarks(report))


def shown(report: Report) -> list[str]:
    """The metric that decides first: that of selection, which was named before anything was measured."""
    first = report.selection.metric
    return list(dict.fromkeys([*([first] if first in METRICS else []), *SHOWN]))


def headline(report: Report) -> str:
    """One sentence on whom the student beats, whom it loses to, and where nothing is shown."""
    metric, rows = shown(report)[0], plural(report.analysis["rows"], "row")
    by: dict[Outcome, list[str]] = {}
    for other, comparison in comparisons(report):
        by.setdefault(outcome(comparison, metric), []).append(_short(other))
    if not by:
        return f"Nothing else was measured on these {rows} of {report.split}, so nobody is beaten."
    parts = []
    if "better" in by:
        parts.append(f"the student beats {and_(by['better'])}")
    if "worse" in by:
        parts.append(f"{'' if parts else 'the student '}loses to {and_(by['worse'])}")
    if "even" in by:
        parts.append(
            f"no difference is shown between {'it' if parts else 'the student'} and {and_(by['even'])}"
        )
    if "open" in by:
        parts.append(f"{'it' if parts else 'the student'} could not be compared with {and_(by['open'])}")
    return f"By {name_of(metric)} on {rows} of {report.split}, {'; '.join(parts)}."


def _short(other: Facts) -> str:
    """A scorer in the middle of a sentence; the untrained model with the prompt that its title names."""
    title: str = other["title"]
    if other["kind"] == "untrained":
        return title.replace("Untrained student", "the untrained model").replace(
            "Student before", "the student before"
        )
    return _CALLED.get(other["kind"], title)


def remarks(report: Report) -> list[str]:
    """What has to be read beside the verdict."""
    metric = shown(report)[0]
    return [
        *_of_training(report, metric),
        *_smallest(report, metric),
        *_at_default(report, metric),
        *selected_on_test(report),
        report.selection.reason,
    ]


def _of_training(report: Report, metric: str) -> list[str]:
    """A student that is not shown to be better than the untrained model is said to be none, whatever else
    it beats."""
    untrained = [
        (_short(other), outcome(c, metric))
        for other, c in comparisons(report)
        if other["kind"] == "untrained"
    ]
    unbeaten = [name for name, found in untrained if found in ("even", "worse")]
    if not unbeaten:
        return []
    own = untrained[0][0] in unbeaten  # the first has the student's own prompt
    brought = "to have brought anything" if own else "to bring more than another prompt does"
    return [
        f"Training is not shown {brought}: in {name_of(metric)} the student is not shown to be better than "
        f"{and_(unbeaten)} on these rows."
    ]


def _smallest(report: Report, metric: str) -> list[str]:
    found = [
        (d, other["title"])
        for other, c in comparisons(report)
        if (d := c["differences"][metric]["detectable"]) is not None
    ]
    if not found:
        return []
    (low, one), (high, other_one) = min(found), max(found)
    rows = plural(report.analysis["rows"], "row")
    verb = "shows" if report.analysis["rows"] == 1 else "show"
    what = f"{rows} {verb} a difference of {name_of(metric)}, four times in five, from"
    if f"{low:.3f}" == f"{high:.3f}" and len(found) > 1:
        return [f"The smallest difference that counts here: {what} {low:.3f} up, whoever it is against."]
    if len(found) == 1:
        return [f"The smallest difference that counts here: {what} {low:.3f} up (against {one})."]
    return [
        f"The smallest difference that counts here: {what} {low:.3f} up against {one}, and from {high:.3f} "
        f"up against {other_one}; a smaller one may be there and not be seen."
    ]


def _at_default(report: Report, metric: str) -> list[str]:
    of = student(report)
    if "at_default" not in of:
        return []
    at = of["at_default"].get("F1" if metric == "f1" else metric)
    chosen = _chosen(of, metric)
    return [
        f"At 0.5, declared before anything was fitted, the student's {name_of(metric)} is {_said(at)}; "
        f"{chosen}."
    ]


def _chosen(of: Facts, metric: str) -> str:
    if of["threshold"] is None:
        return f"no other threshold was found ({of['threshold_reason']})"
    cell = with_interval(of["intervals"][metric])
    interval = f" ({cell.detail})" if cell.detail else ""
    value = _said(of["intervals"][metric]["value"])
    return f"at the threshold that val chose, {number(of['threshold'])}, it is {value}{interval}"


def _said(value: float | None) -> str:
    """A metric inside a sentence."""
    return "undefined" if value is None else number(value)


def _detectable(comparison: Facts, metric: str) -> str:
    found = comparison["differences"][metric]["detectable"]
    if found is None:
        return ""
    return f"The smallest difference of {name_of(metric)} these rows show: {found:.3f}."


def sentences(findings: Findings) -> Sequence[str]:
    """The whole verdict as sentences, for a reader without a page."""
    out = [findings.headline, *findings.remarks]
    for finding in findings.findings:
        out += [sentence for _, _, sentence in finding.outcomes]
    return out
