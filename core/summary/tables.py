"""A summary as a file: the predecessor's three CSV tables, one tidy CSV table, or an HTML page."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from pathlib import Path
from typing import Literal

from core import files
from core.errors import StoreError
from core.jsonio import as_row, now
from core.optional import strict
from core.records import SPLITS
from core.report import page
from core.report.document import Cell, Document, Prose, Section, Table
from core.report.text import number, plural, span
from core.store.objects import Store
from core.summary.collecting import Collected, RunRow, collect
from core.summary.files import MODES, MetricValues, Modes

Format = Literal["csv", "tidy", "html"]
FORMATS: tuple[Format, ...] = ("csv", "tidy", "html")
Value = str | float | None
Line = Sequence[object]
_CLASSIC_METRICS = tuple(name for name, field in MetricValues.model_fields.items() if field.is_required())
CLASSIC_COLUMNS = (
    *("run_dir", "method", "run_id", "prompt_mode", "created_at", "checkpoint_path"),
    *("decision_threshold", "n", *_CLASSIC_METRICS),
)
_WITH_INTERVAL = (
    *("macro_f1", "accuracy", "balanced_accuracy", "F1", "precision", "recall", "mcc"),
    *("auroc", "auprc", "log_loss", "brier", "invalid_label_rate"),
)
_COUNTS = ("tp", "fp", "fn", "tn", "n_positive", "outside_mass")
PAGE_METRICS = ("macro_f1", "auroc", "accuracy", "precision", "recall", "log_loss")
PAGE_COLUMNS = (
    *("run", "split", "mode", "n", *PAGE_METRICS, "US$", "seconds", "step"),
    *("engine", "base_model", "target", "teacher_model", "created_at", "data", "commit"),
)
_DIGEST = 8
"""Characters that the page shows of digests."""
_TIMESTAMPED = re.compile(r"(.+)_(\d{8}_\d{6})")
_PLACES = Decimal("0.0001")
_EXACT = Context(prec=400, rounding=ROUND_HALF_UP)
"""Enough digits for the largest float, and four more."""


def summarize_runs(
    store: Store, modes: Modes, format: Format, *, with_facts: bool = False
) -> tuple[Collected, str]:
    """Read the runs under a root and render them; `with_facts` reads run facts that the format leaves out.

    Raises StoreError or PassingError if the root cannot be read.
    """
    wanted = [mode for mode in MODES if modes in (mode, "both")]
    found = collect(store, wanted, with_facts=with_facts or format != "csv")
    if format == "csv":
        return found, classic_csv(found.rows)
    return found, tidy_csv(found.rows) if format == "tidy" else html_page(found.rows, store.backend.url)


def classic_csv(rows: Iterable[RunRow]) -> str:
    """The predecessor's tables, column by column: per split a line `# <split>`, a header, rows, a blank."""
    ordered, lines = sorted(rows, key=lambda row: (*method_and_id(row.run), row.mode, row.run)), list[Line]()
    for split in SPLITS:
        lines += [[f"# {split}"], CLASSIC_COLUMNS]
        for row in (row for row in ordered if row.split == split):
            file, (method, run_id) = row.file, method_and_id(row.run)
            texts = (row.run, method, run_id, row.mode, file.created_at or "", file.checkpoint_path or "")
            metrics = (getattr(file.metrics, name) for name in _CLASSIC_METRICS)
            lines.append([*texts, *map(four_decimals, (file.decision_threshold, file.n, *metrics))])
        lines.append([])
    return csv_text(lines)


def method_and_id(run: str) -> tuple[str, str]:
    """Split a run's name: `<method>_<8 digits>_<6 digits>`, or else at the last underscore."""
    if match := _TIMESTAMPED.fullmatch(run):
        method, run_id = match.groups()
        return method, run_id
    method, underscore, last = run.rpartition("_")
    return (method, last) if underscore else (run, "")


def four_decimals(value: float | None) -> str:
    """Render a float with four decimals, halves up; integers as they are; None as nothing."""
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    return f"{Decimal(repr(value)).quantize(_PLACES, context=_EXACT):f}"


