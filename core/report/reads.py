"""How often test was read, and what that makes of its figures."""

from __future__ import annotations

from core.report.blocks import Cell, Prose, Section, Table
from core.report.inputs import Report
from core.report.words import plural


def section(report: Report) -> Section | None:
    """Every reading of this test split under the root; None where nobody counted."""
    if not report.reads:
        return None
    rows = [[Cell(r.run, code=True), Cell(r.when), Cell(r.what)] for r in report.reads]
    table = Table(["run", "when", "what for"], rows, left=3)
    return Section("reads", "Who has read test", [Prose(meaning(report), _several(report)), table])


def meaning(report: Report) -> str:
    """What the number of readings says of the figures."""
    n = len(report.reads)
    if n == 1:
        return (
            f"This {report.split} split was read once, by this run, after checkpoint, calibration and "
            "threshold were frozen: its figures were chosen by nobody."
        )
    runs = len({r.run for r in report.reads})
    often = "twice" if n == 2 else f"{n} times"
    return (
        f"This {report.split} split was read {often} by {plural(runs, 'run')} under this root. Whoever "
        "chose among them by these figures has selected on test: the best of several looks better than it "
        "is, and only rows that nobody has read would say by how much."
    )


def selected_on_test(report: Report) -> list[str]:
    """The warning for the verdict, where there is one."""
    return [meaning(report)] if _several(report) else []


def _several(report: Report) -> bool:
    return len(report.reads) > 1
