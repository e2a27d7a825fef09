"""What the probabilities are worth: reliability, precision by recall, by threshold, by coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from core.evaluation.analysis import Analysis, ProbabilityAnalysis
from core.evaluation.curves import ByCoverage, ByThreshold
from core.evaluation.metrics import value
from core.evaluation.reliability import Point
from core.evaluation.threshold_spread import ThresholdSpread
from core.report.data import ComparisonData
from core.report.document import Key, Picture
from core.report.plots import drawing
from core.report.text import number, span

_NAN = float("nan")
_STROKES = ((drawing.BLUE, ""), (drawing.RED, "6 2"), (drawing.GREEN, "2 2"), (drawing.MUTED, "8 2 2 2"))


def reliability(analysis: Analysis) -> Picture | None:
    """Draw the student's bins with their intervals, against the diagonal."""
    student = analysis.first
    if not isinstance(student, ProbabilityAnalysis) or not student.reliability.points:
        return None
    points = student.reliability.points
    error = number(student.reliability.expected_calibration_error)
    return Picture(
        name="reliability",
        title="Reliability",
        description=f"Share of positives by probability in {len(points)} bins; calibration error {error}.",
        paint=partial(_paint_reliability, points=points),
        keys=[
            Key("share of positives, 95 % interval", drawing.NAMES[drawing.STUDENT], "point"),
            Key("perfect calibration", drawing.NAMES[drawing.MUTED], dash="4 3"),
        ],
        note=f"Expected calibration error {error}, in bins of equal size. Below the line probabilities are "
        "too high.",
    )


def _paint_reliability(figure: Any, points: Sequence[Point]) -> None:
    panel = figure.subplots()
    panel.plot([0, 1], [0, 1], color=drawing.MUTED, linestyle=drawing.dashes("4 3"), linewidth=1)
    shares = [(p.positive.value or 0.0, p.positive.low or 0.0, p.positive.high or 0.0) for p in points]
    panel.errorbar(
        [p.mean_probability for p in points],
        [share for share, _, _ in shares],
        yerr=[[share - low for share, low, _ in shares], [high - share for share, _, high in shares]],
        color=drawing.STUDENT,
        fmt="o",
        markersize=4.5,
        linewidth=1.4,
    )
    panel.set_xlabel("mean probability")
    panel.set_ylabel("share positive")
    drawing.unit_square(panel)


def precision_recall(analysis: Analysis) -> Picture | None:
    """Draw all scorers with probabilities, with the student's threshold."""
    found = list(analysis.with_probabilities.values())
    if not any(s.curves.precision_recall.recall for s in found):
        return None
    share = analysis.positive / analysis.rows
    return Picture(
        name="precision",
        title="Precision by recall",
        description=f"One line for each of {len(found)} scorers; {number(share)} of all rows are positive.",
        paint=partial(_paint_precision, found=found, share=share),
        keys=_keys(found, found),
        note=f"The dot is the student's threshold; the dotted line the share of positives, {number(share)}.",
    )


def _paint_precision(figure: Any, found: Sequence[ProbabilityAnalysis], share: float) -> None:
    panel = figure.subplots()
    panel.axhline(share, color=drawing.MUTED, linestyle=":", linewidth=1)
    strokes = _strokes(found)
    for s in reversed(found):  # the student is drawn above the others
        curve, (color, dash) = s.curves.precision_recall, strokes[s.title]
        panel.step(
            curve.recall,
            curve.precision,
            where="post",
            color=color,
            linestyle=drawing.dashes(dash),
            linewidth=2.0 if s is found[0] else 1.3,
        )
    recall, precision = (value(found[0].metrics, name) for name in ("recall", "precision"))
    if recall is not None and precision is not None:
        panel.plot([recall], [precision], color=drawing.STUDENT, marker="o", markersize=7)
    panel.set_xlabel("recall")
    panel.set_ylabel("precision")
    drawing.unit_square(panel)


