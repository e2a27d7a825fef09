"""Values with their intervals, one below another, and counts as areas: the funnel and the decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from core.evaluation.analysis import Analysis
from core.evaluation.metrics import Confusion
from core.rejection.funnel import Level
from core.report.document import Conclusion, Key, Picture, conclusion
from core.report.plots import drawing
from core.report.text import name_of

_ROW = 0.4
"""Height of a row, in inches."""
_MARKS: dict[Conclusion, tuple[str, str, bool]] = {
    "better": (drawing.BLUE, "o", True),
    "worse": (drawing.RED, "s", True),
    "even": (drawing.MUTED, "D", False),
    "open": (drawing.MUTED, "x", False),
}
"""Color, shape, and whether it is filled: a reader who does not see colors has the shape."""
_KEYS: dict[Conclusion, Key] = {
    "better": Key("shown to be better", drawing.NAMES[drawing.BLUE], "point"),
    "worse": Key("shown to be worse", drawing.NAMES[drawing.RED], "square"),
    "even": Key("no difference shown", drawing.NAMES[drawing.MUTED], "diamond"),
}
_NEGATIVE, _POSITIVE = drawing.ORANGE, drawing.BLUE
_MOST_BARS = 12


@dataclass(frozen=True, slots=True)
class ForestRow:
    """A value with its interval, whose ends may be missing."""

    name: str
    value: float
    low: float | None
    high: float | None
    conclusion: Conclusion | None = None


def differences(analysis: Analysis, metric: str) -> Picture | None:
    """Draw the student minus each other scorer; None if nothing was compared in this metric."""
    rows = [
        ForestRow(other.title, d.value, d.low, d.high, conclusion(d))
        for other, c in analysis.compared()
        if (d := c.differences[metric]).value is not None
    ]
    if not rows:
        return None
    return forest(
        rows,
        name=f"differences-{metric}".replace("_", "-"),
        title=f"Difference in {name_of(metric)}",
        axis=f"{analysis.first.title} minus the other",
        line=0.0,
        keys=[key for found, key in _KEYS.items() if any(row.conclusion == found for row in rows)],
    )


def forest(
    rows: Sequence[ForestRow],
    *,
    name: str,
    title: str,
    axis: str,
    keys: Sequence[Key] = (),
    line: float | None = None,
) -> Picture:
    """Draw rows from top to bottom; `line` is the position of a vertical line."""
    return Picture(
        name=name,
        title=title,
        description="; ".join(f"{r.name} {r.value:.3f}" for r in rows),
        paint=partial(_paint_forest, rows=rows, axis=axis, line=line),
        keys=keys,
        size=(4.6, _ROW * len(rows) + 0.7),
    )


def _paint_forest(figure: Any, rows: Sequence[ForestRow], axis: str, line: float | None) -> None:
    panel = figure.subplots()
    if line is not None:
        panel.axvline(line, color=drawing.INK, linewidth=1)
    for i, row in enumerate(rows):
        _row(panel, row, i)
    panel.set_ylim(len(rows) - 0.5, -0.75)
    panel.set_yticks([])
    panel.set_xlabel(drawing.label(axis))
    drawing.tidy(panel)
    panel.spines.left.set_visible(False)
    panel.margins(x=0.08)


def _row(panel: Any, row: ForestRow, at: float) -> None:
    colour, shape, filled = _MARKS[row.conclusion or "better"]
    if row.low is not None and row.high is not None:
        panel.plot([row.low, row.high], [at, at], color=colour, linewidth=1.6)
    panel.plot(
        [row.value],
        [at],
        color=colour,
        marker=shape,
        markersize=6,
        markerfacecolor=colour if filled else drawing.PAPER,
        markeredgecolor=colour,
    )
    panel.text(
        0,
        at - 0.32,
        drawing.label(row.name),
        transform=panel.get_yaxis_transform(),
        fontsize=9,
        va="center",
        bbox={"facecolor": drawing.PAPER, "edgecolor": "none", "pad": 0.6},
    )


def confusion(analysis: Analysis) -> Picture | None:
    """Draw the student's decisions by gold label; None if there are none."""
    counts, title = analysis.first.counts, analysis.first.title
    if counts is None or not analysis.rows:
        return None
    return Picture(
        name="confusion",
        title=f"Decisions of {title}",
        description=f"tp {counts.tp}, fp {counts.fp}, fn {counts.fn}, tn {counts.tn}",
        paint=partial(_paint_confusion, counts=counts),
        note="Each row of the square is one gold label; the shares are of that label.",
        size=(4.0, 2.5),
    )


