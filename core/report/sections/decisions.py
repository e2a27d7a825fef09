"""How each scorer's calibrator and threshold were fitted on val, and what the probabilities are worth."""

from __future__ import annotations

from collections.abc import Mapping

from core.evaluation.analysis import ProbabilityAnalysis
from core.evaluation.decision import Decided
from core.report.data import ComparisonData
from core.report.document import UNDEFINED, Block, Bullets, Cell, Prose, Section, Table, cells, section
from core.report.plots import probabilities as plots
from core.report.sections.results import FIRST
from core.report.text import grouped, number, signed, span, with_interval

_COVERED = (0.5, 0.8, 0.9, 1.0)


@section("threshold", order=50)
def threshold(data: ComparisonData) -> Section | None:
    """Each scorer's threshold and calibrator, with reasons; None if none was fitted."""
    scorers = data.analysis.scorers
    fitted = {s.title: data.decisions[name] for name, s in scorers.items() if name in data.decisions}
    if not fitted:
        return None
    intro = (
        f"Objective: {data.setup.objective}; calibration: {data.setup.calibration}. Each scorer has its own, "
        "fitted on val alone: no row of another split was used. The range holds 95 % of the thresholds that "
        "resamples of val choose; the optimism is how much better the objective looks on val than on other "
        "rows."
    )
    columns = ["", "threshold", "range", "objective on val", "optimism", "calibration", "log loss on val"]
    table = Table(columns, [_row(title, d) for title, d in fitted.items()], strong=FIRST)
    picture = plots.by_threshold(data)
    blocks: list[Block] = [Prose(intro), *([picture] if picture else []), table, Bullets(_reasons(fitted))]
    return Section("threshold", "Threshold and calibration", blocks)


def _row(title: str, d: Decided) -> list[Cell]:
    objective, optimism, ends = Cell(number(d.threshold.reached)), UNDEFINED, UNDEFINED
    if (moved := d.threshold_spread) is not None:
        objective, optimism = with_interval(moved.objective), signed(moved.optimism)
        ends = span(moved.low, moved.high) or UNDEFINED
    before, after = number(d.calibrator.log_loss_before), number(d.calibrator.log_loss_after)
    change = before if d.calibrator.kind == "none" else f"{before} to {after}"
    value = number(d.threshold.value)
    return [*cells(title, value, ends), objective, *cells(optimism, d.calibrator.kind, change)]


def _reasons(fitted: Mapping[str, Decided]) -> list[str]:
    """Why each is what it is; scorers with the same reason share a sentence."""
    thresholds = grouped((title, d.threshold.reason) for title, d in fitted.items())
    calibrators = grouped(
        (title, f"{d.calibrator.kind}, {d.calibrator.reason}") for title, d in fitted.items()
    )
    out = [f"Threshold: {why} ({'; '.join(titles)})." for why, titles in thresholds.items()]
    out += [f"Calibration: {why} ({'; '.join(titles)})." for why, titles in calibrators.items()]
    for title, d in fitted.items():
        moved = d.threshold_spread
        if moved is not None and moved.unreached:
            out.append(f"{title}: {moved.unreached} of {moved.resamples} resamples had no threshold.")
    return out


@section("probabilities", order=60)
def probabilities(data: ComparisonData) -> Section | None:
    """Calibration error and accuracy by coverage; None without a scorer that gives probabilities."""
    found = data.analysis.with_probabilities.values()
    if not found:
        return None
    drawn = (plots.reliability, plots.precision_recall, plots.coverage)
    pictures = [picture for draw in drawn if (picture := draw(data.analysis)) is not None]
    intro = (
        f"On {data.split}, after calibration. A calibration error is above 0 even if probabilities are "
        "right, by about the bins' own noise."
    )
    shares = [f"accuracy of the {c:.0%} most confident" for c in _COVERED]
    table = Table(["", "calibration error", "bins", "rows", *shares], list(map(_worth, found)), strong=FIRST)
    return Section("probabilities", "What the probabilities are worth", [Prose(intro), *pictures, table])


def _worth(s: ProbabilityAnalysis) -> list[Cell]:
    r = s.reliability
    error = number(r.expected_calibration_error)
    covered = [_at_coverage(s, share) for share in _COVERED]
    return cells(s.title, error, str(len(r.points)), f"{r.rows:,}", *covered)


def _at_coverage(s: ProbabilityAnalysis, share: float) -> str:
    """Accuracy of the most confident rows, of as few as make up at least `share` of all rows."""
    curve = s.curves.by_coverage
    if curve is None:
        return UNDEFINED
    reached = [a for c, a in zip(curve.coverage, curve.accuracy, strict=True) if c >= share - 1e-9]
    return number(reached[0] if reached else None)
