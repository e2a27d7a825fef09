"""The same run with other seeds: how far one run's figures can be trusted to come again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean, stdev

from core.report.blocks import Cell, Prose, Section, Table
from core.report.inputs import Report, SeedResult
from core.report.scorers import student
from core.report.words import name_of, number

MEASURED = ("macro_f1", "auroc", "accuracy", "precision", "recall", "log_loss", "brier")
_SPREAD: Mapping[str, Callable[[Sequence[float]], float]] = {
    "mean": mean,
    "standard deviation": stdev,
    "smallest": min,
    "largest": max,
}


def section(report: Report) -> Section | None:
    """Each seed and their spread; None where there is one seed."""
    if not report.seeds:
        return None
    runs = [own(report), *report.seeds]
    intro = (
        f"The student of {len(runs)} seeds on the same rows of {report.split}, each at the threshold that "
        "its own val chose. Intervals elsewhere are about the rows; this spread is about training."
    )
    rows = [
        [Cell(r.run, code=True), Cell(str(r.seed)), *(Cell(number(r.metrics.get(m))) for m in MEASURED)]
        for r in runs
    ]
    first = len(rows)
    for name, of in _SPREAD.items():
        rows.append([Cell(name), Cell(""), *(Cell(number(_spread(runs, m, of))) for m in MEASURED)])
    strong = frozenset({0, first})
    table = Table(["run", "seed", *map(name_of, MEASURED)], rows, strong=strong)
    return Section("seeds", "Other seeds", [Prose(intro), table])


def own(report: Report) -> SeedResult:
    """This run among its seeds."""
    measured = {name: i["value"] for name, i in student(report)["intervals"].items()}
    return SeedResult(report.run_name, report.setup.seed, measured)


def _spread(runs: Sequence[SeedResult], metric: str, of: Callable[[Sequence[float]], float]) -> float | None:
    """None where a seed lacks the metric: a spread of some of them would be another number."""
    found = [r.metrics.get(metric) for r in runs]
    defined = [v for v in found if v is not None]
    return of(defined) if len(defined) == len(found) else None
