"""What the probabilities are worth: reliability, precision by recall, by threshold, by coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from core.report.blocks import Key, Picture
from core.report.inputs import Compared
from core.report.plots import style
from core.report.scorers import Facts, student, with_probabilities
from core.report.words import number, span

_NAN = float("nan")
_METRICS = {
    "macro_f1": "macro-F1",
    "precision": "precision",
    "recall": "recall",
    "share_flagged": "share flagged",
}


def reliability(report: Compared) -> Picture | None:
    """The student's bins with their intervals, against the diagonal."""
    of = student(report)
    if not of.get("reliability", {}).get("points"):
        return None
    points = of["reliability"]["points"]
    error = number(of["reliability"]["expected_calibration_error"])
    return Picture(
        name="reliability",
        title="Reliability",
        description=f"Share of positives by probability in {len(points)} bins; calibration error {error}.",
        paint=partial(_paint_reliability, points=points),
        keys=[
            Key("share of positives, 95 % interval", style.NAMES[style.STUDENT], "point"),
            Key("what the probability says", style.NAMES[style.MUTED], dash="4 3"),
        ],
        note=f"Expected calibration error {error}, in bins of equal size. Below the line it says too much.",
    )


def precision_recall(report: Compared) -> Picture | None:
    """All scorers with probabilities; the student's threshold marked."""
    found = with_probabilities(report)
    if not found or not any(s["curves"]["precision_recall"]["recall"] for s in found):
        return None
    share = report.analysis["positive"] / report.analysis["rows"]
    return Picture(
        name="precision",
        title="Precision by recall",
        description=f"One line for each of {len(found)} scorers; {number(share)} of all rows are positive.",
        paint=partial(_paint_precision, found=found, share=share),
        keys=_keys(found),
        note=f"The dot is the student's threshold; the dotted line the share of positives, {number(share)}.",
    )


def by_threshold(report: Compared) -> Picture | None:
    """The student's metrics at every threshold, the chosen one and its bootstrap range marked."""
    of = student(report)
    curve = of.get("curves", {}).get("by_threshold")
    if not curve or not curve["threshold"]:
        return None
    moved = _moved(report)
    return Picture(
        name="threshold",
        title="Metrics by threshold",
        description="Macro-F1, precision, recall and the share flagged at every threshold.",
        paint=partial(_paint_threshold, curve=curve, chosen=of["threshold"], moved=moved),
        keys=[
            Key(name, style.NAMES[c], dash=d)
            for name, (c, d) in zip(_METRICS.values(), _STROKES, strict=True)
        ],
        note=_of_threshold(of["threshold"], moved),
    )


def coverage(report: Compared) -> Picture | None:
    """Accuracy of the surest rows, by how many they are."""
    found = [s for s in with_probabilities(report) if s["curves"]["by_coverage"]]
    if not found:
        return None
    return Picture(
        name="coverage",
        title="Accuracy of the surest texts",
        description="Accuracy by the share of texts that are decided, the surest first.",
        paint=partial(_paint_coverage, found=found, all_scorers=with_probabilities(report)),
        keys=_keys(found, with_probabilities(report)),
        note="The less sure texts would be handed to a person. At the far left few rows carry the line.",
    )


_STROKES = ((style.BLUE, ""), (style.RED, "6 2"), (style.GREEN, "2 2"), (style.MUTED, "8 2 2 2"))


def _moved(report: Compared) -> Mapping[str, Any] | None:
    name = next(iter(report.analysis["scorers"]))
    found: Mapping[str, Any] | None = report.decisions.get(name, {}).get("threshold_spread")
    return found


def _of_threshold(chosen: float | None, moved: Mapping[str, Any] | None) -> str:
    if chosen is None:
        return "No threshold was chosen. The dotted line is 0.5."
    said = f"The upright line is the chosen threshold, {number(chosen)}; the dotted one is 0.5."
    if moved is None or moved["low"] is None:
        return said
    ends = span(moved["low"], moved["high"])
    return f"{said} Shaded: 95 % of the thresholds that other val rows would have chosen, {ends}."


