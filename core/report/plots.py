"""The pictures of reports: scorers, their probabilities, the learning curve, and the funnel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.evaluation.analysis import Analysis, ProbabilityAnalysis
from core.rejection.funnel import Level
from core.report import drawing
from core.report.document import (
    CONCLUSIONS,
    ComparisonData,
    Conclusion,
    LegendEntry,
    Mark,
    Picture,
    ReportData,
    conclusion,
)
from core.report.drawing import BLUE, INK, MUTED, ORANGE, PAPER, RED, STUDENT, dashes
from core.report.render import GOLD_LABELS, name_of, number, span

_ROW_INCHES, _PANEL_INCHES = 0.4, 2.1
_MOST_BARS = 12
_MARKS: Mapping[Conclusion, tuple[str, str, str, Mark]] = {
    "better": (BLUE, "o", BLUE, "point"),
    "worse": (RED, "s", RED, "square"),
    "even": (MUTED, "D", PAPER, "diamond"),
}
"""Color, shape, color inside, and the legend's mark: a reader who does not see colors has the shape."""
_STROKES = {
    "macro-F1": (BLUE, ""),
    "precision": (RED, "6 2"),
    "recall": (drawing.GREEN, "2 2"),
    "share flagged": (MUTED, "8 2 2 2"),
}
"""Color and dashes of the metrics by threshold."""


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
        keys=[
            drawing.key(CONCLUSIONS[found], color, mark)
            for found, (color, _, _, mark) in _MARKS.items()
            if any(row.conclusion == found for row in rows)
        ],
    )


def forest(
    rows: Sequence[ForestRow],
    *,
    name: str,
    title: str,
    axis: str,
    keys: Sequence[LegendEntry] = (),
    line: float | None = None,
) -> Picture:
    """Draw rows from top to bottom; `line` is the position of a vertical line."""

    def paint(figure: Any) -> None:
        [panel] = drawing.panels(figure, left=0.12)
        if line is not None:
            panel.axvline(line, color=INK, linewidth=1)
        box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6}
        text = {"transform": panel.get_yaxis_transform(), "fontsize": 9, "va": "center", "bbox": box}
        for at, row in enumerate(rows):
            color, shape, inside, _ = _MARKS[row.conclusion or "better"]
            if row.low is not None and row.high is not None:
                panel.plot([row.low, row.high], [at, at], color=color, linewidth=1.6)
            mark = {"marker": shape, "markersize": 6, "markeredgecolor": color, "markerfacecolor": inside}
            panel.plot([row.value], [at], color=color, **mark)
            panel.text(0, at - 0.32, drawing.label(row.name), **text)
        panel.set_ylim(len(rows) - 0.5, -0.75)
        panel.set_yticks([])
        panel.set_xlabel(drawing.label(axis))
        drawing.tidy(panel)
        panel.spines.left.set_visible(False)
        panel.margins(x=0.08)

    description = "; ".join(f"{r.name} {r.value:.3f}" for r in rows)
    return Picture(name, title, description, paint, keys, size=(4.6, _ROW_INCHES * len(rows) + 0.7))


def confusion(analysis: Analysis) -> Picture | None:
    """Draw the student's decisions by gold label; None if there are none."""
    counts, title = analysis.first.counts, analysis.first.title
    if counts is None or not analysis.rows:
        return None
    # Rows are gold negative and positive, columns predicted negative and positive.
    square = ((counts.tn, counts.fp), (counts.fn, counts.tp))

    def paint(figure: Any) -> None:
        from matplotlib.patches import Rectangle

        [panel] = drawing.panels(figure, left=0.74, bottom=0.06, top=0.28)
        for i, row in enumerate(square):
            for j, n in enumerate(row):
                share = n / sum(row) if sum(row) else 0.0
                color = BLUE if i == j else RED
                panel.add_patch(Rectangle((j, i), 0.97, 0.95, facecolor=color, alpha=0.08 + 0.4 * share))
                panel.text(j + 0.48, i + 0.4, f"{n:,}", ha="center", va="center", fontsize=15)
                text = f"{'right' if i == j else 'wrong'}, {share:.1%}"
                panel.text(j + 0.48, i + 0.72, text, ha="center", va="center", fontsize=8.5)
        panel.set_xlim(0, 2)
        panel.set_ylim(1.97, 0)
        panel.set_xticks([0.48, 1.48], ["predicted negative", "predicted positive"])
        panel.set_yticks([0.48, 1.48], ["gold\nnegative", "gold\npositive"])
        panel.xaxis.tick_top()
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)

    return Picture(
        name="confusion",
        title=f"Decisions of {title}",
        description=f"tp {counts.tp}, fp {counts.fp}, fn {counts.fn}, tn {counts.tn}",
        paint=paint,
        note="Each row of the square is one gold label; the shares are of that label.",
        size=(4.0, 2.5),
    )


