"""The predecessor's summary: three tables in one CSV file, columns and order as its users know them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Context, Decimal

from core.records import SPLITS
from core.summary.measured import COUNTS, METRICS, Measured

NAMES = ("run_dir", "method", "run_id", "prompt_mode", "created_at", "checkpoint_path")
NUMBERS = (*METRICS, *COUNTS)
COLUMNS = (*NAMES, "decision_threshold", "n", *NUMBERS)
_STAMPED = re.compile(r"(?P<method>.+)_(?P<id>\d{8}_\d{6})")
_PLACES = Decimal("0.0001")
_EXACT = Context(prec=400, rounding=ROUND_HALF_UP)
"""Digits for the largest float there is, and four more."""


def render(rows: Iterable[Measured]) -> str:
    """For train, val and test a line `# <split>`, a header, the rows and a blank line."""
    ordered = sorted(rows, key=lambda row: (*method_and_id(row.run), row.mode, row.run))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for split in SPLITS:
        out.write(f"# {split}\n")
        writer.writerow(COLUMNS)
        writer.writerows(_cells(row) for row in ordered if row.split == split)
        out.write("\n")
    return out.getvalue()


def method_and_id(run: str) -> tuple[str, str]:
    """A run's name in two: `<method>_<8 digits>_<6 digits>`, or else at the last underscore."""
    if match := _STAMPED.fullmatch(run):
        return match["method"], match["id"]
    method, underscore, last = run.rpartition("_")
    return (method, last) if underscore else (run, "")


def shown(value: float | None) -> str:
    """A float with four decimals, halves up; a whole number as it is; None as nothing."""
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    return f"{Decimal(repr(value)).quantize(_PLACES, context=_EXACT):f}"


def _cells(row: Measured) -> list[str]:
    method, run_id = method_and_id(row.run)
    names = (row.run, method, run_id, row.mode, row.created_at or "", row.checkpoint_path or "")
    numbers = (row.decision_threshold, row.n, *(row.metrics[name] for name in NUMBERS))
    return [*names, *map(shown, numbers)]
