"""How often test was read, and what that makes of its figures."""

from __future__ import annotations

from core.report.blocks import Cell, Prose, Section, Table
from core.report.inputs import Report
from core.report.words import plural


def section(report: Report) -> Section | None:
    """Everyone measured on this test split under the root; None where nobody counted."""
    if not report.reads:
        return None
    rows = [[Cell(r.run, code=True), Cell(r.at), Cell(r.what)] for r in report.reads]
    table = Table(["run", "when", "what was measured"], rows, left=3)
    return Section("reads", "Who has read test", [Prose(meaning(report), _several(report)), table])


def meaning(report: Report) -> str:
    """What their number says of the figures."""
    n = len(report.reads)
    if n == 1:
        return (
            "One student was measured on this test split, with checkpoint, calibration and threshold frozen "
            "before: nobody has chosen by its figures."
        )
    if not _several(report):
        return (
            f"{n} students were measured on this test split, one of each seed of this run: the seeds were "
            "named beforehand, and nobody has chosen among them by these figures."
        )
    runs = len({r.run for r in report.reads})
    return (
        f"{n} students of {plural(runs, 'run')} under this root were measured on this very test split. "
        "Whoever chooses among them by these figures selects on test: the best of several looks better than "
        "it is, and only rows that none of them was measured on would say by how much."
    )


def selected_on_test(report: Report) -> list[str]:
    """The warning for the verdict, where there is one."""
    return [meaning(report)] if _several(report) else []


def _several(report: Report) -> bool:
    """Whether more were measured than one student, or one of each seed."""
    runs = [r.run for r in report.reads]
    seeds = {report.run_name, *(s.run for s in report.seeds)}
    return len(runs) > 1 and (len(set(runs)) < len(runs) or not set(runs) <= seeds)
