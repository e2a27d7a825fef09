"""The baseline flow: what a student has to beat, before one is trained, and reused by the run that trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.flows.running import baseline, distill

pytestmark = pytest.mark.usefixtures("prefect_server")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def made(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in (root / "objects").glob("*/*.json")}


def test_baselines_are_measured_without_a_student_and_the_run_takes_them_over(project: Path) -> None:
    folder = baseline(project, "teacher.label_splits=[test]")
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
    distill(project, "teacher.label_splits=[test]")
    after = {path.split("/")[1] for path in made(root) - before}
    every = {"reject", "encode", "train", "evaluate", "export", "decide", "analyse", "hardness", "bundle"}
    assert every - {"bundle"} <= after <= every
    student = root / "runs" / folder.parent.name / "student_phase"
    again = read(student / "analysis.json")["scorers"]
    for name in ("untrained", "majority", "tfidf_words", "teacher"):
        assert again[name]["counts"] == scorers[name]["counts"]

    curve = (student / "eval_history.jsonl").read_text()
    assert len(curve.splitlines()) > 1
    baseline(project, "teacher.label_splits=[test]")
    assert (student / "eval_history.jsonl").read_text() == curve


def test_a_teacher_that_is_left_out_is_not_asked(project: Path) -> None:
    folder = baseline(project, skip=["sample"])
    assert not (project.parent / "out/objects/sample").exists()
    assert "The teacher on train" not in (folder / "baseline_report.md").read_text()
