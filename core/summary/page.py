"""The rows of a summary as an HTML page with one table that can be sorted and searched."""

from __future__ import annotations

from collections.abc import Sequence

from core.optional import strict
from core.report import page
from core.report.document import Cell, Document, Prose, Section, Table
from core.report.text import number, plural, span
from core.summary.collecting import Row
from core.summary.files import Interval

METRICS = ("macro_f1", "auroc", "accuracy", "precision", "recall", "log_loss")
COLUMNS = (
    *("run", "split", "mode", "n", *METRICS, "US$", "seconds", "step"),
    *("engine", "base_model", "target", "teacher_model", "created_at", "data", "commit"),
)
_FIRST_WORDS = COLUMNS.index("n")
_LAST_WORDS = frozenset(range(COLUMNS.index("engine"), len(COLUMNS)))
_DIGEST = 8
"""Characters that are shown of digests."""


def render(rows: Sequence[Row], root: str, made_at: str) -> str:
    """Return the page; every text of a run is escaped, and no script but the page's own may run."""
    runs = plural(len({row.run for row in rows}), "run")
    intro = (
        "Click a column's name to sort by it, and again to reverse the order. An empty cell is undefined, or "
        "was not written; intervals are below their values."
    )
    table = Table(COLUMNS, [_cells(row) for row in rows], left=_FIRST_WORDS, sortable=True, words=_LAST_WORDS)
    document = Document(
        title=f"Runs under {root}",
        sections=[Section("runs", runs, [Prose(intro), table])],
        kind="Summary of runs",
        name=root,
        facts=(runs, made_at),
    )
    return page.render(document, strict())


def _cells(row: Row) -> list[Cell]:
    file, facts = row.file, row.facts
    metrics = [_metric(getattr(file.metrics, name), file.interval(name)) for name in METRICS]
    usd = "" if facts.usd is None else f"{facts.usd:.2f}"
    numbers = (usd, _whole(facts.seconds), _whole(facts.best_step))
    words = (facts.engine, facts.base_model, facts.target, facts.teacher_model, file.created_at)
    digests = ((digest or "")[:_DIGEST] for digest in (file.dataset_fingerprint, facts.commit))
    first = map(Cell, (row.run, row.split, row.mode, _whole(file.n)))
    return [*first, *metrics, *map(Cell, numbers), *(Cell(word or "") for word in words), *map(Cell, digests)]


def _metric(value: float | None, interval: Interval) -> Cell:
    return Cell("") if value is None else Cell(number(value), span(interval.low, interval.high))


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