def _strokes(found: Sequence[Facts]) -> dict[int, tuple[str, str]]:
    """Colour and dashes by scorer: the first has its own, the others in order."""
    first = {id(found[0]): (style.STUDENT, "")} if found else {}
    rest = {id(s): style.OTHERS[i % len(style.OTHERS)] for i, s in enumerate(found[1:])}
    return first | rest


def _keys(found: Sequence[Facts], among: Sequence[Facts] | None = None) -> list[Key]:
    strokes = _strokes(among or found)
    return [Key(s["title"], style.NAMES[strokes[id(s)][0]], dash=strokes[id(s)][1]) for s in found]


def _line(
    panel: Any, x: Sequence[float], y: Sequence[Any], stroke: tuple[str, str], width: float = 1.5
) -> None:
    values = [_NAN if v is None else v for v in y]
    panel.plot(x, values, color=stroke[0], linestyle=style.dashes(stroke[1]), linewidth=width)


def _paint_reliability(figure: Any, points: Sequence[Mapping[str, Any]]) -> None:
    panel = figure.subplots()
    panel.plot([0, 1], [0, 1], color=style.MUTED, linestyle=style.dashes("4 3"), linewidth=1)
    x = [p["mean_probability"] for p in points]
    y = [p["positive"]["value"] for p in points]
    ends = [
        [v - p["positive"]["low"] for v, p in zip(y, points, strict=True)],
        [p["positive"]["high"] - v for v, p in zip(y, points, strict=True)],
    ]
    panel.errorbar(x, y, yerr=ends, color=style.STUDENT, fmt="o", markersize=4.5, linewidth=1.4)
    panel.set_xlabel("mean probability")
    panel.set_ylabel("share positive")
    style.unit_square(panel)


def _paint_precision(figure: Any, found: Sequence[Facts], share: float) -> None:
    panel = figure.subplots()
    panel.axhline(share, color=style.MUTED, linestyle=":", linewidth=1)
    strokes = _strokes(found)
    for s in reversed(found):  # the student lies above the others
        curve = s["curves"]["precision_recall"]
        width = 2.0 if s is found[0] else 1.3
        panel.step(
            curve["recall"],
            curve["precision"],
            where="post",
            color=strokes[id(s)][0],
            linestyle=style.dashes(strokes[id(s)][1]),
            linewidth=width,
        )
    at = found[0]["metrics"]
    if at["precision"] is not None and at["recall"] is not None:
        panel.plot([at["recall"]], [at["precision"]], color=style.STUDENT, marker="o", markersize=7)
    panel.set_xlabel("recall")
    panel.set_ylabel("precision")
    style.unit_square(panel)


def _paint_threshold(
    figure: Any, curve: Mapping[str, Any], chosen: float | None, moved: Mapping[str, Any] | None
) -> None:
    panel = figure.subplots()
    if moved is not None and moved["low"] is not None:
        panel.axvspan(moved["low"], moved["high"], color=style.BLUE, alpha=0.14, linewidth=0)
    panel.axvline(0.5, color=style.MUTED, linestyle=":", linewidth=1)
    if chosen is not None:
        panel.axvline(chosen, color=style.INK, linewidth=1.2)
    for name, stroke in zip(_METRICS, _STROKES, strict=True):
        _line(panel, curve["threshold"], curve[name], stroke)
    panel.set_xlabel("threshold")
    style.unit_square(panel)


def _paint_coverage(figure: Any, found: Sequence[Facts], all_scorers: Sequence[Facts]) -> None:
    panel = figure.subplots()
    strokes = _strokes(all_scorers)
    for s in reversed(found):
        curve = s["curves"]["by_coverage"]
        _line(
            panel, curve["coverage"], curve["accuracy"], strokes[id(s)], 2.0 if s is all_scorers[0] else 1.3
        )
    panel.set_xlabel("share of texts decided")
    panel.set_ylabel("accuracy")
    panel.set_xlim(-0.02, 1.02)
    style.tidy(panel)