def by_threshold(data: ComparisonData) -> Picture | None:
    """Draw the student's metrics at every threshold, with the chosen one and its bootstrap range."""
    student = data.analysis.first
    if not isinstance(student, ProbabilityAnalysis) or not student.curves.by_threshold.threshold:
        return None
    curve, chosen = student.curves.by_threshold, student.threshold
    decided = data.decisions.get(next(iter(data.analysis.scorers)))
    spread = None if decided is None else decided.threshold_spread
    strokes = zip(_lines(curve), _STROKES, strict=True)
    return Picture(
        name="threshold",
        title="Metrics by threshold",
        description="Macro-F1, precision, recall and the share flagged at every threshold.",
        paint=partial(_paint_threshold, curve=curve, chosen=chosen, spread=spread),
        keys=[Key(name, drawing.NAMES[color], dash=dash) for name, (color, dash) in strokes],
        note=_threshold_note(chosen, spread),
    )


def _lines(curve: ByThreshold) -> Mapping[str, Sequence[float | None]]:
    return {
        "macro-F1": curve.macro_f1,
        "precision": curve.precision,
        "recall": curve.recall,
        "share flagged": curve.share_flagged,
    }


def _threshold_note(chosen: float | None, spread: ThresholdSpread | None) -> str:
    if chosen is None:
        return "No threshold was chosen. The dotted line is 0.5."
    text = f"The vertical line is the chosen threshold, {number(chosen)}; the dotted one is 0.5."
    if spread is None or spread.low is None:
        return text
    ends = span(spread.low, spread.high)
    return f"{text} Shaded: 95 % of the thresholds that other val rows would have chosen, {ends}."


def _paint_threshold(
    figure: Any, curve: ByThreshold, chosen: float | None, spread: ThresholdSpread | None
) -> None:
    panel = figure.subplots()
    if spread is not None and spread.low is not None:
        panel.axvspan(spread.low, spread.high, color=drawing.BLUE, alpha=0.14, linewidth=0)
    panel.axvline(0.5, color=drawing.MUTED, linestyle=":", linewidth=1)
    if chosen is not None:
        panel.axvline(chosen, color=drawing.INK, linewidth=1.2)
    for values, stroke in zip(_lines(curve).values(), _STROKES, strict=True):
        _plot(panel, curve.threshold, values, stroke)
    panel.set_xlabel("threshold")
    drawing.unit_square(panel)


def coverage(analysis: Analysis) -> Picture | None:
    """Draw the accuracy of the most confident rows by their share of all rows."""
    everyone = list(analysis.with_probabilities.values())
    found = {s.title: s.curves.by_coverage for s in everyone if s.curves.by_coverage is not None}
    if not found:
        return None
    return Picture(
        name="coverage",
        title="Accuracy of the most confident texts",
        description="Accuracy by the share of texts that are decided, the most confident first.",
        paint=partial(_paint_coverage, found=found, strokes=_strokes(everyone), first=everyone[0].title),
        keys=_keys([s for s in everyone if s.title in found], everyone),
        note="The other texts would be passed to a person. At the far left the line rests on few rows.",
    )


def _paint_coverage(
    figure: Any, found: Mapping[str, ByCoverage], strokes: Mapping[str, tuple[str, str]], first: str
) -> None:
    panel = figure.subplots()
    for title, curve in reversed(list(found.items())):
        _plot(panel, curve.coverage, curve.accuracy, strokes[title], 2.0 if title == first else 1.3)
    panel.set_xlabel("share of texts decided")
    panel.set_ylabel("accuracy")
    panel.set_xlim(-0.02, 1.02)
    drawing.tidy(panel)


def _plot(
    panel: Any, x: Sequence[float], y: Sequence[float | None], stroke: tuple[str, str], width: float = 1.5
) -> None:
    values = [_NAN if v is None else v for v in y]
    panel.plot(x, values, color=stroke[0], linestyle=drawing.dashes(stroke[1]), linewidth=width)


def _strokes(scorers: Sequence[ProbabilityAnalysis]) -> dict[str, tuple[str, str]]:
    """Color and dashes by title: the first scorer has its own, the others follow in order."""
    first, *others = [s.title for s in scorers]
    return {
        first: (drawing.STUDENT, ""),
        **{title: drawing.OTHERS[i % len(drawing.OTHERS)] for i, title in enumerate(others)},
    }


def _keys(shown: Sequence[ProbabilityAnalysis], among: Sequence[ProbabilityAnalysis]) -> list[Key]:
    strokes = [(s.title, *_strokes(among)[s.title]) for s in shown]
    return [Key(title, drawing.NAMES[color], dash=dash) for title, color, dash in strokes]
