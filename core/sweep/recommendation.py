"""Which arm val recommends, how sure that is, and what may not be concluded."""

from __future__ import annotations

from core.evaluation.comparison import Comparison
from core.report.data import ComparisonData as OnRows
from core.report.document import Conclusion, Finding, Findings, Tile, conclusion
from core.report.text import and_, begins, name_of, plural, with_interval
from core.sweep.facts import SweepReport, scorer_of


def findings(report: SweepReport) -> Findings:
    best, on = report.recommended, report.on_val
    found: list[Finding] = []
    if best is not None and on is not None and report.compared is not None:
        metric = report.compared.metric
        found = [
            Finding(
                against=f"{other.title}, on val",
                kind="student",
                conclusions=[_conclusion(c, metric)],
                detectable=_detectable(c, metric, "val"),
            )
            for other, c in on.analysis.compared()
        ]
    return Findings(headline(report), found, _remarks(report), tiles(report))


def _conclusion(c: Comparison, metric: str) -> tuple[str, Conclusion, str]:
    d = c.differences[metric]
    return metric, conclusion(d), f"On val, {d.verdict}"


def tiles(report: SweepReport) -> list[Tile]:
    """The recommended arm in a few numbers."""
    best = report.recommended
    if best is None or report.compared is None:
        return []
    metric = report.compared.metric
    out = [Tile("Recommended", best.arm.name)]
    for on in (report.on_val, report.on_test):
        if on is not None:
            cell = with_interval(scorer_of(on, best).intervals[metric])
            out.append(Tile(f"{begins(name_of(metric))} on {on.split}", cell.text, cell.detail))
    return [*out, Tile("Arms", f"{len(report.finished)} of {len(report.sweep.arms)}")]


def headline(report: SweepReport) -> str:
    """One sentence on what to take, and how sure that is."""
    best, on = report.recommended, report.on_val
    if best is None or on is None or report.compared is None:
        return "No arm can be recommended: none was measured on val."
    metric = report.compared.metric
    cell = with_interval(scorer_of(on, best).intervals[metric])
    reached = f"{cell.text}, interval {cell.detail}" if cell.detail else cell.text
    rows = plural(on.analysis.rows, "row")
    said = f"By {name_of(metric)} on {rows} of val, {best.arm.name} is recommended ({reached})"
    by = _by_outcome(on, metric)
    parts = [f"it is shown to be better than {and_(by['better'])}"] if "better" in by else []
    if "even" in by:
        parts.append(f"no difference is shown between it and {and_(by['even'])}")
    if "worse" in by:
        parts.append(f"{and_(by['worse'])} {'is' if len(by['worse']) == 1 else 'are'} better, but a control")
    return f"{said}: {'; '.join(parts)}." if parts else f"{said}; there is no other to hold it against."


def _by_outcome(on: OnRows, metric: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for other, comparison in on.analysis.compared():
        found.setdefault(conclusion(comparison.differences[metric]), []).append(other.title)
    return found


def _detectable(comparison: Comparison, metric: str, split: str) -> str:
    found = comparison.differences[metric].detectable
    if found is None:
        return ""
    rows = f"{split}'s rows show four times in five"
    return f"The smallest difference of {name_of(metric)} that {rows}: {found:.3f}."


def _remarks(report: SweepReport) -> list[str]:
    n = plural(len(report.finished), "arm")
    out = []
    if report.finished:
        out.append(
            "Checkpoint, calibration and threshold of each arm were fitted on these same rows of val, so "
            f"that its figures there are too good, and the best of {n} the more so: they are for choosing."
        )
    if report.on_test is not None:
        out.append(
            f"Test was read once for each of {n}, with everything of the arm frozen before, and had no part "
            "in the recommendation. Whoever takes another arm for its figures on test selects on test: the "
            "best of several looks better there than it is, and only rows that none was measured on would "
            "say by how much."
        )
        out += _best_on_test(report, report.on_test)
    return [*out, *_of_controls(report)]


def _of_controls(report: SweepReport) -> list[str]:
    controls = [arm.arm.name for arm in report.finished if arm.arm.is_control]
    if not controls:
        return []
    verb = "is" if len(controls) == 1 else "are"
    return [
        f"{and_(controls)} learnt rationales of other texts, as a control, and {verb} not recommended, "
        "whatever the figures: where an arm with its own rationales is not shown to be better, what the "
        "rationales say is not shown to matter."
    ]


def _best_on_test(report: SweepReport, on: OnRows) -> list[str]:
    """What the recommended arm reaches on test, and a word where another one reaches more."""
    best = report.recommended
    if best is None or report.compared is None:
        return []
    metric = report.compared.metric
    cell = with_interval(scorer_of(on, best).intervals[metric])
    interval = f" ({cell.detail})" if cell.detail else ""
    return [f"On test {best.arm.name} reaches a {name_of(metric)} of {cell.text}{interval}."]
