"""The report's tables: val, the arms and what they took, and test for all."""

from __future__ import annotations

import shlex

from core.evaluation.comparison import MetricDifference
from core.report.data import ComparisonData as OnRows
from core.report.document import UNDEFINED, Bullets, Cell, Prose, Section, Table, cells
from core.report.sections import results, verdict
from core.report.text import begins, name_of, number, p_value, plural, signed, span, with_interval
from core.sweep.arms import Arm
from core.sweep.facts import SweepReport
from core.sweep.finished import Finished


def val(report: SweepReport, on: OnRows) -> Section:
    """What is chosen by."""
    assert report.compared is not None, "what is on val was compared"
    metric = report.compared.metric
    beside = [m for m in ("auroc", "log_loss") if m != metric]
    steps = {arm.arm.name: arm.best_step for arm in report.finished}
    against = {other.title: c.differences[metric] for other, c in on.analysis.compared()}
    rows = [
        [
            Cell(s.title),
            *(with_interval(s.intervals[m]) for m in (metric, *beside)),
            Cell(str(steps[name])),
            *_difference(against.get(s.title)),
        ]
        for name, s in on.analysis.scorers.items()
    ]
    columns = ["arm", *map(name_of, (metric, *beside)), "step", f"Δ {name_of(metric)}, first less this", "p"]
    said = (
        f"{plural(on.analysis.rows, 'row')} of val, {on.analysis.positive:,} of them positive. The arm "
        "that is recommended stands first. A difference from it is shown where the interval excludes 0: the "
        "95 % intervals hold for all arms at once, and p, the paired bootstrap's, is adjusted "
        "alike."
    )
    table = Table(columns, rows, strong=results.FIRST)
    return Section("val", "All on the same rows of val", [Prose(said), table])


def _difference(d: MetricDifference | None) -> list[Cell]:
    if d is None:
        return cells(UNDEFINED, UNDEFINED)
    return [
        Cell(signed(d.value), span(d.low, d.high, sign=True)),
        Cell(p_value(d.p_adjusted)),
    ]


def arms(report: SweepReport) -> Section:
    """What each arm is, and what it took."""
    finished = {arm.arm.name: arm for arm in report.finished}
    rows = [_arm(arm, finished.get(arm.name)) for arm in report.sweep.arms]
    columns = ["arm", "changes", "run", "", "stages made", "seconds", "US$"]
    said = (
        f"Each arm is a run of its own on {report.sweep.base}, with its own report under runs/. Stages that "
        "are there are reused, and what arms share is made once; seconds and money are those that an arm's "
        "stages once took, whoever made them, so that their sum counts more than once what is shared."
    )
    best = report.recommended
    how = [] if best is None else [_to_publish(report, best)]
    return Section("arms", "The arms", [Prose(said), Table(columns, rows, left=4), *how])


def _arm(arm: Arm, of: Finished | None) -> list[Cell]:
    ledger = {} if of is None else of.ledger
    usd, seconds = ledger.get("usd"), sum((ledger.get("seconds") or {}).values())
    return [
        Cell(arm.name),
        Cell(" ".join(arm.sets) or "as the base", code=bool(arm.sets)),
        Cell(arm.run, code=True),
        *cells(
            "not compared" if of is None else "finished",
            UNDEFINED if of is None else f"{of.made} of {of.stages}",
            f"{seconds:,.0f}" if seconds else UNDEFINED,
            UNDEFINED if usd is None else f"{usd:.4f}",
        ),
    ]


def _to_publish(report: SweepReport, best: Finished) -> Table:
    sweep, arm = report.sweep, best.arm
    sets = [*sweep.overrides, *arm.sets, f"run.name={arm.run}", "publish=true"]
    command = ["understudy", "run", sweep.base, *(word for text in sets for word in ("--set", text))]
    said = Cell(f"To publish {arm.name}, which sweeps do not")
    return Table(["", ""], [[said, Cell(shlex.join(command), code=True)]], left=2)


def left(report: SweepReport) -> Section:
    """Who failed, and why."""
    said = "These are in no table. The same command goes on with what is left of them."
    items = [f"{each.arm.name} (run {each.arm.run}): {each.why}" for each in report.left]
    return Section("left", "Arms that are not compared", [Prose(said, warning=True), Bullets(items)])


def on_test(report: SweepReport, on: OnRows) -> list[Section]:
    """The tables of a run's report, and each comparison in words."""
    table = results.results(on)
    more = [s for s in (results.comparisons(on), results.default(on)) if s is not None]
    n = plural(len(report.finished), "arm")
    warning = Prose(
        f"For looking, not for choosing: test was read once for each of {n}, and what is recommended above "
        "is so by val.",
        warning=True,
    )
    shown = Section(table.key, table.title, [warning, *table.blocks])
    return [shown, *_in_words(report, on), *more]


def _in_words(report: SweepReport, on: OnRows) -> list[Section]:
    first = report.finished[0].arm.name
    metrics = dict.fromkeys([*([report.compared.metric] if report.compared else []), *verdict.SHOWN])
    said = [_sentence(c.differences[m]) for _, c in on.analysis.compared() for m in metrics]
    return [Section("words", f"Each arm against {first}, in words", [Bullets(said)])] if said else []


def _sentence(d: MetricDifference) -> str:
    least = d.detectable
    more = "" if least is None else f" These rows show a difference of {number(least)} four times in five."
    return f"{begins(d.verdict)}{more}"
