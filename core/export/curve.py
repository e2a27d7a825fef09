"""The learning curve as a picture: val by step, the baselines as lines to get above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from core.evaluation.metrics import Metrics, value
from core.export.inputs import CurvePoint
from core.export.verdict import NAMES

# Colours that stay apart for colour-blind readers (Okabe & Ito 2008).
STUDENT = "#0072B2"
BASELINES = ("#D55E00", "#009E73", "#CC79A7", "#E69F00")
GREY = "#666666"


def draw(
    points: Sequence[CurvePoint],
    metric: str,
    path: Path,
    *,
    losses: Sequence[tuple[int, float]] = (),
    baselines: Mapping[str, Metrics] | None = None,
    chosen: int | None = None,
) -> None:
    """Draw into `path`, PNG or SVG by its suffix.

    One panel each for the metric of selection, AUROC and, where `losses` (step, loss) are given, the
    train loss. `baselines` maps titles to metrics on val; `chosen` marks a step.
    """
    names = list(dict.fromkeys([metric, "auroc"]))
    figure = Figure(figsize=(7, 2.4 * (len(names) + bool(losses))), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(names) + bool(losses), 1, sharex=True, squeeze=False)[:, 0]
    for panel, name in zip(panels, names, strict=False):
        _metric(panel, name, points, baselines or {}, chosen)
    if losses:
        _loss(panels[-1], losses)
    panels[-1].set_xlabel("optimiser step")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without a date, equal curves are equal files.
    figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)


def _metric(
    panel: Any, name: str, points: Sequence[CurvePoint], baselines: Mapping[str, Metrics], chosen: int | None
) -> None:
    at = [(p.step, v) for p in points if (v := value(p.metrics, name)) is not None]
    panel.plot(
        [s for s, _ in at], [v for _, v in at], color=STUDENT, marker="o", markersize=4, label="student"
    )
    for i, (title, metrics) in enumerate(baselines.items()):
        level = value(metrics, name)
        if level is not None:
            colour = BASELINES[i % len(BASELINES)]
            panel.axhline(level, color=colour, linestyle="--", linewidth=1.2, label=title)
    for step, v in at:
        if step == chosen:
            panel.plot([step], [v], color=STUDENT, marker="o", markersize=9, fillstyle="none")
    panel.set_ylabel(f"val {NAMES.get(name, name)}")
    _tidy(panel)
    panel.legend(fontsize=7, loc="best", frameon=False)


def _loss(panel: Any, losses: Sequence[tuple[int, float]]) -> None:
    panel.plot([s for s, _ in losses], [v for _, v in losses], color=GREY, linewidth=1)
    panel.set_ylabel("train loss")
    _tidy(panel)


def _tidy(panel: Any) -> None:
    panel.grid(visible=True, color="#dddddd", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
