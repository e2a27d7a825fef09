"""What the report says of texts that were hard for the teacher."""

from __future__ import annotations

import dataclasses
from typing import Any

from core.evaluation.slices import LEAST_ROWS
from core.rejection.intervals import difference, share
from core.report import hardness
from core.report.blocks import Prose, Table
from core.report.markdown import render
from tests.core.report.making import full


def found(split: str = "train", counts: tuple[int, int] = (4, 30), unanswered: int = 0) -> dict[str, Any]:
    """hardness.json, with the slices of the report's own rows."""
    shares = {"0": share(counts[0], 200), "1": share(counts[1], 60)}
    parts = zip(("hard", "not hard"), full().analysis["slices"], strict=False)
    return {
        "split": split,
        "texts": sum(counts),
        "unanswered": unanswered,
        "by_label": {k: dataclasses.asdict(s) for k, s in shares.items()},
        "difference": dataclasses.asdict(difference(shares["1"], shares["0"])),
        "least_rows": LEAST_ROWS,
        "slices": [{**part, "by": "hard", "name": name} for name, part in parts],
    }


def test_hard_texts_are_counted_by_gold_label_with_the_intervals() -> None:
    report = full(hardness=[found(unanswered=3)])
    section = hardness.section(report)
    assert section is not None
    counts, sliced = [b for b in section.blocks if isinstance(b, Table)]
    (row,) = counts.rows
    assert [c.text for c in row] == ["train", "34", "4 of 200: 0.020", "30 of 60: 0.500", "+0.480"]
    assert row[3].detail == "0.377–0.623"
    assert counts.notes == ["train: 3 texts without any answer, hard for nobody."]
    assert [r[0].text for r in sliced.rows] == ["hard", "not hard"]
    said = render(report)
    assert "## Texts that were hard for the teacher" in said
    assert "30 of 60: 0.500" in said


def test_each_split_that_was_answered_has_its_row_and_its_table() -> None:
    section = hardness.section(full(hardness=[found(), found("test")]))
    assert section is not None
    tables = [b for b in section.blocks if isinstance(b, Table)]
    assert [r[0].text for r in tables[0].rows] == ["train", "test"]
    assert [t.title.split(" and ")[0] for t in tables[1:]] == [
        "The student on hard texts of train",
        "The student on hard texts of test",
    ]


def test_too_few_hard_texts_are_said_and_not_measured() -> None:
    few = {**found(), "slices": found()["slices"][1:]}
    section = hardness.section(full(hardness=[few]))
    assert section is not None
    last = section.blocks[-1]
    assert isinstance(last, Prose)
    assert last.text == "No metrics of hard texts of train: they are fewer than 10, or not scored."


def test_nothing_hard_leaves_no_heading() -> None:
    assert hardness.section(full(hardness=[found(counts=(0, 0))])) is None
    assert hardness.section(full(hardness=[])) is None
