"""The student on parts of the rows: slices, hard texts, its reasoning, and its worst errors."""

from __future__ import annotations

from collections.abc import Sequence

from core.evaluation.decision import Decision, worst_errors
from core.evaluation.predictions import Predictions, optional
from core.evaluation.slices import LEAST_ROWS, Slice
from core.records import Example
from core.report.data import Mistake, ReportData
from core.report.document import UNDEFINED, Block, Cell, Mistakes, Prose, Section, Table, cells, section
from core.report.plots.scorers import ForestRow, forest
from core.report.text import GOLD_LABELS, and_, grouped, name_of, number, plural, span, with_interval
from core.rulebook import cited

MOST = 200
"""Errors that are listed."""
SLICED = ("accuracy", "macro_f1", "precision", "recall", "auroc")
_DRAWN = "accuracy"
_MOST_LISTED = 3


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
        rows = [ForestRow(name, m.value, m.low, m.high) for name, m in measured if m.value is not None]
        if rows:
            name, axis = f"slices-{found.index(of[0])}", "accuracy; the vertical line is that of all rows"
            line = data.analysis.first.intervals[_DRAWN].value
            blocks.append(forest(rows, name=name, title=f"Accuracy by {by}", axis=axis, line=line))
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
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


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
    most: int = MOST,
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
