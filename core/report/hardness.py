"""The texts that were hard for the teacher: how many of either label, and how the student does on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.report.blocks import Block, Cell, Prose, Section, Table
from core.report.inputs import Report
from core.report.parts import table
from core.report.words import number, plural, signed, span

_LABELS = {"0": "gold negative", "1": "gold positive"}


def section(report: Report) -> Section | None:
    """None where no teacher was asked, and where no text was hard."""
    found = [h for h in report.hardness if h["texts"]]
    if not found:
        return None
    intro = (
        "A text is hard where every answer of the teacher to it was rejected. Hard texts of train are not "
        "learnt from, so that there the student differs on them for that reason too. They are listed with "
        "all reasons in teacher_phase/hard_examples.jsonl and marked in data_splits/train_with_hard_tag.csv."
    )
    blocks: list[Block] = [Prose(intro), _counts(found)]
    for h in found:
        blocks += [_sliced(h)] if h["slices"] else []
    if left := [h["split"] for h in found if not any(s["name"] == "hard" for s in h["slices"])]:
        least, of = found[0]["least_rows"], " and ".join(left)
        few = f"No metrics of hard texts of {of}: they are fewer than {least}, or not scored."
        blocks.append(Prose(few))
    return Section("hard", "Texts that were hard for the teacher", blocks)


def _counts(found: Sequence[Mapping[str, Any]]) -> Table:
    """Of the answered texts of each split and label, how many were hard."""
    rows = []
    for h in found:
        by, d = h["by_label"], h["difference"]
        shares = [
            Cell(f"{s['count']:,} of {s['total']:,}: {number(s['rate'])}", span(s["low"], s["high"]))
            for s in (by[k] for k in _LABELS)
        ]
        less = Cell(signed(d["value"]), span(d["low"], d["high"], sign=True))
        rows.append([Cell(h["split"]), Cell(f"{h['texts']:,}"), *shares, less])
    notes = [
        f"{h['split']}: {plural(h['unanswered'], 'text')} without any answer, hard for nobody."
        for h in found
        if h["unanswered"]
    ]
    columns = ["", "hard texts", *_LABELS.values(), "positive minus negative"]
    return Table(columns, rows, title="Hard texts by gold label", notes=notes)


def _sliced(h: Mapping[str, Any]) -> Table:
    return table(
        h["split"], h["slices"], title=f"The student on hard texts of {h['split']} and on the others"
    )
