"""Sections on the measured rows: all scorers side by side, then the student on parts of the rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core.config import METRICS
from core.evaluation.analysis import Analysis, LabelAnalysis, ProbabilityAnalysis, ScorerAnalysis
from core.evaluation.decision import Decision, worst_errors
from core.evaluation.predictions import Predictions, optional
from core.evaluation.slices import LEAST_ROWS, Slice
from core.evaluation.threshold import describe
from core.records import Example
from core.report import plots
from core.report.document import (
    UNDEFINED,
    Block,
    Bullets,
    Cell,
    ComparisonData,
    Mistake,
    Mistakes,
    Prose,
    ReportData,
    Section,
    Table,
    cells,
    section,
)
from core.report.render import (
    GOLD_LABELS,
    and_,
    count,
    grouped,
    name_of,
    number,
    plural,
    signed,
    span,
    with_interval,
)
from core.rulebook import cited

_FIRST = ("macro_f1", "auroc", "accuracy", "precision", "recall")
"""The metrics that readers look for first."""
_AT_DEFAULT = ("macro_f1", "accuracy", "precision", "recall")
_COVERED = (0.5, 0.8, 0.9, 1.0)
FIRST = frozenset({0})
"""The row of the first scorer, in a run the student."""
MOST_LISTED = 200
"""Errors that are listed."""
SLICED = ("accuracy", "macro_f1", "precision", "recall", "auroc")
_DRAWN = "accuracy"
_MOST_NAMED = 3


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
    # Scorers with the same reason share a sentence.
    thresholds = grouped((title, d.threshold.reason) for title, d in fitted.items())
    calibrators = grouped((t, f"{d.calibrator.kind}, {d.calibrator.reason}") for t, d in fitted.items())
    why = [f"Threshold: {reason} ({'; '.join(titles)})." for reason, titles in thresholds.items()]
    why += [f"Calibration: {reason} ({'; '.join(titles)})." for reason, titles in calibrators.items()]
    for title, d in fitted.items():
        if (moved := d.threshold_spread) is not None and moved.unreached:
            why.append(f"{title}: {moved.unreached} of {moved.resamples} resamples had no threshold.")
    table, picture = Table(columns, rows, strong=FIRST), plots.by_threshold(data)
    blocks: list[Block] = [Prose(intro), *([picture] if picture else []), table, Bullets(why)]
    return Section("threshold", "Threshold and calibration", blocks)


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


@section("slices", order=130)
def slices(data: ReportData) -> Section | None:
    """The student on parts of the rows; None if there are none."""
    found = data.analysis.slices
    if not found:
        return None
    intro = (
        f"{data.analysis.first.title} on parts of {data.split}. There are many parts, so one of them is low "
        "by chance: none is tested against the rest, and an interval that contains the value of all rows "
        f"shows nothing. Parts of fewer than {LEAST_ROWS} rows are left out."
    )
    blocks: list[Block] = [Prose(intro)]
    for by in dict.fromkeys(s.by for s in found):
        of = [s for s in found if s.by == by]
        measured = [(f"{s.name}, n = {s.rows:,}", s.metrics[_DRAWN]) for s in of]
        rows = [plots.ForestRow(name, m.value, m.low, m.high) for name, m in measured if m.value is not None]
        if rows:
            name, axis = f"slices-{found.index(of[0])}", "accuracy; the vertical line is that of all rows"
            line = data.analysis.first.intervals[_DRAWN].value
            blocks.append(plots.forest(rows, name=name, title=f"Accuracy by {by}", axis=axis, line=line))
        blocks.append(slice_table(by, of, title=f"By {by}"))
    return Section("slices", "Parts of the rows", blocks)


def slice_table(by: str, of: Sequence[Slice], *, title: str) -> Table:
    """Return parts of the rows with their metrics; undefined ones have their reasons below."""
    rows = [
        [*cells(s.name, f"{s.rows:,}", f"{s.positive:,}"), *(with_interval(s.metrics[m]) for m in SLICED)]
        for s in of
    ]
    each = [(f"{name_of(m)} of {s.name}", s.metrics[m]) for s in of for m in SLICED]
    undefined = grouped((name, i.undefined) for name, i in each if i.undefined)
    noted = grouped((name, i.note) for name, i in each if i.note)
    notes = [
        *(f"{_listed(names)} undefined: {why}." for why, names in undefined.items()),
        *(f"{_listed(names)}: {why}." for why, names in noted.items()),
    ]
    return Table([by, "rows", "positive", *map(name_of, SLICED)], rows, title=title, notes=notes)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


@section("faithfulness", order=140)
def faithfulness(data: ReportData) -> Section | None:
    """Whether rules, quotations and labels in the student's reasoning are true."""
    found = data.analysis.faithfulness
    if found is None:
        return None
    counted = {
        "answers whose reasoning can be read": found.with_reasoning,
        "reasonings that cite a rule that exists": found.cites_a_rule,
        "reasonings that cite no rule that does not exist": found.without_invented_rule,
        "reasonings that quote only words of the text": found.without_invented_quote,
        "citations of a rule that exists": found.rules_that_exist,
        "quotations that occur in the text": found.quotes_that_occur,
        "stated labels that the model holds the more probable one": found.label_is_more_probable,
        "stated labels that are the decision at the threshold": found.label_is_decision,
        "stated labels that are right": found.label_is_gold,
    }
    named = counted.items()
    rows = [[*cells(what, f"{c.count:,} of {c.total:,}"), with_interval(c.share)] for what, c in named]
    intro = (
        f"The student's reasoning on {plural(found.with_reasoning.total, 'row')} of "
        f"{data.analysis.rows:,}. That a rule exists and a quotation occurs does not mean that one follows "
        "from the other."
    )
    why = [f"{UNDEFINED} {what}: {c.share.undefined}." for what, c in counted.items() if c.share.undefined]
    table = Table(["", "count", "share"], rows, notes=why)
    return Section("faithfulness", "Whether the reasoning is true", [Prose(intro), table])


