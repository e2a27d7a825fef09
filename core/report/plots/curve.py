"""The learning curve: val by step, the baselines as reference lines, the train loss below."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from core.evaluation.metrics import value
from core.report.data import ReportData
from core.report.document import Key, Picture
from core.report.plots import drawing
from core.report.text import name_of

_PANEL = 2.1
"""Height of each panel, in inches."""


def learning_curve(data: ReportData) -> Picture | None:
    """Draw the curve for the page; None before anything was measured."""
    if not data.curve:
        return None
    strokes = zip(data.val_baselines, _strokes(data), strict=True)
    baselines = [Key(title, drawing.NAMES[color], dash=dash) for title, (color, dash) in strokes]
    metric, step = data.selection.metric, data.selection.step
    return Picture(
        name="curve",
        title="Learning curve on val",
        description=f"{name_of(metric)} and AUROC by step; step {step} is ringed.",
        paint=partial(_paint, data=data),
        keys=[Key("student", drawing.NAMES[drawing.STUDENT]), *baselines],
        note=f"The ring is the chosen step, {step}.",
        size=(4.6, _PANEL * _panels(data) + 0.2),
    )


def save(data: ReportData, path: Path) -> None:
    """Write the curve as a PNG at `path`, with a legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with drawing.painting({"figure.facecolor": drawing.PAPER}):
        figure = Figure(figsize=(7, 2.4 * _panels(data)), layout="constrained")
        FigureCanvasAgg(figure)
        _paint(figure, data, legend=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=130)


def _paint(figure: Any, data: ReportData, *, legend: bool = False) -> None:
    """Paint one panel each for the metric of selection, AUROC and, if there are losses, the train loss."""
    panels = figure.subplots(_panels(data), 1, sharex=True, squeeze=False)[:, 0]
    for panel, name in zip(panels, _metrics(data), strict=False):
        _paint_metric(panel, name, data, legend=legend)
    if data.losses:
        panels[-1].plot(*zip(*data.losses, strict=True), color=drawing.MUTED, linewidth=1)
        panels[-1].set_ylabel("train loss")
        drawing.tidy(panels[-1])
    panels[-1].set_xlabel("optimizer step")


def _paint_metric(panel: Any, name: str, data: ReportData, *, legend: bool) -> None:
    at = [(p.step, v) for p in data.curve if (v := value(p.metrics, name)) is not None]
    steps, values = [s for s, _ in at], [v for _, v in at]
    lines = panel.plot(steps, values, color=drawing.STUDENT, marker="o", markersize=4)
    titles = ["student"]
    for (title, metrics), (color, dash) in zip(data.val_baselines.items(), _strokes(data), strict=True):
        level = value(metrics, name)
        if level is not None:
            lines.append(panel.axhline(level, color=color, linestyle=drawing.dashes(dash), linewidth=1.3))
            titles.append(drawing.label(title))
    for step, v in at:
        if step == data.selection.step:
            panel.plot([step], [v], color=drawing.STUDENT, marker="o", markersize=10, fillstyle="none")
    panel.set_ylabel(f"val {name_of(name)}")
    drawing.tidy(panel)
    if legend:
        # matplotlib hides a line whose title begins with an underscore.
        shown = [f"\N{ZERO WIDTH SPACE}{t}" if t.startswith("_") else t for t in titles]
        panel.legend(lines, shown, fontsize=7, loc="best", frameon=False)


def _metrics(data: ReportData) -> list[str]:
    return list(dict.fromkeys([data.selection.metric, "auroc"]))


def _panels(data: ReportData) -> int:
    return len(_metrics(data)) + bool(data.losses)


def _strokes(data: ReportData) -> Sequence[tuple[str, str]]:
    return [drawing.OTHERS[i % len(drawing.OTHERS)] for i in range(len(data.val_baselines))]
