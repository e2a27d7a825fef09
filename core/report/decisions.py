"""How each scorer's calibrator and threshold were fitted on val, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.report.blocks import UNDEFINED, Block, Bullets, Cell, Prose, Section, Table
from core.report.inputs import Compared
from core.report.plots import probabilities
from core.report.results import STUDENT
from core.report.scorers import with_probabilities
from core.report.words import grouped, number, signed, span, with_interval


def sections(report: Compared) -> list[Section]:
    """Thresholds, then what the probabilities are worth."""
    return [s for s in (_thresholds(report), _probabilities(report)) if s is not None]


def _thresholds(report: Compared) -> Section | None:
    found = {
        s["title"]: report.decisions[name]
        for name, s in report.analysis["scorers"].items()
        if name in report.decisions
    }
    if not found:
        return None
    intro = (
        f"Asked for: {report.setup.objective}; calibration {report.setup.calibration}. Each scorer has its "
        "own, fitted on val alone: no row of another split had a part in it. The range holds 95 % of the "
        "thresholds that resamples of val choose; by the optimism the objective looks better on val than on "
        "other rows."
    )
    rows = [_row(title, decision) for title, decision in found.items()]
    columns = ["", "threshold", "range", "objective on val", "optimism", "calibration", "log loss on val"]
    table = Table(columns, rows, strong=STUDENT)
    picture = probabilities.by_threshold(report)
    blocks: list[Block] = [Prose(intro), *([picture] if picture else []), table]
    return Section("threshold", "Threshold and calibration", [*blocks, Bullets(_reasons(found))])


def _row(title: str, decision: Mapping[str, Any]) -> list[Cell]:
    choice, moved, fitted = decision["threshold"], decision["threshold_spread"], decision["calibrator"]
    objective, optimism, ends = Cell(number(choice["reached"])), UNDEFINED, UNDEFINED
    if moved is not None:
        objective, optimism = with_interval(moved["objective"]), signed(moved["optimism"])
        ends = span(moved["low"], moved["high"]) or UNDEFINED
    before, after = fitted["log_loss_before"], fitted["log_loss_after"]
    change = number(before) if fitted["kind"] == "none" else f"{number(before)} to {number(after)}"
    return [
        Cell(title),
        Cell(number(choice["value"])),
        Cell(ends),
        objective,
        Cell(optimism),
        Cell(fitted["kind"]),
        Cell(change),
    ]


def _reasons(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Why each is what it is; those with the same reason stand together."""
    thresholds = grouped((title, d["threshold"]["reason"]) for title, d in found.items())
    fitted = grouped((title, _why_fitted(d["calibrator"])) for title, d in found.items())
    out = [f"Threshold: {why} ({'; '.join(titles)})." for why, titles in thresholds.items()]
    out += [f"Calibration: {why} ({'; '.join(titles)})." for why, titles in fitted.items()]
    for title, decision in found.items():
        moved = decision["threshold_spread"]
        if moved is not None and moved["unreached"]:
            out.append(f"{title}: {moved['unreached']} of {moved['resamples']} resamples had no threshold.")
    return out


def _why_fitted(calibrator: Mapping[str, Any]) -> str:
    return f"{calibrator['kind']}, {calibrator['reason']}"


def _probabilities(report: Compared) -> Section | None:
    found = with_probabilities(report)
    if not found:
        return None
    drawn = (probabilities.reliability, probabilities.precision_recall, probabilities.coverage)
    pictures = [picture for draw in drawn if (picture := draw(report)) is not None]
    rows = []
    for s in found:
        points = s["reliability"]["points"]
        row = [
            Cell(s["title"]),
            Cell(number(s["reliability"]["expected_calibration_error"])),
            Cell(str(len(points))),
            Cell(f"{s['reliability']['rows']:,}"),
        ]
        rows.append([*row, *(Cell(_at_coverage(s, share)) for share in _COVERED)])
    columns = [
        "",
        "calibration error",
        "bins",
        "rows",
        *(f"accuracy of the surest {c:.0%}" for c in _COVERED),
    ]
    intro = (
        f"On {report.split}, after calibration. A calibration error is above 0 even where probabilities are "
        "right, by about the bins' own noise."
    )
    table = Table(columns, rows, strong=STUDENT)
    return Section("probabilities", "What the probabilities are worth", [Prose(intro), *pictures, table])


_COVERED = (0.5, 0.8, 0.9, 1.0)


def _at_coverage(s: Mapping[str, Any], share: float) -> str:
    """Accuracy of the smallest part of the rows, the surest first, that is no less than `share`."""
    curve = s["curves"]["by_coverage"]
    if not curve:
        return UNDEFINED
    reached = [a for c, a in zip(curve["coverage"], curve["accuracy"], strict=True) if c >= share - 1e-9]
    return number(reached[0] if reached else None)
