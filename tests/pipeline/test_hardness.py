"""Hard texts in a whole run: listed, marked, counted and measured."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from core.config.loading import load
from core.pipeline.run import describe_plan
from core.pipeline.runners import Switches
from tests.pipeline.running import LABELS_ONLY, run


def spoil(answers: Path) -> None:
    """Give every third answer the other label."""
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    wrong = [{**row, "label": 1 - row["label"]} if i % 3 == i % 2 else row for i, row in enumerate(rows)]
    answers.write_text("".join(json.dumps(row) + "\n" for row in wrong))


def marks(folder: Path, split: str) -> list[str]:
    with (folder / f"data_splits/{split}_with_hard_tag.csv").open(newline="") as f:
        return [row["hard"] for row in csv.DictReader(f)]


def test_hard_texts_are_listed_marked_counted_and_measured(project: Path) -> None:
    spoil(project.parent / "answers.jsonl")
    changes = ("teacher.label_splits=[test]", "student.steps=2", "export.label_only=false")
    folder = run(project, *changes)
    summary = json.loads((folder / "teacher_phase/teacher_summary.json").read_text())
    for split, name in (("train", "hard_examples.jsonl"), ("test", "hard_examples_test.jsonl")):
        lines = (folder / "teacher_phase" / name).read_text().splitlines()
        assert len(lines) == marks(folder, split).count("1") > 0
        assert "" not in marks(folder, split)
    assert summary["hard"]["texts"] == marks(folder, "train").count("1") >= 10
    report = (folder / "test_report.md").read_text()
    assert "The student on hard texts of train and on the others" in report
    assert "No metrics of hard texts of test: there are fewer than 10" in report
    plan = describe_plan(load(project, list(changes)), Switches(frozenset(), frozenset()))
    lines = [line for line in plan.splitlines() if line.startswith("hardness/")]
    assert [line.split()[:2] for line in lines] == [
        ["hardness/student/train", "reuse"],
        ["hardness/student/test", "reuse"],
    ]


def test_gold_labels_have_no_hard_texts(project: Path) -> None:
    folder = run(project, *LABELS_ONLY, "rejection.rules=[]")
    assert set(marks(folder, "train")) == {"0"}
    assert "hard for the teacher" not in (folder / "test_report.md").read_text()
