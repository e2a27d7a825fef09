"""Baselines are measured before a student is trained, and reused by the run that trains it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.pipeline.running import baseline, run


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def made(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in (root / "objects").glob("*/*.json")}


def test_baselines_are_measured_without_a_student_and_reused_by_the_run(project: Path) -> None:
    changes = ("teacher.label_splits=[test]", "student.steps=2", "export.label_only=false")
    folder = baseline(project, *changes)
    scorers = read(folder / "analysis.json")["scorers"]
    assert list(scorers) == [
        "untrained",
        "untrained_rulebook",
        "majority",
        "tfidf_words",
        "tfidf_chars",
        "teacher",
    ]
    root = project.parent / "out"
    assert not (root / "objects/train").exists()
    report = (folder / "baseline_report.md").read_text()
    assert "TF-IDF words + logistic regression" in report
    assert "first answers on train" in report
    rulebook = read(folder / "metrics_test.json")
    assert rulebook["metrics"] == scorers["untrained_rulebook"]["metrics"]
    assert rulebook["asked"] == "Untrained student (with rulebook)"

    before = made(root)
    run(project, *changes)
    after = {path.split("/")[1] for path in made(root) - before}
    every = {"reject", "encode", "train", "evaluate", "export", "decide", "analyse", "hardness", "bundle"}
    assert every - {"bundle"} <= after <= every
    student = root / "runs" / folder.parent.name / "student_phase"
    again = read(student / "analysis.json")["scorers"]
    for name in ("untrained", "majority", "tfidf_words", "teacher"):
        assert again[name]["counts"] == scorers[name]["counts"]

    curve = (student / "eval_history.jsonl").read_text()
    assert len(curve.splitlines()) > 1
    baseline(project, *changes)
    assert (student / "eval_history.jsonl").read_text() == curve


def test_a_skipped_teacher_is_not_asked(project: Path) -> None:
    folder = baseline(project, "baselines.other_prompt=false", "export.splits=[test]", skip=["sample"])
    assert not (project.parent / "out/objects/sample").exists()
    assert "The teacher on train" not in (folder / "baseline_report.md").read_text()
