"""The learning curve: val by step, the baselines as lines to get above, the train loss below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from core.evaluation.metrics import Metrics, value
from core.report.blocks import Key, Picture
from core.report.inputs import CurvePoint, Report
from core.report.plots import style
from core.report.words import name_of

_PANEL = 2.1
"""Height of each panel, in inches."""


def learning_curve(report: Report) -> Picture | None:
    """For the page; None before anything was measured."""
    if not report.curve:
        return None
    keys = [Key("student", style.NAMES[style.STUDENT])]
    for title, (colour, dash) in zip(report.val_baselines, _lines(report.val_baselines), strict=True):
        keys.append(Key(title, style.NAMES[colour], dash=dash))
    metric = report.selection.metric
    panels = len(_panels(metric)) + bool(report.losses)
    return Picture(
        name="curve",
        title="Learning curve on val",
        description=f"{name_of(metric)} and AUROC by step; step {report.selection.step} is ringed.",
        paint=partial(
            paint,
            points=report.curve,
            metric=metric,
            losses=report.losses,
            baselines=report.val_baselines,
            chosen=report.selection.step,
        ),
        keys=keys,
        note=f"The ring is the chosen step, {report.selection.step}.",
        size=(4.6, _PANEL * panels + 0.2),
    )


def save(
    points: Sequence[CurvePoint],
    metric: str,
    path: Path,
    *,
    losses: Sequence[tuple[int, float]] = (),
    baselines: Mapping[str, Metrics] | None = None,
    chosen: int | None = None,
) -> None:
    """The same as a PNG at `path`, with its legend. `baselines` maps titles to metrics on val."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = len(_panels(metric)) + bool(losses)
    with style.painting({"figure.facecolor": style.PAPER}):
        figure = Figure(figsize=(7, 2.4 * panels), layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure, points, metric, losses, baselines or {}, chosen, legend=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=130)


def paint(
    figure: Any,
    points: Sequence[CurvePoint],
    metric: str,
    losses: Sequence[tuple[int, float]],
    baselines: Mapping[str, Metrics],
    chosen: int | None,
    *,
    legend: bool = False,
) -> None:
    """One panel each for the metric of selection, AUROC and, where there are `losses`, the train loss."""
    names = _panels(metric)
    panels = figure.subplots(len(names) + bool(losses), 1, sharex=True, squeeze=False)[:, 0]
    for panel, name in zip(panels, names, strict=False):
        _metric(panel, name, points, baselines, chosen, legend=legend)
    if losses:
        panels[-1].plot(*zip(*losses, strict=True), color=style.MUTED, linewidth=1)
        panels[-1].set_ylabel("train loss")
        style.tidy(panels[-1])
    panels[-1].set_xlabel("optimiser step")


def _panels(metric: str) -> list[str]:
    return list(dict.fromkeys([metric, "auroc"]))


def _metric(
    panel: Any,
    name: str,
    points: Sequence[CurvePoint],
    baselines: Mapping[str, Metrics],
    chosen: int | None,
    *,
    legend: bool,
) -> None:
    at = [(p.step, v) for p in points if (v := value(p.metrics, name)) is not None]
    steps, values = [s for s, _ in at], [v for _, v in at]
    lines = panel.plot(steps, values, color=style.STUDENT, marker="o", markersize=4)
    titles = ["student"]
    for (title, metrics), (colour, dash) in zip(baselines.items(), _lines(baselines), strict=True):
        level = value(metrics, name)
        if level is not None:
            lines.append(panel.axhline(level, color=colour, linestyle=style.dashes(dash), linewidth=1.3))
            titles.append(style.label(title))
    for step, v in at:
        if step == chosen:
            panel.plot([step], [v], color=style.STUDENT, marker="o", markersize=10, fillstyle="none")
    panel.set_ylabel(f"val {name_of(name)}")
    style.tidy(panel)
    if legend:
        # A title that begins with an underscore would hide its line.
        shown = [f"\N{ZERO WIDTH SPACE}{t}" if t.startswith("_") else t for t in titles]
        panel.legend(lines, shown, fontsize=7, loc="best", frameon=False)


def _lines(baselines: Mapping[str, Metrics]) -> list[tuple[str, str]]:
    return [style.OTHERS[i % len(style.OTHERS)] for i in range(len(baselines))]