def cells(row: RunRow) -> dict[str, Value]:
    """A row by column name. `data` and `measurement` are digests: of the split, and of what was measured."""
    file, metrics = row.file, dict[str, Value]()
    for name in _WITH_INTERVAL:
        interval = file.interval(name)
        metrics[name] = getattr(file.metrics, name)
        metrics[f"{name}_low"], metrics[f"{name}_high"] = interval.low, interval.high
    return {
        "run": row.run,
        "split": row.split,
        "mode": row.mode,
        "created_at": file.created_at,
        "n": file.n,
        **metrics,
        **{name: getattr(file.metrics, name) for name in _COUNTS},
        "decision_threshold": file.decision_threshold,
        **as_row(row.facts),
        "data": file.dataset_fingerprint,
        "measurement": file.config_fingerprint,
        "checkpoint_path": file.checkpoint_path,
    }


def tidy_csv(rows: Sequence[RunRow]) -> str:
    """One table with one row per run, split and mode; None is an empty cell.

    Metrics that are not built in come last, each with its interval.
    """
    more = dict.fromkeys(name for row in rows for name in row.file.metrics.registered)
    lines = list[Line]()
    if rows:
        added = (f"{name}{end}" for name in more for end in ("", "_low", "_high"))
        lines.append([*cells(rows[0]), *added])
    for row in rows:
        values = list(cells(row).values())
        for name in more:
            interval = row.file.interval(name)
            values += [row.file.metrics.registered.get(name), interval.low, interval.high]
        lines.append(values)
    return csv_text(lines)


def csv_text(lines: Iterable[Line]) -> str:
    """CSV with commas and line feeds."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()


def html_page(rows: Sequence[RunRow], root: str) -> str:
    """A page with one table that can be sorted and searched; every text of a run is escaped."""
    runs = plural(len({row.run for row in rows}), "run")
    intro = (
        "Click a column's name to sort by it, and again to reverse the order. An empty cell is undefined, or "
        "was not written; intervals are below their values."
    )
    words = frozenset(range(PAGE_COLUMNS.index("engine"), len(PAGE_COLUMNS)))
    left = PAGE_COLUMNS.index("n")
    shown = []
    for row in rows:
        file, facts, metrics = row.file, row.facts, list[Cell]()
        for name in PAGE_METRICS:
            value, interval = getattr(file.metrics, name), file.interval(name)
            ends = span(interval.low, interval.high)
            metrics.append(Cell("") if value is None else Cell(number(value), ends))
        usd = "" if facts.usd is None else f"{facts.usd:.2f}"
        n, seconds, step = ("" if v is None else f"{v:.0f}" for v in (file.n, facts.seconds, facts.best_step))
        texts = (facts.engine, facts.base_model, facts.target, facts.teacher_model, file.created_at)
        digests = ((digest or "")[:_DIGEST] for digest in (file.dataset_fingerprint, facts.commit))
        last = (usd, seconds, step, *(text or "" for text in texts), *digests)
        shown.append([*map(Cell, (row.run, row.split, row.mode, n)), *metrics, *map(Cell, last)])
    table = Table(PAGE_COLUMNS, shown, left=left, sortable=True, words=words)
    sections, facts_line = [Section("runs", runs, [Prose(intro), table])], (runs, now())
    document = Document(f"Runs under {root}", sections, kind="Summary of runs", name=root, facts=facts_line)
    return page.render(document, strict())


def default_path(format: Format) -> Path:
    """The file in the working directory that a summary is written to by default."""
    return Path(f"summary.{'html' if format == 'html' else 'csv'}")


def save(text: str, path: Path) -> Path:
    """Write a file atomically and return its path. Raises StoreError.

    Half a surrogate pair, which names and JSON may have, is written as its escape.
    """
    try:
        files.replace_bytes(path, text.encode("utf-8", "backslashreplace"))
    except OSError as e:
        raise StoreError(f"cannot write {path}: {e.strerror or e}; choose another path with --output") from e
    return path