@section("errors", order=150)
def errors(data: ReportData) -> Section | None:
    """The errors with their texts, which are on the page only; None if no decision was made."""
    counts = data.analysis.first.counts
    if counts is None:
        return None
    wrong, shown = counts.fp + counts.fn, len(data.mistakes)
    if not wrong:
        text = f"No text of {data.split} is decided wrongly."
        return Section("errors", "The worst errors", [Prose(text)])
    missed = f"{plural(counts.fn, 'positive')} missed, {plural(counts.fp, 'negative')} flagged"
    text = f"Decided wrongly on {data.split}: {plural(wrong, 'text')} ({missed})."
    if shown and wrong == 1:
        text += " It is on the page report.html."
    elif shown:
        which = "All of them are" if shown >= wrong else f"The {shown:,} most confident of them are"
        text += f" {which} on the page report.html, the most confident first."
    return Section("errors", "The worst errors", [Prose(text), Mistakes(data.mistakes)])


def worst(
    examples: Sequence[Example],
    scored: Predictions,
    decision: Decision,
    rule_ids: tuple[str, ...] = (),
    *,
    most: int = MOST_LISTED,
) -> list[Mistake]:
    """Return up to `most` examples that are decided wrongly, the most confident first."""
    at = scored.indices()
    kept = [e for e in examples if e.id in at]
    aligned = scored.take([at[e.id] for e in kept])
    calibrated, predicted = decision.calibrated(aligned).probability, decision.predicted(aligned)
    if predicted is None or decision.threshold is None:
        return []
    mistakes = []
    for i in worst_errors(aligned, decision, most):
        example, generated = kept[i], aligned.generated[i]
        rules = () if generated.reasoning is None else cited(generated.reasoning, rule_ids)
        mistake = Mistake(
            id=example.id,
            text=example.text,
            gold=example.label,
            decision=int(predicted[i]),
            probability=optional(calibrated[i]),
            threshold=decision.threshold,
            reasoning=generated.reasoning,
            cited=tuple(dict.fromkeys(rules)),
            stated=generated.label,
        )
        mistakes.append(mistake)
    return mistakes


@section("hard texts", order=210)
def hard(data: ReportData) -> Section | None:
    """Texts that were hard for the teacher, by gold label, and the student on them; None without any."""
    found = [h for h in data.hardness if h.texts]
    if not found:
        return None
    intro = (
        "A text is hard if every answer of the teacher to it was rejected. The student does not learn from "
        "hard texts of train, which is another reason for a difference there. They are listed with all "
        "reasons in teacher_phase/hard_examples.jsonl and marked in data_splits/train_with_hard_tag.csv."
    )
    rows = []
    for h in found:
        by = [h.by_label[label] for label in GOLD_LABELS]
        shares = [Cell(f"{s.count:,} of {s.total:,}: {number(s.rate)}", span(s.low, s.high)) for s in by]
        rows.append([*cells(h.split, f"{h.texts:,}"), *shares, with_interval(h.difference)])
    notes = [
        f"{h.split}: {plural(h.unanswered, 'text')} without any answer, which are not counted."
        for h in found
        if h.unanswered
    ]
    columns = ["", "hard texts", *GOLD_LABELS.values(), "positive minus negative"]
    blocks: list[Block] = [Prose(intro), Table(columns, rows, title="Hard texts by gold label", notes=notes)]
    for h in (h for h in found if h.slices):
        title = f"The student on hard texts of {h.split} and on the others"
        blocks.append(slice_table(h.split, h.slices, title=title))
    if unmeasured := [h.split for h in found if not any(s.name == "hard" for s in h.slices)]:
        text = (
            f"No metrics of hard texts of {and_(unmeasured)}: there are fewer than {found[0].least_rows}, or "
            "they were not scored."
        )
        blocks.append(Prose(text))
    return Section("hard", "Texts that were hard for the teacher", blocks)
