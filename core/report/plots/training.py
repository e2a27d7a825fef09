"""Plots of training: the learning curve on val, and what became of the train texts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from core.rejection.funnel import Level
from core.report.data import ReportData
from core.report.document import Picture
from core.report.plots import drawing
from core.report.plots.drawing import BLUE, MUTED, ORANGE, STUDENT
from core.report.text import GOLD_LABELS, name_of

_PANEL_INCHES = 2.1
_MOST_BARS = 12


def learning_curve(data: ReportData) -> Picture | None:
    """Draw val by step, with the baselines as lines and the train loss below; None without checkpoints."""
    if not data.curve:
        return None
    strokes = zip(data.val_baselines, drawing.other_strokes(len(data.val_baselines)), strict=True)
    baselines = [drawing.key(title, color, dash=dash) for title, (color, dash) in strokes]
    metric, step = data.selection.metric, data.selection.step
    return Picture(
        name="curve",
        title="Learning curve on val",
        description=f"{name_of(metric)} and AUROC by step; step {step} is ringed.",
        paint=partial(_paint_curve, data=data),
        keys=[drawing.key("student", STUDENT), *baselines],
        note=f"The ring is the chosen step, {step}.",
        size=(4.6, _PANEL_INCHES * _panels(data) + 0.2),
    )


def save_learning_curve(data: ReportData, path: Path) -> None:
    """Write the curve as a PNG at `path`, with a legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with drawing.painting({"figure.facecolor": drawing.PAPER}):
        figure = Figure(figsize=(7, 2.4 * _panels(data)), layout="constrained")
        FigureCanvasAgg(figure)
        _paint_curve(figure, data, legend=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=130)


def _metrics(data: ReportData) -> list[str]:
    return list(dict.fromkeys([data.selection.metric, "auroc"]))


def _panels(data: ReportData) -> int:
    return len(_metrics(data)) + bool(data.losses)


def _paint_curve(figure: Any, data: ReportData, *, legend: bool = False) -> None:
    """Paint one panel for each metric and, if there are losses, one for the train loss."""
    panels = figure.subplots(_panels(data), 1, sharex=True, squeeze=False)[:, 0]
    strokes = drawing.other_strokes(len(data.val_baselines))
    for panel, name in zip(panels, _metrics(data), strict=False):
        at = [(step, v) for step, metrics in data.curve.items() if (v := metrics[name]) is not None]
        lines = panel.plot([s for s, _ in at], [v for _, v in at], color=STUDENT, marker="o", markersize=4)
        titles = ["student"]
        for (title, metrics), (color, dash) in zip(data.val_baselines.items(), strokes, strict=True):
            if (level := metrics[name]) is not None:
                lines.append(panel.axhline(level, color=color, linestyle=drawing.dashes(dash), linewidth=1.3))
                titles.append(drawing.label(title))
        for step, v in at:
            if step == data.selection.step:
                panel.plot([step], [v], color=STUDENT, marker="o", markersize=10, fillstyle="none")
        panel.set_ylabel(f"val {name_of(name)}")
        drawing.tidy(panel)
        if legend:
            # matplotlib hides a line whose title begins with an underscore.
            shown = [f"\N{ZERO WIDTH SPACE}{t}" if t.startswith("_") else t for t in titles]
            panel.legend(lines, shown, fontsize=7, loc="best", frameon=False)
    if data.losses:
        panels[-1].plot(*zip(*data.losses, strict=True), color=MUTED, linewidth=1)
        panels[-1].set_ylabel("train loss")
        drawing.tidy(panels[-1])
    panels[-1].set_xlabel("optimizer step")


def funnel(texts: Level, missing: Mapping[str, int]) -> Picture:
    """Draw what became of the train texts, as shares of the texts of each gold label."""
    by = {code: texts.by_label[code] for code in GOLD_LABELS}
    colors = dict(zip(GOLD_LABELS.values(), (ORANGE, BLUE), strict=True))
    counts = [("accepted", [s.count for s in by.values()])]
    counts += [(reason, [n[label] for label in by]) for reason, n in texts.by_reason.items()]
    if any(missing.values()):
        counts.append(("without an answer", [missing[label] for label in by]))
    whole = [s.total + missing[label] for label, s in by.items()]
    bars = [
        (name, [n / total if total else 0.0 for n, total in zip(each, whole, strict=True)])
        for name, each in counts[:_MOST_BARS]
    ]

    def paint(figure: Any) -> None:
        panel = figure.subplots()
        for i, (name, shares) in enumerate(bars):
            panel.barh([i, i + 0.2], shares, height=0.19, color=list(colors.values()))
            for offset, share in zip((0.0, 0.2), shares, strict=True):
                panel.text(share + 0.01, i + offset, f"{share:.1%}", fontsize=8, va="center")
            panel.text(0, i - 0.27, drawing.label(name), fontsize=9, va="center")
        panel.set_ylim(len(bars) - 0.55, -0.5)
        panel.set_xlim(0, 1.13)
        panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        panel.set_yticks([])
        drawing.tidy(panel)
        panel.spines.left.set_visible(False)

    return Picture(
        name="funnel",
        title="What became of the train texts",
        description="; ".join(f"{name}: {' and '.join(f'{s:.3f}' for s in shares)}" for name, shares in bars),
        paint=paint,
        keys=[drawing.key(name, color, "band") for name, color in colors.items()],
        note="Shares of the texts of each gold label.",
        size=(4.6, 0.52 * len(bars) + 0.6),
    )