def reliability(analysis: Analysis) -> Picture | None:
    """Draw the student's bins with their intervals, against the diagonal."""
    student = analysis.first
    if not isinstance(student, ProbabilityAnalysis) or not student.reliability.points:
        return None
    points = student.reliability.points
    error = number(student.reliability.expected_calibration_error)

    def paint(figure: Any) -> None:
        [panel] = drawing.panels(figure)
        panel.plot([0, 1], [0, 1], color=MUTED, linestyle=dashes("4 3"), linewidth=1)
        x = [p.mean_probability for p in points]
        shares = [(p.positive.value or 0.0, p.positive.low or 0.0, p.positive.high or 0.0) for p in points]
        y = [share for share, _, _ in shares]
        ends = [[share - low for share, low, _ in shares], [high - share for share, _, high in shares]]
        panel.errorbar(x, y, yerr=ends, color=STUDENT, fmt="o", markersize=4.5, linewidth=1.4)
        panel.set_xlabel("mean probability")
        panel.set_ylabel("share positive")
        drawing.unit_square(panel)

    return Picture(
        name="reliability",
        title="Reliability",
        description=f"Share of positives by probability in {len(points)} bins; calibration error {error}.",
        paint=paint,
        keys=[
            drawing.key("share of positives, 95 % interval", STUDENT, "point"),
            drawing.key("perfect calibration", MUTED, dash="4 3"),
        ],
        note=f"Expected calibration error {error}, in bins of equal size. Below the line probabilities are "
        "too high.",
    )


def precision_recall(analysis: Analysis) -> Picture | None:
    """Draw all scorers with probabilities, with the student's threshold."""
    found = list(analysis.with_probabilities.values())
    if not any(s.curves.precision_recall.recall for s in found):
        return None
    share = analysis.positive / analysis.rows

    def paint(figure: Any) -> None:
        [panel] = drawing.panels(figure)
        panel.axhline(share, color=MUTED, linestyle=":", linewidth=1)
        strokes = _strokes(found)
        for s in reversed(found):  # the student is drawn above the others
            curve, (color, dash) = s.curves.precision_recall, strokes[s.title]
            style = {"color": color, "linestyle": dashes(dash), "linewidth": 2.0 if s is found[0] else 1.3}
            panel.step(curve.recall, curve.precision, where="post", **style)
        recall, precision = (found[0].metrics[name] for name in ("recall", "precision"))
        if recall is not None and precision is not None:
            panel.plot([recall], [precision], color=STUDENT, marker="o", markersize=7)
        panel.set_xlabel("recall")
        panel.set_ylabel("precision")
        drawing.unit_square(panel)

    return Picture(
        name="precision",
        title="Precision by recall",
        description=f"One line for each of {len(found)} scorers; {number(share)} of all rows are positive.",
        paint=paint,
        keys=_keys(found, found),
        note=f"The dot is the student's threshold; the dotted line the share of positives, {number(share)}.",
    )


