"""One row a run, split and mode, with every number as it was written."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from core.jsonio import as_row
from core.summary.collecting import Row
from core.summary.intervals import UNKNOWN

Cell = str | float | None

FIRST = (
    "macro_f1",
    "accuracy",
    "balanced_accuracy",
    "F1",
    "precision",
    "recall",
    "mcc",
    "auroc",
    "auprc",
    "log_loss",
    "brier",
    "invalid_label_rate",
)
"""Each with the ends of its interval beside it."""
THEN = ("tp", "fp", "fn", "tn", "n_positive", "outside_mass")


def cells(row: Row) -> dict[str, Cell]:
    """A row by column. `data` and `measurement` are digests: of the split, and of what was measured how."""
    m = row.measured
    return {
        "run": m.run,
        "split": m.split,
        "mode": m.mode,
        "created_at": m.created_at,
        "n": m.n,
        **_metrics(row),
        "decision_threshold": m.decision_threshold,
        **as_row(row.facts),
        "data": m.dataset_fingerprint,
        "measurement": m.config_fingerprint,
        "checkpoint_path": m.checkpoint_path,
    }


def render(rows: Iterable[Row]) -> str:
    """The rows as CSV under one header; None is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for i, row in enumerate(rows):
        found = cells(row)
        if i == 0:
            writer.writerow(found)
        writer.writerow(found.values())
    return out.getvalue()


def _metrics(row: Row) -> dict[str, Cell]:
    found, out = row.measured.metrics, dict[str, Cell]()
    for name in FIRST:
        ends = row.measured.intervals.get(name, UNKNOWN)
        out |= {name: found[name], f"{name}_low": ends.low, f"{name}_high": ends.high}
    return {**out, **{name: found[name] for name in THEN}}
