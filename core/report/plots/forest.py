"""Values with their intervals, one below another, each under its name, so that a narrow page can hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from core.report.blocks import Key, Outcome, Picture
from core.report.inputs import Compared
from core.report.plots import style
from core.report.scorers import comparisons, outcome, student
from core.report.words import name_of

_ROW = 0.4
"""Height of a row, in inches."""
_MARKS: dict[Outcome, tuple[str, str, bool]] = {
    "better": (style.BLUE, "o", True),
    "worse": (style.RED, "s", True),
    "even": (style.MUTED, "D", False),
    "open": (style.MUTED, "x", False),
}
"""Colour, shape, and whether it is filled: a reader without colours has the shape."""


_KEYS: dict[Outcome, Key] = {
    "better": Key("shown to be better", style.NAMES[style.BLUE], "point"),
    "worse": Key("shown to be worse", style.NAMES[style.RED], "square"),
    "even": Key("no difference shown", style.NAMES[style.MUTED], "diamond"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A value with its interval, whose ends may be missing."""

    name: str
    value: float
    low: float | None
    high: float | None
    outcome: Outcome | None = None


def differences(report: Compared, metric: str) -> Picture | None:
    """The student minus each other scorer; None where nothing was compared in this metric."""
    rows = []
    for other, comparison in comparisons(report):
        d = comparison["differences"][metric]
        if d["value"] is not None:
            found = outcome(comparison, metric)
            rows.append(Row(other["title"], d["value"], d["low"], d["high"], found))
    if not rows:
        return None
    return forest(
        rows,
        name=f"differences-{metric}".replace("_", "-"),
        title=f"Difference in {name_of(metric)}",
        axis=f"{student(report)['title']} minus the other",
        zero=True,
        keys=[key for found, key in _KEYS.items() if any(row.outcome == found for row in rows)],
    )


def forest(
    rows: Sequence[Row],
    *,
    name: str,
    title: str,
    axis: str,
    zero: bool = False,
    keys: Sequence[Key] = (),
    line: float | None = None,
) -> Picture:
    """Rows from top to bottom; `zero` draws the line of no difference, `line` another one."""
    return Picture(
        name=name,
        title=title,
        description="; ".join(f"{r.name} {r.value:.3f}" for r in rows),
        paint=partial(_paint, rows=rows, axis=axis, line=0.0 if zero else line),
        keys=keys,
        size=(4.6, _ROW * len(rows) + 0.7),
    )


def _paint(figure: Any, rows: Sequence[Row], axis: str, line: float | None) -> None:
    panel = figure.subplots()
    if line is not None:
        panel.axvline(line, color=style.INK, linewidth=1)
    for i, row in enumerate(rows):
        _row(panel, row, i)
    panel.set_ylim(len(rows) - 0.5, -0.75)
    panel.set_yticks([])
    panel.set_xlabel(style.label(axis))
    style.tidy(panel)
    panel.spines["left"].set_visible(False)
    panel.margins(x=0.08)


def _row(panel: Any, row: Row, at: float) -> None:
    colour, shape, filled = _MARKS[row.outcome or "better"]
    if row.low is not None and row.high is not None:
        panel.plot([row.low, row.high], [at, at], color=colour, linewidth=1.6)
    panel.plot(
        [row.value],
        [at],
        color=colour,
        marker=shape,
        markersize=6,
        markerfacecolor=colour if filled else style.PAPER,
        markeredgecolor=colour,
    )
    panel.text(
        0,
        at - 0.32,
        style.label(row.name),
        transform=panel.get_yaxis_transform(),
        fontsize=9,
        va="center",
        bbox={"facecolor": style.PAPER, "edgecolor": "none", "pad": 0.6},
    )