def by_threshold(data: ComparisonData) -> Picture | None:
    """Draw the student's metrics at every threshold, with the chosen one and its bootstrap range."""
    student = data.analysis.first
    if not isinstance(student, ProbabilityAnalysis) or not student.curves.by_threshold.threshold:
        return None
    curve, chosen = student.curves.by_threshold, student.threshold
    decided = data.decisions.get(next(iter(data.analysis.scorers)))
    spread = None if decided is None else decided.threshold_spread
    note = "No threshold was chosen. The dotted line is 0.5."
    if chosen is not None:
        note = f"The vertical line is the chosen threshold, {number(chosen)}; the dotted one is 0.5."
        if spread is not None and spread.low is not None:
            ends = span(spread.low, spread.high)
            note += f" Shaded: 95 % of the thresholds that other val rows would have chosen, {ends}."

    def paint(figure: Any) -> None:
        [panel] = drawing.panels(figure)
        if spread is not None and spread.low is not None:
            panel.axvspan(spread.low, spread.high, color=BLUE, alpha=0.14, linewidth=0)
        panel.axvline(0.5, color=MUTED, linestyle=":", linewidth=1)
        if chosen is not None:
            panel.axvline(chosen, color=INK, linewidth=1.2)
        drawn = (curve.macro_f1, curve.precision, curve.recall, curve.share_flagged)
        for values, stroke in zip(drawn, _STROKES.values(), strict=True):
            drawing.line(panel, curve.threshold, values, stroke)
        panel.set_xlabel("threshold")
        drawing.unit_square(panel)

    return Picture(
        name="threshold",
        title="Metrics by threshold",
        description="Macro-F1, precision, recall and the share flagged at every threshold.",
        paint=paint,
        keys=[drawing.key(name, color, dash=dash) for name, (color, dash) in _STROKES.items()],
        note=note,
    )


def coverage(analysis: Analysis) -> Picture | None:
    """Draw the accuracy of the most confident rows by their share of all rows."""
    everyone = list(analysis.with_probabilities.values())
    found = {s.title: s.curves.by_coverage for s in everyone if s.curves.by_coverage is not None}
    if not found:
        return None
    strokes, first = _strokes(everyone), everyone[0].title

    def paint(figure: Any) -> None:
        [panel] = drawing.panels(figure)
        for title, curve in reversed(list(found.items())):
            drawing.line(
                panel, curve.coverage, curve.accuracy, strokes[title], 2.0 if title == first else 1.3
            )
        panel.set_xlabel("share of texts decided")
        panel.set_ylabel("accuracy")
        panel.set_xlim(-0.02, 1.02)
        drawing.tidy(panel)

    return Picture(
        name="coverage",
        title="Accuracy of the most confident texts",
        description="Accuracy by the share of texts that are decided, the most confident first.",
        paint=paint,
        keys=_keys([s for s in everyone if s.title in found], everyone),
        note="The other texts would be passed to a person. At the far left the line rests on few rows.",
    )


def _strokes(scorers: Sequence[ProbabilityAnalysis]) -> dict[str, tuple[str, str]]:
    """Color and dashes by title: the first scorer has its own, the others follow in order."""
    first, *others = [s.title for s in scorers]
    return {first: (STUDENT, ""), **dict(zip(others, drawing.other_strokes(len(others)), strict=True))}


def _keys(shown: Sequence[ProbabilityAnalysis], among: Sequence[ProbabilityAnalysis]) -> list[LegendEntry]:
    strokes = _strokes(among)
    return [drawing.key(s.title, strokes[s.title][0], dash=strokes[s.title][1]) for s in shown]


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
        paint=lambda figure: _paint_curve(figure, data),
        keys=[drawing.key("student", STUDENT), *baselines],
        note=f"The ring is the chosen step, {step}.",
        size=(4.6, _PANEL_INCHES * _panels(data) + 0.2),
    )


def save_learning_curve(data: ReportData, path: Path) -> None:
    """Write the curve as a PNG at `path`, with a legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with drawing.painting({"figure.facecolor": drawing.PAPER}):
        figure = Figure(figsize=(7, 2.4 * _panels(data)))
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
    panels = drawing.panels(figure, _panels(data), left=0.8)
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
        [panel] = drawing.panels(figure, left=0.12, bottom=0.3)
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
