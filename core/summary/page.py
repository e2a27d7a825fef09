"""The rows as one HTML page that needs nothing else: sortable, searchable, readable on a phone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from importlib import resources

from jinja2 import Environment, StrictUndefined

from core.summary.collecting import Row
from core.summary.tables import Cell, cells

INTERVALS = ("macro_f1", "auroc", "accuracy", "precision", "recall", "log_loss")
COLUMNS = (
    "run",
    "split",
    "mode",
    "n",
    *INTERVALS,
    "usd",
    "seconds",
    "engine",
    "base_model",
    "target",
    "teacher_model",
    "best_step",
    "created_at",
    "data",
    "commit",
)
_SHORT = {"data": 8, "commit": 8}
"""Characters that are shown of digests."""


def render(rows: Iterable[Row], root: str, made_at: str) -> str:
    """The page; every text of a run is escaped, and no script but its own may run."""
    table = [_shown(cells(row)) for row in rows]
    script, style, page = (_part(name) for name in ("summary.js", "summary.css", "summary.html.j2"))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(page).render(
        root=root,
        made_at=made_at,
        columns=COLUMNS,
        numbers=[_is_number(name) for name in COLUMNS],
        rows=table,
        runs=len({row[0] for row in table}),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=style,
    )


def _part(name: str) -> str:
    return resources.files("core.summary").joinpath(f"templates/{name}").read_text("utf-8")


def _is_number(name: str) -> bool:
    return name in (*INTERVALS, "n", "usd", "seconds", "best_step")


def _shown(found: Mapping[str, Cell]) -> list[str]:
    return [_cell(name, found) for name in COLUMNS]


def _cell(name: str, found: Mapping[str, Cell]) -> str:
    value = found[name]
    if value is None:
        return ""
    if isinstance(value, str):
        return value[: _SHORT.get(name)]
    if name not in INTERVALS:
        return f"{value:.2f}" if name == "usd" else f"{value:.0f}"
    low, high = found[f"{name}_low"], found[f"{name}_high"]
    ends = f" [{low:.3f}, {high:.3f}]" if isinstance(low, float) and isinstance(high, float) else ""
    return f"{value:.3f}{ends}"