def _paint_confusion(figure: Any, counts: Confusion) -> None:
    from matplotlib.patches import Rectangle

    panel = figure.subplots()
    # Rows are gold negative and positive, columns predicted negative and positive.
    for i, row in enumerate(((counts.tn, counts.fp), (counts.fn, counts.tp))):
        for j, n in enumerate(row):
            share = n / sum(row) if sum(row) else 0.0
            right = i == j
            color = drawing.BLUE if right else drawing.RED
            panel.add_patch(Rectangle((j, i), 0.97, 0.95, facecolor=color, alpha=0.08 + 0.4 * share))
            panel.text(j + 0.48, i + 0.4, f"{n:,}", ha="center", va="center", fontsize=15)
            text = f"{'right' if right else 'wrong'}, {share:.1%}"
            panel.text(j + 0.48, i + 0.72, text, ha="center", va="center", fontsize=8.5)
    panel.set_xlim(0, 2)
    panel.set_ylim(1.97, 0)
    panel.set_xticks([0.48, 1.48], ["predicted negative", "predicted positive"])
    panel.set_yticks([0.48, 1.48], ["gold\nnegative", "gold\npositive"])
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)


def funnel(texts: Level, missing: Mapping[str, int]) -> Picture:
    """Draw what became of the train texts, as shares of the texts of each gold label."""
    by = texts.by_label
    counts = [("accepted", [s.count for s in by.values()])]
    counts += [(reason, [n[label] for label in by]) for reason, n in texts.by_reason.items()]
    if any(missing.values()):
        counts.append(("without an answer", [missing[label] for label in by]))
    whole = [s.total + missing[label] for label, s in by.items()]
    bars = [
        (name, [n / total if total else 0.0 for n, total in zip(each, whole, strict=True)])
        for name, each in counts[:_MOST_BARS]
    ]
    return Picture(
        name="funnel",
        title="What became of the train texts",
        description="; ".join(f"{name}: {' and '.join(f'{s:.3f}' for s in shares)}" for name, shares in bars),
        paint=partial(_paint_bars, bars=bars),
        keys=[
            Key("gold negative", drawing.NAMES[_NEGATIVE], "band"),
            Key("gold positive", drawing.NAMES[_POSITIVE], "band"),
        ],
        note="Shares of the texts of each gold label.",
        size=(4.6, 0.52 * len(bars) + 0.6),
    )


def _paint_bars(figure: Any, bars: Sequence[tuple[str, Sequence[float]]]) -> None:
    panel = figure.subplots()
    for i, (name, shares) in enumerate(bars):
        panel.barh([i, i + 0.2], shares, height=0.19, color=[_NEGATIVE, _POSITIVE])
        for offset, share in zip((0.0, 0.2), shares, strict=True):
            panel.text(share + 0.01, i + offset, f"{share:.1%}", fontsize=8, va="center")
        panel.text(0, i - 0.27, drawing.label(name), fontsize=9, va="center")
    panel.set_ylim(len(bars) - 0.55, -0.5)
    panel.set_xlim(0, 1.13)
    panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    panel.set_yticks([])
    drawing.tidy(panel)
    panel.spines.left.set_visible(False)
