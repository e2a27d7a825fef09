"""The student is published even if every optional part fails."""

from __future__ import annotations

import json
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

from core.errors import Part, StageError, UserError
from core.evaluation import analysis, baselines, slices, student_scores
from core.export import stage
from core.pipeline import exporting
from core.report import run_sections
from core.report.render import plain
from tests.pipeline.running import LABELS_ONLY, baseline, folder_of, objects, run

pytestmark = pytest.mark.integration

CHANGES = (
    "run.name=second",
    "evaluation.metric=log_loss",
    "teacher.label_splits=[test]",
    "baselines.label_only_run=labels",
    "export.merged=float32",
    "export.error_rows=2",
    "trackers.patience_s=0.5",
)
STAYS = {Part.LABEL_ONLY_RUN, "Tracker: mlflow"}
"""Parts whose cause outlives a repeated command."""
BLOCKED = ("ledger.json", "student_phase/learning_curve.png", "baseline_phase/baselines.json")
FAILS = {
    *STAYS,
    Part.UNTRAINED,
    Part.TFIDF_WORDS,
    Part.TFIDF_CHARACTERS,
    Part.SLICES,
    Part.FAITHFULNESS,
    Part.EXPLANATIONS,
    Part.MERGED,
    Part.PARITY,
    f"{Part.HARDNESS}: train",
    f"{Part.HARDNESS}: test",
    f"{Part.TEACHER}: test",
    f"{Part.SECTION}: costs",
    f"{Part.PLOT}: Learning curve on val",
    f"{Part.PLOT}: learning curve as an image file",
    f"{Part.FILE}: ledger.json",
    f"{Part.FILE}: baseline_phase/baselines.json",
}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def broken(*arguments: object, **named: object) -> Any:
    raise RuntimeError("made to fail")


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts connections and never replies."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def label_only_run(small: Path) -> None:
    """A run `labels` of a label-only student, by its record, whose decision is missing."""
    folder = shutil.copytree(small, small.parent / "labels")
    config = folder / "resolved_config.yaml"
    config.write_text(re.sub(r"target: \w+", "target: label_only", config.read_text()))
    stages = read(folder / "stages.json")
    stages["decide/student/reasoning"]["key"] = "0" * 32
    (folder / "stages.json").write_text(json.dumps(stages))


