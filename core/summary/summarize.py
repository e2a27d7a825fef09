"""A summary of the runs under a root: their metrics, and what was skipped, as CSV tables or an HTML page.

The CSV tables are the predecessor's three, or one tidy table.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Context, Decimal
from pathlib import Path, PurePosixPath
from typing import Literal

from core import durable
from core.errors import StoreError, strict
from core.jsonio import InvalidFile, as_row, now, parse
from core.records import SPLITS, SplitName
from core.report import Cell, Document, Prose, Section, Table, number, plural, render_page, span
from core.store import RunState, Store, explained
from core.store.run_view import FOLDER, STATE
from core.summary.run_records import (
    FACT_FILES,
    MODES,
    MetricsFile,
    MetricValues,
    Mode,
    Modes,
    RunFacts,
    add_facts,
    bestval_path,
    metrics_path,
    read_metrics,
)

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
RUNS_AT_ONCE = 16
"""Runs of a remote root that are read in parallel."""
_ENDINGS = {"reasoning": "", "label_only": "_label_only"}
_HAS_NAN = "contains NaN, which JSON does not allow; these cells are empty"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder, as a path under the root, that was not used as it is, and why."""

    place: str
    why: str


@dataclass(frozen=True, slots=True)
class RunRow:
    """Metrics of a run on one split in one mode, with the facts of the run."""

    run: str
    split: SplitName
    mode: Mode
    file: MetricsFile
    facts: RunFacts


@dataclass(frozen=True, slots=True)
class Collected:
    """Rows by run, split and mode, and what was skipped."""

    rows: Sequence[RunRow]
    skipped: Sequence[Skipped]

    @property
    def runs(self) -> int:
        """Number of runs that have rows."""
        return len({row.run for row in self.rows})


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


def collect(store: Store, modes: Sequence[Mode] = MODES, *, with_facts: bool = True) -> Collected:
    """Read the metrics of every run; files and folders that cannot be used are skipped and named.

    Raises StoreError if the root cannot be listed, PassingError if it does not answer: a table that lacks
    rows for that reason would look complete.
    """
    runs, skipped = _run_folders(store)
    if store.backend.folder is not None:
        found = [run.rows(modes, with_facts) for run in runs]
    else:
        with ThreadPoolExecutor(RUNS_AT_ONCE) as pool:
            found = list(pool.map(lambda run: run.rows(modes, with_facts), runs))
    skipped += [each for run in runs for each in run.skipped]
    return Collected([row for rows in found for row in rows], sorted(skipped, key=lambda each: each.place))


@dataclass(frozen=True, slots=True)
class _Run:
    """A folder under runs/. `files` are the paths in it; None on a disk, where each is tried instead."""

    store: Store
    name: str
    files: set[str] | None
    skipped: list[Skipped] = field(default_factory=list)

    def rows(self, modes: Sequence[Mode], with_facts: bool) -> list[RunRow]:
        """Read the run; an invalid file next to the metrics costs only its own columns."""
        rows, facts = list[RunRow](), None
        for split, mode in itertools.product(SPLITS, modes):
            path = metrics_path(split, mode)
            data = self._read(path)
            if data is None and mode == "reasoning":
                name, path = PurePosixPath(path).name, bestval_path(split)
                data = self._read(path)
                if data is not None:
                    self._skip(path, f"used in place of {name}, which is missing")
            if data is None:
                continue
            if facts is None:
                facts = self._facts() if with_facts else RunFacts()
            try:
                file, has_nan = read_metrics(data, split)
            except InvalidFile as e:
                self._skip(path, str(e))
                continue
            rows.append(RunRow(self.name, split, mode, file, facts))
            if has_nan:
                self._skip(path, _HAS_NAN)
        if not rows and not self.skipped:
            self._skip("", self._why_empty(modes))
        return rows

    def _facts(self) -> RunFacts:
        facts = RunFacts()
        for path in FACT_FILES:
            try:
                facts = facts if (data := self._read(path)) is None else add_facts(facts, path, data)
            except InvalidFile as e:
                self._skip(path, str(e))
        return facts

    def _why_empty(self, modes: Sequence[Mode]) -> str:
        """Why a run has no metrics: the run is unfinished, or it is another kind of folder."""
        with contextlib.suppress(InvalidFile):
            data = self._read(STATE)
            state = "finished" if data is None else parse(RunState, data)[0].state
            if state != "finished":
                return f"nothing is exported yet (state: {state})"
        names = (f"metrics_{{train,val,test}}{_ENDINGS[mode]}.json" for mode in modes)
        return f"has no student_phase/{' or '.join(names)}"

    def _read(self, path: str) -> bytes | None:
        """A file's content; None if it does not exist, or cannot be read and is skipped."""
        if self.files is not None and path not in self.files:
            return None
        try:
            found = self.store.backend.read(f"{FOLDER}/{self.name}/{path}")
        except StoreError as e:
            self._skip(path, str(e))
            return None
        return None if found is None else found.data

    def _skip(self, path: str, why: str) -> None:
        self.skipped.append(Skipped(f"{FOLDER}/{self.name}/{path}".rstrip("/"), why))


def _run_folders(store: Store) -> tuple[list[_Run], list[Skipped]]:
    """The folders under runs/ by name, and files that are in the place of a folder.

    A remote root is listed once. On a disk only runs/ itself is listed, since runs may have many files.
    Raises StoreError if that fails.
    """
    runs, skipped = list[_Run](), list[Skipped]()
    paths_of: dict[str, set[str] | None] = {}  # None on a disk; without any paths it is a file
    if (folder := store.backend.folder) is not None:
        with explained(folder / FOLDER, "list"), contextlib.suppress(FileNotFoundError):
            for path in (folder / FOLDER).iterdir():
                try:
                    with explained(path, "read"):
                        paths_of[path.name] = None if path.is_dir() else set()
                except StoreError as e:  # a link into a folder of another user, for example
                    skipped.append(Skipped(f"{FOLDER}/{path.name}", str(e)))
    else:
        by_run = defaultdict[str, set[str]](set)
        for found in store.backend.list(FOLDER):
            _, name, *inside = found.path.split("/", 2)
            by_run[name].update(inside)
        paths_of |= by_run
    for name, paths in sorted(paths_of.items()):
        if paths is None or paths:
            runs.append(_Run(store, name, paths))
        elif not name.startswith("."):
            skipped.append(Skipped(f"{FOLDER}/{name}", "is a file; runs are folders"))
    return runs, skipped


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
    return render_page(document, strict())


def default_path(format: Format) -> Path:
    """The file in the working directory that a summary is written to by default."""
    return Path(f"summary.{'html' if format == 'html' else 'csv'}")


def save(text: str, path: Path) -> Path:
    """Write a file atomically and return its path. Raises StoreError.

    Half a surrogate pair, which names and JSON may have, is written as its escape.
    """
    try:
        durable.replace_bytes(path, text.encode("utf-8", "backslashreplace"))
    except OSError as e:
        raise StoreError(f"cannot write {path}: {e.strerror or e}; choose another path with --output") from e
    return path
