"""What the teacher gave: from train texts to accepted answers by gold label, and how right it was."""

from __future__ import annotations

from collections.abc import Mapping

from core.evaluation.intervals import proportion
from core.evaluation.metrics import Counts, macro_f1
from core.rejection.funnel import Level
from core.rejection.intervals import Difference
from core.rejection.summary import TeacherSummary
from core.report.data import BaselineData, ReportData
from core.report.document import UNDEFINED, Block, Cell, Prose, Section, Table, cells, section
from core.report.plots.comparisons import funnel as drawn_funnel
from core.report.text import number, plural, sentence, signed, span, with_interval
from core.student.stage import EncodeSummary
from core.teacher.summary import FirstAnswers


@section("teacher", order=200)
def teacher(data: ReportData) -> Section | None:
    """The funnel from train texts to accepted answers; None without a teacher."""
    t = data.teacher
    if t is None:
        return None
    texts, missing = t.funnel.texts, t.funnel.missing
    who = "No teacher was asked: the student learns the gold labels."
    if not t.is_gold:
        who = f"The teacher: {t.teacher_model} ({t.teacher_kind})."
    blocks: list[Block] = [
        Prose(f"{who} {_difference(texts.difference)}"),
        *([Prose(sentence(t.skew.said), warning=True)] if t.skew is not None else []),
        drawn_funnel(texts, missing),
        _funnel(texts, missing),
        *([] if t.is_gold else _first_answers(t.first_answers)),
    ]
    return Section("teacher", "From train texts to accepted answers", blocks)


def teacher_on_train(data: BaselineData) -> Section | None:
    """How right the teacher is on train, if that is all that is known of it."""
    blocks = _first_answers(data.first_answers)
    return Section("teacher", "The teacher on train", blocks) if blocks else None


def skewed(t: TeacherSummary | None) -> str | None:
    """Return how rejection takes more of one class, and the remedy; None if it does not."""
    return None if t is None or t.skew is None else t.skew.said


def dropped(encoded: EncodeSummary) -> str | None:
    """Return how many accepted answers were not trained on, and why; None if all were."""
    lost = encoded.dropped
    if not lost:
        return None
    accepted = plural(lost + encoded.examples, "accepted answer")
    return f"{lost:,} of {accepted} {'was' if lost == 1 else 'were'} not trained on: {encoded.dropped_reason}"


def _difference(d: Difference) -> str:
    if d.value is None or d.low is None or d.high is None:
        return f"How acceptance differs between gold labels is undefined: {d.undefined}."
    text = f"The accepted share of positives minus that of negatives is {signed(d.value)}"
    shown = "" if d.low <= 0 <= d.high else ", which chance hardly explains"
    return f"{text} (95 % interval {span(d.low, d.high, sign=True)}){shown}."


def _funnel(texts: Level, missing: Mapping[str, int]) -> Table:
    """What became of the train texts, by gold label: negative, positive, and all."""
    by = texts.by_label
    lines = [("Train texts", [by[k].total + missing[k] for k in by])]
    if any(missing.values()):
        lines.append(("without an answer", [missing[k] for k in by]))
    lines += [(f"rejected: {why}", [counts[k] for k in by]) for why, counts in texts.by_reason.items()]
    lines.append(("Accepted", [by[k].count for k in by]))
    rows = [cells(name, *(f"{n:,}" for n in (*counts, sum(counts)))) for name, counts in lines]
    shares = [Cell(number(s.rate), span(s.low, s.high)) for s in by.values()]
    whole = with_interval(proportion(texts.accepted, texts.total))
    rows.append([Cell("Share accepted of the answered"), *shares, whole])
    return Table(["", "gold negative", "gold positive", "all"], rows)


def _first_answers(first: FirstAnswers | None) -> list[Block]:
    """First answers to train against gold."""
    if first is None:
        return []
    tp, fp, fn, tn = first.tp, first.fp, first.fn, first.tn
    whole = tp + fp + fn + tn + first.unread
    f1 = float(macro_f1(Counts.of(tp, fp, tp + fn, fp + tn)))
    row = [
        *cells("first answers on train", f"{whole:,}"),
        with_interval(proportion(tp + tn, whole)),
        Cell(UNDEFINED if f1 != f1 else number(f1)),
        with_interval(proportion(tp, tp + fp)),
        with_interval(proportion(tp, tp + fn)),
        Cell(f"{first.unread:,}"),
    ]
    columns = ["", "texts", "accuracy", "macro-F1", "precision", "recall", "unreadable"]
    text = (
        "How right the teacher is by itself: its first answer to each train text, before anything was chosen "
        "by gold. This is another split than the table of scorers, so it shows roughly how good a student "
        "can get, and not which is better. An unreadable answer is wrong in accuracy and in no other number."
    )
    return [Prose(text), Table(columns, [row], title="The teacher against gold")]