def break_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make those parts fail that no input makes fail, at their dependencies."""
    asked = exporting.score

    def score(run: Any, parts: Any, checkpoint: Any, split: Any, who: str, **named: Any) -> Any:
        return broken() if who == "untrained" else asked(run, parts, checkpoint, split, who, **named)

    monkeypatch.setattr(exporting, "score", score)
    monkeypatch.setattr(LogisticRegression, "fit", broken)
    for module, name in (
        (analysis, "slices"),
        (analysis, "faithfulness"),
        (student_scores, "worst_errors"),
        (slices, "slices"),
        (stage, "write_merged"),
        (stage, "compare_ways"),
        (run_sections, "_token_table"),
        (Figure, "savefig"),
    ):
        monkeypatch.setattr(module, name, broken)


def named(folder: Path) -> set[str]:
    """The failed parts in run_summary.json, which have to agree with both reports and the log."""
    failed = read(folder / "run_summary.json")["failed_parts"]
    log, report = (folder / "train.log").read_text(), (folder / "test_report.md").read_text()
    page = folder / "report.html"
    for failure in failed:
        assert set(failure) == {"part", "error", "message"}
        assert failure["message"]
        assert failure["message"] in log
        assert plain(failure["part"]) in report
        assert not page.is_file() or failure["part"] in page.read_text()
    return {failure["part"] for failure in failed}


def test_the_student_is_published_though_every_optional_part_fails(
    finished: Path, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="needs the extra: mlflow")
    small = folder_of(finished)
    label_only_run(small)
    second = small.parent / "second"
    for place in (*BLOCKED, "teacher_phase/teacher_samples_test.jsonl"):
        (second / place / "in the way").mkdir(parents=True)
    shutil.rmtree(finished.parent / "out/objects/baseline")  # it is the same in both runs
    changes = [*CHANGES, f"trackers.mlflow.tracking_uri={silent}"]

    with monkeypatch.context() as patch:
        break_parts(patch)
        assert run(finished, *changes) == second
    failed = named(second)
    assert failed >= FAILS
    assert all(name.startswith(Part.PLOT) for name in failed - FAILS)
    published = read(finished.parent / "out/model/latest.json")
    assert published["run_name"] == "second"
    assert (finished.parent / "out" / published["bundle_path"] / "bundle.json").is_file()
    assert (second / "student_phase/bundle/bundle.json").is_file()
    assert (second / "student_phase/test.json").is_file()
    assert read(second / "run_state.json")["state"] == "finished"
    assert "majority" in read(second / "student_phase/analysis.json")["scorers"]
    log = (second / "train.log").read_text()
    assert "RuntimeError: made to fail" in log
    assert "Traceback (most recent call last)" in log
    assert f"optional parts left out: {len(failed)};" in log

    # The same command tries again what failed; of the report one page is in the way now.
    for place in BLOCKED:
        shutil.rmtree(second / place)
    shutil.rmtree(second / "teacher_phase/teacher_samples_test.jsonl")
    (second / "report.html").unlink()
    (second / "report.html/in the way").mkdir(parents=True)
    began = time.monotonic()
    run(finished, *changes)
    assert named(second) == {*STAYS, Part.PAGE}
    assert time.monotonic() - began < 120, "the tracker is not waited for"
    scorers = read(second / "student_phase/analysis.json")["scorers"]
    assert {"untrained", "tfidf_words", "tfidf_chars", "teacher"} <= set(scorers)
    bundle = read(second / "student_phase/bundle/parity.json")
    assert bundle["checked"]
    assert "merged" in bundle


def test_texts_without_words_lose_only_the_word_baseline(project: Path) -> None:
    texts = (project.parent / "texts.csv").read_text().splitlines()
    rows = [line.rpartition(",")[2] for line in texts[1:]]
    signs = [
        ("🎁💰" if label == "1" else "🚲🌧") + "🎉" * (i % 8) + "☀" * (i // 8) for i, label in enumerate(rows)
    ]
    lines = [f"t{i:02},{text},{label}" for i, (text, label) in enumerate(zip(signs, rows, strict=True))]
    (project.parent / "texts.csv").write_text("\n".join(["id,text,label", *lines]) + "\n")
    folder = run(project, *LABELS_ONLY)
    (failure,) = read(folder / "run_summary.json")["failed_parts"]
    assert (failure["part"], failure["error"]) == (Part.TFIDF_WORDS, "DataError")
    assert "no text of train" in failure["message"]
    assert named(folder) == {Part.TFIDF_WORDS}
    scorers = read(folder / "student_phase/analysis.json")["scorers"]
    assert {"majority", "tfidf_chars", "untrained"} <= set(scorers)
    assert read(project.parent / "out/model/latest.json")["run_name"] == "small"
    before = objects(project.parent / "out")
    run(project, *LABELS_ONLY)
    assert named(folder) == {Part.TFIDF_WORDS}
    assert before == objects(project.parent / "out")


def test_the_baseline_report_names_a_baseline_that_fails(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LogisticRegression, "fit", broken)
    folder = baseline(finished, "run.name=second", "seed=7")
    report = (folder / "baseline_report.md").read_text()
    assert Part.TFIDF_WORDS in report
    assert "made to fail" in report
    assert list(read(folder / "analysis.json")["scorers"]) == ["untrained", "untrained_rulebook", "majority"]

    monkeypatch.setattr(baselines, "fit", broken)
    monkeypatch.setattr(exporting, "score", broken)
    monkeypatch.setattr(exporting, "freeze_decision", broken)
    with pytest.raises(StageError, match=r"no baseline could be measured: .*made to fail"):
        baseline(finished, "run.name=third", "seed=7")


def test_a_wrong_label_only_run_is_an_error_before_any_work(project: Path) -> None:
    with pytest.raises(UserError, match="nobody"):
        run(project, "baselines.label_only_run=nobody")
    assert not any((project.parent / "out/objects").glob("*/*.json"))
