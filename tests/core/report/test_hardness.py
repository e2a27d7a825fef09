"""The section on texts that were hard for the teacher."""

from __future__ import annotations

import dataclasses

from core.evaluation.slices import LEAST_ROWS, HardTexts
from core.intervals import difference, share
from core.records import SplitName
from core.report.document import Prose, Table
from core.report.scorer_sections import hard
from tests.core.report.making import as_markdown, full


def found(split: SplitName = "train", counts: tuple[int, int] = (4, 30), unanswered: int = 0) -> HardTexts:
    """Counts of hard texts, with slices of the report's rows."""
    shares = {"0": share(counts[0], 200), "1": share(counts[1], 60)}
    parts = zip(("hard", "not hard"), full().analysis.slices, strict=False)
    return HardTexts(
        split=split,
        texts=sum(counts),
        unanswered=unanswered,
        by_label=shares,
        difference=difference(shares["1"], shares["0"]),
        least_rows=LEAST_ROWS,
        slices=tuple(dataclasses.replace(part, by="hard", name=name) for name, part in parts),
    )


def test_hard_texts_are_counted_by_gold_label_with_intervals() -> None:
    report = full(hardness=[found(unanswered=3)])
    section = hard(report)
    assert section is not None
    counts, sliced = [b for b in section.blocks if isinstance(b, Table)]
    (row,) = counts.rows
    assert [c.text for c in row] == ["train", "34", "4 of 200: 0.020", "30 of 60: 0.500", "+0.480"]
    assert row[3].detail == "0.377–0.623"
    assert counts.notes == ["train: 3 texts without any answer, which are not counted."]
    assert [r[0].text for r in sliced.rows] == ["hard", "not hard"]
    said = as_markdown(report)
    assert "## Texts that were hard for the teacher" in said
    assert "30 of 60: 0.500" in said


def test_each_answered_split_has_a_row_and_a_table() -> None:
    section = hard(full(hardness=[found(), found("test")]))
    assert section is not None
    tables = [b for b in section.blocks if isinstance(b, Table)]
    assert [r[0].text for r in tables[0].rows] == ["train", "test"]
    assert [t.title.split(" and ")[0] for t in tables[1:]] == [
        "The student on hard texts of train",
        "The student on hard texts of test",
    ]


def test_too_few_hard_texts_are_noted_and_not_measured() -> None:
    few = found().model_copy(update={"slices": found().slices[1:]})
    section = hard(full(hardness=[few]))
    assert section is not None
    last = section.blocks[-1]
    assert isinstance(last, Prose)
    assert last.text == "No metrics of hard texts of train: there are fewer than 10, or they were not scored."


def test_there_is_no_section_without_hard_texts() -> None:
    assert hard(full(hardness=[found(counts=(0, 0))])) is None
    assert hard(full(hardness=[])) is None
