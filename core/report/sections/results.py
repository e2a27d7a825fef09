"""All scorers on the same rows: metrics, comparisons, thresholds, and how good the probabilities are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from core.config.measure import METRICS
from core.evaluation.analysis import Analysis, LabelAnalysis, ProbabilityAnalysis, ScorerAnalysis
from core.evaluation.comparison import MetricDifference
from core.evaluation.decision import Decided
from core.evaluation.threshold import describe
from core.report.data import ComparisonData
from core.report.document import UNDEFINED, Block, Bullets, Cell, Prose, Section, Table, cells, section
from core.report.plots import scorers as plots
from core.report.text import count, grouped, name_of, number, p_value, plural, signed, span, with_interval

_FIRST = ("macro_f1", "auroc", "accuracy", "precision", "recall")
"""The metrics that readers look for first."""
TESTED = ("macro_f1", "auroc")
_AT_DEFAULT = ("macro_f1", "accuracy", "precision", "recall")
_COVERED = (0.5, 0.8, 0.9, 1.0)
FIRST = frozenset({0})
"""The row of the first scorer, in a run the student."""


def compared() -> tuple[str, ...]:
    """Return all metrics in the order of the tables."""
    return tuple(dict.fromkeys([*_FIRST, *METRICS]))


@section("results", order=20)
def results(data: ComparisonData) -> Section:
    """Every metric of every scorer with its interval, and the decisions counted."""
    analysis = data.analysis
    method = f"Intervals are percentiles of {analysis.resamples:,} bootstrap resamples"
    if analysis.clustered:
        method += f", {plural(analysis.groups, 'group')} drawn whole."
    else:
        method += ", drawn within each class, and Wilson's for accuracy, precision and recall."
    intro = (
        f"Values on {plural(analysis.rows, 'row')} of {data.split}, {analysis.positive:,} of them positive, "
        f"with 95 % intervals. {method} Precision, recall, F1 and AUPRC are those of the positive "
        "class; log loss and Brier score are better when smaller. A text is predicted positive when its "
        "probability is at or above the scorer's own threshold, which was chosen on val (that of the "
        "majority class is 0.5)."
    )
    rows, decisions = [], []
    for s in analysis.scorers.values():
        if isinstance(s, ProbabilityAnalysis):
            unlabeled = s.at_default.invalid_label_rate
        else:
            unlabeled = s.unlabelled / analysis.rows if analysis.rows else None
        metrics = [with_interval(s.intervals[m]) for m in compared()]
        rows.append([Cell(s.title), *metrics, *cells(number(s.threshold), number(unlabeled))])
        k = s.counts
        four = [UNDEFINED] * 4 if k is None else [count(n) for n in (k.tp, k.fp, k.fn, k.tn)]
        decisions.append(cells(s.title, *four))
    columns = ["", *map(name_of, compared()), "threshold", "without a label"]
    four = ["true positives", "false positives", "false negatives", "true negatives"]
    blocks: list[Block] = [
        Prose(intro),
        Table(columns, rows, strong=FIRST, notes=_reasons(analysis.scorers.values())),
        Table(["", *four], decisions, title="Counts of the decisions", strong=FIRST),
    ]
    picture, title = plots.confusion(analysis), f"All on the same rows of {data.split}"
    return Section("results", title, [*blocks, *([picture] if picture else [])])


def _reasons(scorers: Iterable[ScorerAnalysis]) -> list[str]:
    """For each scorer with a dash, or with an interval to be careful with, the reason."""
    out = []
    for s in scorers:
        undefined = grouped((name_of(m), i.undefined) for m, i in s.intervals.items() if i.undefined)
        noted = grouped((name_of(m), i.note) for m, i in s.intervals.items() if i.note)
        for why, names in undefined.items():
            if why.startswith(f"{s.title} "):  # the title is already in front
                why = f"it{why.removeprefix(s.title)}"
            out.append(f"{s.title}: {', '.join(names)} undefined, {why.removeprefix(f'{s.title}: ')}.")
        if isinstance(s, LabelAnalysis) and s.unlabelled:
            rows = plural(s.unlabelled, "row")
            out.append(f"{s.title}: {rows} without a label, which counts as negative.")
        out += [f"{s.title}, {', '.join(names)}: {why}." for why, names in noted.items()]
    return out


@section("comparisons", order=30)
def comparisons(data: ComparisonData) -> Section | None:
    """The paired tests behind the verdict; None if there is one scorer."""
    analysis = data.analysis
    if not analysis.comparisons:
        return None
    intro = (
        f"{analysis.first.title} minus the other, on the same rows. The interval decides: a difference is "
        "shown if its 95 % interval excludes 0. The intervals of a metric hold together, for all "
        f"{plural(len(analysis.comparisons), 'comparison')} at once, and p, from the paired bootstrap, is "
        "adjusted in the same way. McNemar's exact test counts the rows that only one of the two has right; "
        "its p is not adjusted and decides nothing here. The smallest difference is the one that these rows "
        "show with 80 % power."
    )
    pictures = [plots.differences(analysis, metric) for metric in TESTED]
    rows = []
    for other, c in analysis.compared():
        m, tests = c.mcnemar, list[Cell]()
        for d in (c.differences[metric] for metric in TESTED):
            tests += [*difference(d), Cell(number(d.detectable))]
        alone = UNDEFINED if m is None else f"{m.only_a:,} : {m.only_b:,}"
        rows.append([Cell(other.title), *tests, *cells(alone, p_value(None if m is None else m.p))])
    by_metric = [column for m in map(name_of, TESTED) for column in (f"Δ {m}", f"p, {m}", f"smallest Δ {m}")]
    table = Table(["against", *by_metric, "right alone, it : other", "p, McNemar"], rows)
    notes = grouped((other.title, c.note) for other, c in analysis.compared() if c.note)
    bullets = [Bullets([f"{', '.join(titles)}: {note}." for note, titles in notes.items()])] if notes else []
    blocks: list[Block] = [Prose(intro), *(p for p in pictures if p is not None), table, *bullets]
    return Section("comparisons", "Against the others", blocks)


def difference(d: MetricDifference | None) -> list[Cell]:
    """Return a difference with its interval, and its adjusted p-value."""
    if d is None:
        return cells(UNDEFINED, UNDEFINED)
    return [with_interval(d), Cell(p_value(d.p_adjusted))]


@section("default", order=40)
def default(data: ComparisonData) -> Section:
    """The result at 0.5, declared in advance, next to what val chose."""
    intro = (
        "0.5 on uncalibrated probabilities was declared before anything was fitted; the chosen threshold "
        "applies to calibrated probabilities. If the two tell different stories, the choice on val made the "
        "difference."
    )
    rows = []
    for s in data.analysis.with_probabilities.values():
        pairs = [(s.metrics[m], s.at_default[m]) for m in _AT_DEFAULT]
        rows.append(cells(s.title, number(s.threshold), *(number(v) for pair in pairs for v in pair)))
    columns = [c for m in _AT_DEFAULT for c in (f"{name_of(m)}, chosen", f"{name_of(m)}, at 0.5")]
    table = Table(["", "chosen", *columns], rows, strong=FIRST)
    return Section("default", "At 0.5, declared in advance", [Prose(intro), table])


@section("threshold", order=50)
def threshold(data: ComparisonData) -> Section | None:
    """Each scorer's threshold and calibrator, with reasons; None if none was fitted."""
    scorers = data.analysis.scorers
    fitted = {s.title: data.decisions[name] for name, s in scorers.items() if name in data.decisions}
    if not fitted:
        return None
    evaluation = data.config.evaluation
    intro = (
        f"Objective: {describe(evaluation.threshold)}; calibration: {evaluation.calibration.method}. "
        "Each scorer has its own, fitted on val alone: no row of another split was used. The range holds "
        "95 % of the thresholds that resamples of val choose; the optimism is how much better the objective "
        "looks on val than on other rows."
    )
    columns = ["", "threshold", "range", "objective on val", "optimism", "calibration", "log loss on val"]
    rows = []
    for title, d in fitted.items():
        objective, optimism, ends = Cell(number(d.threshold.reached)), UNDEFINED, UNDEFINED
        if (moved := d.threshold_spread) is not None:
            objective, optimism = with_interval(moved.objective), signed(moved.optimism)
            ends = span(moved.low, moved.high) or UNDEFINED
        before, after = number(d.calibrator.log_loss_before), number(d.calibrator.log_loss_after)
        change = before if d.calibrator.kind == "none" else f"{before} to {after}"
        first = cells(title, number(d.threshold.value), ends)
        rows.append([*first, objective, *cells(optimism, d.calibrator.kind, change)])
    table = Table(columns, rows, strong=FIRST)
    picture = plots.by_threshold(data)
    blocks: list[Block] = [Prose(intro), *([picture] if picture else []), table, Bullets(_why(fitted))]
    return Section("threshold", "Threshold and calibration", blocks)


