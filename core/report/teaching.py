"""What the teacher gave: from train texts to accepted answers, by gold label, and how right it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.evaluation.intervals import proportion
from core.evaluation.metrics import Counts, macro_f1
from core.report.blocks import UNDEFINED, Block, Cell, Prose, Section, Table, cells
from core.report.inputs import Report
from core.report.plots.shares import funnel as drawn
from core.report.words import begins, number, plural, signed, span, with_interval


def section(report: Report) -> Section | None:
    """The funnel; None without a teacher."""
    t = report.teacher
    if t is None:
        return None
    texts, missing = t["funnel"]["texts"], t["funnel"]["missing"]
    blocks: list[Block] = [
        Prose(f"{_who(t)} {_difference(texts)}"),
        *([Prose(f"{begins(said)}.", warning=True)] if (said := skewed(t)) else []),
        drawn(texts, missing),
        _funnel(texts, missing),
        *_on_train(t),
    ]
    return Section("teacher", "From train texts to accepted answers", blocks)


def on_train(sampled: Mapping[str, Any]) -> Section | None:
    """How right the teacher is on train, where that is all that is known of it."""
    blocks = _on_train(sampled)
    return Section("teacher", "The teacher on train", blocks) if blocks else None


def skewed(teacher: Mapping[str, Any]) -> str | None:
    """What core.rejection.skew says of a class that loses more, and the remedy; None where none does."""
    found = teacher.get("skew")
    return None if found is None else str(found["said"])


def dropped(encoded: Mapping[str, Any]) -> str | None:
    """Return how many accepted answers were not trained on, and why; None where all were.

    `encoded` is encode_summary.json.
    """
    lost = encoded["dropped"]
    if not lost:
        return None
    accepted = plural(lost + encoded["examples"], "accepted answer")
    return (
        f"{lost:,} of {accepted} {'was' if lost == 1 else 'were'} not trained on: {encoded['dropped_reason']}"
    )


def _who(t: Mapping[str, Any]) -> str:
    if t["teacher_kind"] == "gold":
        return "No teacher was asked: the student learns the gold labels."
    return f"The teacher: {t['teacher_model']} ({t['teacher_kind']})."


def _difference(texts: Mapping[str, Any]) -> str:
    d = texts["difference"]
    if d["value"] is None:
        return f"How acceptance differs between gold labels is undefined: {d['undefined']}."
    said = f"The accepted share of positives minus that of negatives is {signed(d['value'])}"
    shown = "" if d["low"] <= 0 <= d["high"] else ", which chance hardly explains"
    return f"{said} (95 % interval {span(d['low'], d['high'], sign=True)}){shown}."


def _funnel(texts: Mapping[str, Any], missing: Mapping[str, int]) -> Table:
    """What became of the train texts, by gold label."""
    by = texts["by_label"]
    lines = [("Train texts", {k: by[k]["total"] + missing[k] for k in by})]
    if any(missing.values()):
        lines.append(("without an answer", dict(missing)))
    lines += [(f"rejected: {reason}", counts) for reason, counts in texts["by_reason"].items()]
    lines.append(("Accepted", {k: by[k]["count"] for k in by}))
    rows = [cells(name, *(f"{n:,}" for n in (c["0"], c["1"], c["0"] + c["1"]))) for name, c in lines]
    share = [Cell(number(by[k]["rate"]), span(by[k]["low"], by[k]["high"])) for k in ("0", "1")]
    whole = with_interval(vars_of(texts["accepted"], texts["total"]))
    rows.append([Cell("Share accepted of the answered"), *share, whole])
    return Table(["", "gold negative", "gold positive", "all"], rows)


def vars_of(count: int, total: int) -> Mapping[str, Any]:
    """A share with Wilson's interval, as it is written."""
    return proportion(count, total).to_json()


def _on_train(t: Mapping[str, Any]) -> list[Block]:
    """First answers against gold; a teacher that is gold itself says nothing."""
    first = t.get("first_answers")
    if not first or t["teacher_kind"] == "gold":
        return []
    tp, fp, fn, tn, unread = (first[k] for k in ("tp", "fp", "fn", "tn", "unread"))
    whole = tp + fp + fn + tn + unread
    f1 = float(macro_f1(Counts.of(tp, fp, tp + fn, fp + tn)))
    row = [
        Cell("first answers on train"),
        Cell(f"{whole:,}"),
        with_interval(vars_of(tp + tn, whole)),
        Cell(UNDEFINED if f1 != f1 else number(f1)),
        with_interval(vars_of(tp, tp + fp)),
        with_interval(vars_of(tp, tp + fn)),
        Cell(f"{unread:,}"),
    ]
    columns = ["", "texts", "accuracy", "macro-F1", "precision", "recall", "could not be read"]
    said = (
        "How right the teacher is by itself: its first answer to each train text, before anything was chosen "
        "by gold. This is another split than the table of scorers, so it says about how good a student can "
        "get, and not who is better. An answer that could not be read is wrong in accuracy and in no other "
        "number."
    )
    return [Prose(said), Table(columns, [row], title="The teacher against gold")]
