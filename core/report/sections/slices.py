"""The student on parts of the rows and on texts that were hard for the teacher, and its reasoning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.evaluation.faithfulness import Counted, Faithfulness
from core.evaluation.hardness_stage import HardTexts
from core.evaluation.slices import LEAST_ROWS, Slice
from core.report.data import ReportData
from core.report.document import UNDEFINED, Block, Cell, Picture, Prose, Section, Table, cells, section
from core.report.plots.comparisons import ForestRow, forest
from core.report.text import and_, grouped, name_of, number, plural, signed, span, with_interval

SLICED = ("accuracy", "macro_f1", "precision", "recall", "auroc")
_DRAWN = "accuracy"
_MOST_LISTED = 3
_LABELS: Mapping[str, str] = {"0": "gold negative", "1": "gold positive"}


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
        picture = _picture(data, by, of)
        blocks += [*([picture] if picture else []), slice_table(by, of, title=f"By {by}")]
    return Section("slices", "Parts of the rows", blocks)


def slice_table(by: str, of: Sequence[Slice], *, title: str) -> Table:
    """Return parts of the rows with their metrics; undefined ones have their reasons below."""
    rows = [
        [*cells(s.name, f"{s.rows:,}", f"{s.positive:,}"), *(with_interval(s.metrics[m]) for m in SLICED)]
        for s in of
    ]
    return Table([by, "rows", "positive", *map(name_of, SLICED)], rows, title=title, notes=_reasons(of))


def _reasons(of: Sequence[Slice]) -> list[str]:
    """Each reason for a dash, or to be careful with an interval, with the metrics and parts it concerns."""
    each = [(f"{name_of(m)} of {s.name}", s.metrics[m]) for s in of for m in SLICED]
    undefined = grouped((name, i.undefined) for name, i in each if i.undefined)
    noted = grouped((name, i.note) for name, i in each if i.note)
    return [
        *(f"{_listed(names)} undefined: {why}." for why, names in undefined.items()),
        *(f"{_listed(names)}: {why}." for why, names in noted.items()),
    ]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _picture(data: ReportData, by: str, of: Sequence[Slice]) -> Picture | None:
    measured = [(s, s.metrics[_DRAWN]) for s in of]
    rows = [
        ForestRow(f"{s.name}, n = {s.rows:,}", m.value, m.low, m.high)
        for s, m in measured
        if m.value is not None
    ]
    if not rows:
        return None
    first = [s.by for s in data.analysis.slices].index(by)
    return forest(
        rows,
        name=f"slices-{first}",
        title=f"Accuracy by {by}",
        axis="accuracy; the vertical line is that of all rows",
        line=data.analysis.first.intervals[_DRAWN].value,
    )


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
    blocks: list[Block] = [Prose(intro), _hard_counts(found)]
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


def _hard_counts(found: Sequence[HardTexts]) -> Table:
    """How many of the answered texts of each split and label were hard."""
    rows = []
    for h in found:
        shares = [
            Cell(f"{s.count:,} of {s.total:,}: {number(s.rate)}", span(s.low, s.high))
            for s in (h.by_label[label] for label in _LABELS)
        ]
        difference = Cell(signed(h.difference.value), span(h.difference.low, h.difference.high, sign=True))
        rows.append([*cells(h.split, f"{h.texts:,}"), *shares, difference])
    notes = [
        f"{h.split}: {plural(h.unanswered, 'text')} without any answer, which are not counted."
        for h in found
        if h.unanswered
    ]
    columns = ["", "hard texts", *_LABELS.values(), "positive minus negative"]
    return Table(columns, rows, title="Hard texts by gold label", notes=notes)


@section("faithfulness", order=140)
def faithfulness(data: ReportData) -> Section | None:
    """Whether rules, quotations and labels in the student's reasoning are true."""
    found = data.analysis.faithfulness
    if found is None:
        return None
    counted = _counted(found)
    rows = [
        [
            *cells(what, f"{c.count:,} of {c.total:,}"),
            Cell(number(c.share.value), span(c.share.low, c.share.high)),
        ]
        for what, c in counted.items()
    ]
    intro = (
        f"The student's reasoning on {plural(found.with_reasoning.total, 'row')} of "
        f"{data.analysis.rows:,}. That a rule exists and a quotation occurs does not mean that one follows "
        "from the other."
    )
    why = [f"{UNDEFINED} {what}: {c.share.undefined}." for what, c in counted.items() if c.share.undefined]
    return Section(
        "faithfulness",
        "Whether the reasoning is true",
        [Prose(intro), Table(["", "count", "share"], rows, notes=why)],
    )


def _counted(found: Faithfulness) -> dict[str, Counted]:
    return {
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