def _why(fitted: Mapping[str, Decided]) -> list[str]:
    """The reason of each choice; scorers with the same reason share a sentence."""
    thresholds = grouped((title, d.threshold.reason) for title, d in fitted.items())
    calibrators = grouped((t, f"{d.calibrator.kind}, {d.calibrator.reason}") for t, d in fitted.items())
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
    rows = []
    for s in found:
        r, curve, covered = s.reliability, s.curves.by_coverage, [UNDEFINED] * len(_COVERED)
        if curve is not None:  # of the most confident rows, as few as make up at least this share
            points = list(zip(curve.coverage, curve.accuracy, strict=True))
            covered = [number(next((a for c, a in points if c >= least - 1e-9), None)) for least in _COVERED]
        error = number(r.expected_calibration_error)
        rows.append(cells(s.title, error, str(len(r.points)), f"{r.rows:,}", *covered))
    shares = [f"accuracy of the {c:.0%} most confident" for c in _COVERED]
    table = Table(["", "calibration error", "bins", "rows", *shares], rows, strong=FIRST)
    return Section("probabilities", "What the probabilities are worth", [Prose(intro), *pictures, table])


def scorer_rows(analysis: Analysis) -> list[dict[str, str]]:
    """Return the table of all scorers as plain rows, the student first, for tables outside of reports."""
    return [
        {
            "scorer": s.title,
            **{name_of(m): with_interval(s.intervals[m]).line for m in compared()},
            "threshold": number(s.threshold),
        }
        for s in analysis.scorers.values()
    ]
