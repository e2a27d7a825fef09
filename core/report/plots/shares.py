"""Counts as areas: what became of the train texts, and the student's decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from core.report.blocks import Key, Picture
from core.report.inputs import Compared
from core.report.plots import style
from core.report.scorers import student

_NEGATIVE, _POSITIVE = style.ORANGE, style.BLUE
_MOST = 12


def confusion(report: Compared) -> Picture | None:
    """The student's decisions by gold label; None where there are none."""
    counts = student(report)["counts"]
    if counts is None or not report.analysis["rows"]:
        return None
    return Picture(
        name="confusion",
        title=f"Decisions of {student(report)['title']}",
        description=", ".join(f"{name} {n}" for name, n in counts.items()),
        paint=partial(_paint_confusion, counts=counts),
        note="Each row of the square is one gold label; the shares are of that label.",
        size=(4.0, 2.5),
    )


def funnel(texts: Mapping[str, Any], missing: Mapping[str, int]) -> Picture:
    """What became of the texts, as shares of each gold label's."""
    whole = {label: texts["by_label"][label]["total"] + missing[label] for label in ("0", "1")}
    counts = [("accepted", {label: texts["by_label"][label]["count"] for label in whole})]
    counts += [(reason, by) for reason, by in texts["by_reason"].items()]
    if any(missing.values()):
        counts.append(("without an answer", dict(missing)))
    bars = [(name, {k: by[k] / n if n else 0.0 for k, n in whole.items()}) for name, by in counts[:_MOST]]
    return Picture(
        name="funnel",
        title="What became of the train texts",
        description="; ".join(f"{name}: {by['0']:.3f} and {by['1']:.3f}" for name, by in bars),
        paint=partial(_paint_bars, bars=bars),
        keys=[
            Key("gold negative", style.NAMES[_NEGATIVE], "band"),
            Key("gold positive", style.NAMES[_POSITIVE], "band"),
        ],
        note="Shares of the texts of each gold label.",
        size=(4.6, 0.52 * len(bars) + 0.6),
    )


def _paint_bars(figure: Any, bars: Sequence[tuple[str, Mapping[str, float]]]) -> None:
    panel = figure.subplots()
    for i, (name, by) in enumerate(bars):
        panel.barh([i, i + 0.2], [by["0"], by["1"]], height=0.19, color=[_NEGATIVE, _POSITIVE])
        for offset, share in ((0.0, by["0"]), (0.2, by["1"])):
            panel.text(share + 0.01, i + offset, f"{share:.1%}", fontsize=8, va="center")
        panel.text(0, i - 0.27, style.label(name), fontsize=9, va="center")
    panel.set_ylim(len(bars) - 0.55, -0.5)
    panel.set_xlim(0, 1.13)
    panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    panel.set_yticks([])
    style.tidy(panel)
    panel.spines["left"].set_visible(False)


def _paint_confusion(figure: Any, counts: Mapping[str, int]) -> None:
    from matplotlib.patches import Rectangle

    panel = figure.subplots()
    rows = (("tn", "fp"), ("fn", "tp"))
    for i, names in enumerate(rows):
        whole = sum(counts[name] for name in names)
        for j, name in enumerate(names):
            share = counts[name] / whole if whole else 0.0
            right = name in ("tn", "tp")
            colour = style.BLUE if right else style.RED
            panel.add_patch(Rectangle((j, i), 0.97, 0.95, facecolor=colour, alpha=0.08 + 0.4 * share))
            panel.text(j + 0.48, i + 0.4, f"{counts[name]:,}", ha="center", va="center", fontsize=15)
            said = f"{'right' if right else 'wrong'}, {share:.1%}"
            panel.text(j + 0.48, i + 0.72, said, ha="center", va="center", fontsize=8.5)
    panel.set_xlim(0, 2)
    panel.set_ylim(1.97, 0)
    panel.set_xticks([0.48, 1.48], ["said negative", "said positive"])
    panel.set_yticks([0.48, 1.48], ["gold\nnegative", "gold\npositive"])
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
