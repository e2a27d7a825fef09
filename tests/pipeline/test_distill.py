"""The whole pipeline on a small project with a tiny random model."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.config.config import render
from core.config.loading import load
from core.errors import MissingInputError, StageError
from core.pipeline.opening import reopened
from core.pipeline.run import describe_plan
from core.pipeline.runners import Runner, Switches
from core.store import RunView, Store
from core.store.run_view import CONFIG
from tests.pipeline.running import (
    LABELS_ONLY,
    ONE_PROMPT,
    evaluate_checkpoint,
    folder_of,
    objects,
    run,
)

MANIFEST = (
    *("generated_at", "run_name", "checkpoint_path", "dataset_fingerprint", "config_fingerprint"),
    *("decision_threshold_rule", "decision_threshold", "decision_threshold_reason", "calibration", "outputs"),
)
"""The predecessor's fields, in their order."""
FILES = [
    "data_splits/train.csv",
    "data_splits/val.csv",
    "data_splits/test.csv",
    "data_splits/train_with_hard_tag.csv",
    "split_summary.json",
    "teacher_phase/teacher_samples.jsonl",
    "teacher_phase/accepted_samples.jsonl",
    "teacher_phase/rejected_samples.jsonl",
    "teacher_phase/hard_examples.jsonl",
    "teacher_phase/rulebook.txt",
    "teacher_phase/rule_files.json",
    "teacher_phase/teacher_summary.json",
    "student_phase/train_sft.jsonl",
    "student_phase/eval_history.jsonl",
    "student_phase/train_history.jsonl",
    "student_phase/metrics_val_step_0.json",
    "student_phase/metrics_val_step_2.json",
    "student_phase/metrics_val_step_6.json",
    "student_phase/train.json",
    "student_phase/val.json",
    "student_phase/test.json",
    "student_phase/metrics_train.json",
    "student_phase/metrics_val.json",
    "student_phase/metrics_test.json",
    "student_phase/metrics_train_label_only.json",
    "student_phase/metrics_val_label_only.json",
    "student_phase/metrics_test_label_only.json",
    "student_phase/manifest.json",
    "student_phase/manifest_label_only.json",
    "student_phase/learning_curve.png",
    "student_phase/decision.json",
    "student_phase/decision_label_only.json",
    "student_phase/analysis.json",
    "ledger.json",
    "report.html",
    "baseline_phase/baselines.json",
    "run_summary.json",
    "test_report.md",
    "train.log",
    "resolved_config.yaml",
    "made_by.json",
    "stages.json",
]


def stages(folder: Path) -> dict[str, dict[str, Any]]:
    """The run's record of its stages, by slot."""
    found: dict[str, dict[str, Any]] = json.loads((folder / "stages.json").read_text())
    return found


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_run_writes_every_documented_file_with_correct_contents(finished: Path) -> None:
    folder = folder_of(finished)
    assert [f for f in FILES if not (folder / f).is_file()] == []
    root = finished.parent / "out"

    history = rows(folder / "student_phase/eval_history.jsonl")
    assert [row["step"] for row in history] == [0, 2, 4, 6]
    steps = rows(folder / "student_phase/train_history.jsonl")
    assert [row["step"] for row in steps] == [0, 1, 2, 3, 4, 5]
    assert steps[-1]["learning_rate"] == pytest.approx(1e-3)

    summary = json.loads((folder / "run_summary.json").read_text())
    chosen = max(history, key=lambda row: (row["metrics"]["macro_f1"], -row["step"]))
    assert summary["best_step"] == chosen["step"]

    test = json.loads((folder / "student_phase/test.json").read_text())
    split = (folder / "data_splits/test.csv").read_text().splitlines()[1:]
    assert [r["example_id"] for r in test] == [line.split(",")[0] for line in split]
    manifest = json.loads((folder / "student_phase/manifest.json").read_text())
    assert tuple(manifest) == MANIFEST
    assert manifest["outputs"]["test"] == {
        "reused": False,
        "predictions_path": "student_phase/test.json",
        "metrics_path": "student_phase/metrics_test.json",
    }
    threshold = manifest["decision_threshold"]
    assert all(r["predicted"] == int(r["probability"] >= threshold) for r in test)
    metrics = json.loads((folder / "student_phase/metrics_test.json").read_text())["metrics"]
    right = sum(r["predicted"] == r["gold_label"] for r in test)
    assert metrics["accuracy"] == pytest.approx(right / len(test))
    assert sum(r["raw_output"] is not None for r in test) == (2 if summary["best_step"] else 0)

    pointer = json.loads((root / "model/latest.json").read_text())
    assert pointer["run_name"] == "small"
    assert (root / pointer["final_model_path"] / "adapter_model.safetensors").is_file()
    assert "NaN" not in "".join(p.read_text() for p in folder.rglob("*.json*"))


def test_the_same_command_again_builds_nothing_and_keeps_the_files(finished: Path) -> None:
    folder, root = folder_of(finished), finished.parent / "out"
    before, made = (folder / "student_phase/test.json").read_bytes(), objects(root)
    run(finished)
    assert objects(root) == made
    assert (folder / "student_phase/test.json").read_bytes() == before
    assert all(entry["reused"] for entry in stages(folder).values())


def test_a_plan_lists_what_is_reused_what_runs_and_why(finished: Path) -> None:
    none = Switches(frozenset(), frozenset())
    plan = describe_plan(load(finished), none)
    for stage in ("split", "sample", "reject", "encode", "train/6", "evaluate/6"):
        assert re.search(rf"^{stage} +reuse \(built ", plan, re.MULTILINE), plan
    assert re.search(r"^export/student/test/reasoning +reuse", plan, re.MULTILINE)
    assert re.search(r"^baseline +reuse", plan, re.MULTILINE)
    assert "run: " not in plan
    assert "first prompt of the teacher (recorded)" in plan
    changed = describe_plan(load(finished, ["student.lora.rank=3"]), none)
    assert re.search(r"^encode +reuse", changed, re.MULTILINE)
    assert re.search(r"^train/2 +run: config.lora.rank changed from 2 to 3$", changed, re.MULTILINE)
    assert re.search(r"^train/4 to train/6 +waits for train/2$", changed, re.MULTILINE)
    assert re.search(r"^evaluate/2 to evaluate/6 +waits for train/2", changed, re.MULTILINE)
    assert re.search(r"^export +waits for train/2$", changed, re.MULTILINE)
    assert "would stop here: run small at" in changed
    assert "student.lora.rank: 2 -> 3" in changed
    other = describe_plan(load(finished, ["student.lora.rank=3", "run.name=another"]), none)
    assert re.search(r"^train/2 +run: .* from 2 to 3 \(compared with run small\)$", other, re.MULTILINE)
    assert "would stop" not in other


def test_a_deleted_file_of_an_object_is_built_again(finished: Path) -> None:
    folder = folder_of(finished)
    before = stages(folder)
    key = before["evaluate/4"]["key"]
    next((finished.parent / "out/objects/evaluate" / key).glob("*/scores.jsonl")).unlink()
    run(finished)
    after = stages(folder)
    assert not after["evaluate/4"]["reused"]
    assert after["evaluate/4"]["digest"] == before["evaluate/4"]["digest"]
    assert after["train/6"]["reused"]


def test_a_changed_learning_rate_keeps_the_answers_and_trains_again(finished: Path) -> None:
    folder = run(finished, "student.learning_rate=2e-3", *ONE_PROMPT, new=True)
    found = stages(folder)
    # Of the bundle, the chosen checkpoint decides; it may be the untrained model both times.
    assert {s: e["reused"] for s, e in found.items() if "/" not in s and s != "bundle"} == {
        "split": True,
        "sample": True,
        "reject": True,
        "encode": True,
        "baseline": True,
    }
    assert not found["train/2"]["reused"]
    assert found["evaluate/0"]["reused"]
    log = (folder / "train.log").read_text()
    assert re.search(r"content.learning_rates changed from 0.01 to \S+ \(\w+\) to 0.002 to", log)


def test_more_steps_continue_from_matching_segments(project: Path) -> None:
    """The linear schedule depends on the number of steps, so only a constant one takes earlier segments."""
    constant = (*LABELS_ONLY, "student.schedule=constant")
    run(project, *constant, "student.steps=4", skip=["export"])
    folder = run(project, *constant, "student.steps=6", skip=["export"], new=True)
    assert [stages(folder)[f"train/{step}"]["reused"] for step in (2, 4, 6)] == [True, True, False]


@pytest.mark.parametrize("target", ["label_only", "reason_first"])
def test_other_targets_run(project: Path, target: str) -> None:
    shorter = ("student.steps=2", "evaluation.max_new_tokens=8", *ONE_PROMPT)
    folder = run(project, f"student.target={target}", *shorter)
    test = json.loads((folder / "student_phase/test.json").read_text())
    wrote = sum(row["raw_output"] is not None for row in test)
    assert wrote == (0 if target == "label_only" else len(test))


def test_early_stopping_depends_on_steps(project: Path) -> None:
    stopping = "evaluation.early_stopping={patience: 1, min_delta: 0.9}"
    changes = (*LABELS_ONLY, stopping, "student.steps=6", "evaluation.interval=1")
    folder = run(project, *changes, skip=["export"])
    history = rows(folder / "student_phase/eval_history.jsonl")
    assert [row["step"] for row in history] == [0, 1]


def test_stages_that_are_off_use_the_runs_earlier_results(finished: Path) -> None:
    report = folder_of(finished) / "test_report.md"
    before = report.stat().st_mtime_ns
    run(finished, only=["export"])
    assert report.stat().st_mtime_ns > before


def test_a_missing_input_names_the_run_and_the_file(project: Path) -> None:
    with pytest.raises(MissingInputError, match=r"run small .*data_splits/train.csv"):
        run(project, only=["train"])


def test_another_runs_teacher_is_used_only_by_name_and_recorded(finished: Path) -> None:
    off = ["split", "sample", "reject", "export"]
    folder = run(finished, "run.name=second", "teacher_from=small", "student.steps=2", skip=off)
    source = json.loads((folder / "teacher_source.json").read_text())
    assert source["run"] == "small"
    assert (folder / "teacher_phase/accepted_samples.jsonl").is_file()


def test_refresh_builds_one_stage_again(finished: Path) -> None:
    found = stages(run(finished, refresh=["reject"]))
    assert not found["reject"]["reused"]
    assert found["encode"]["reused"]


def test_publish_false_writes_no_pointer(project: Path) -> None:
    folder = run(project, *LABELS_ONLY, "publish=false")
    assert (folder / "run_summary.json").is_file()
    assert not (project.parent / "out/model").exists()


def test_any_checkpoint_of_a_run_can_be_measured(finished: Path) -> None:
    best = folder_of(finished) / "student_phase/test.json"
    before = best.read_bytes()
    measured = evaluate_checkpoint("small", "step_4")
    assert (measured / "metrics_test.json").is_file()
    assert best.read_bytes() == before
    with pytest.raises(MissingInputError, match="there are best, final, step_0, step_2, step_4, step_6"):
        evaluate_checkpoint("small", "step_5")


def test_a_run_restarted_meanwhile_is_measured_with_its_new_config(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def waited(store: Store, name: str, what: str) -> Iterator[None]:
        RunView(store, "small").write(CONFIG, render(load(finished, ["evaluation.interval=3"])))
        yield

    monkeypatch.setattr(Store, "lease", waited)
    with reopened("out", "small", Runner) as run:
        assert run.config.evaluation.interval == 3


def test_a_run_without_accepted_answers_stops_after_writing_the_reasons(project: Path) -> None:
    answers = project.parent / "answers.jsonl"
    flipped = [json.loads(line) for line in answers.read_text().splitlines()]
    answers.write_text("".join(json.dumps({**a, "label": 1 - a["label"]}) + "\n" for a in flipped))
    with pytest.raises(StageError, match="label_mismatch"):
        run(project)
    assert (project.parent / "out/runs/small/teacher_phase/rejected_samples.jsonl").is_file()


def test_a_new_run_is_not_compared_with_another_run_of_the_root(finished: Path) -> None:
    """A difference is logged only against the run's own record."""
    log = finished.parent / "out/runs/other/train.log"
    run(finished, "run.name=other", "seed=8", only=["split"])
    assert "split: run: not cached" in log.read_text()
    assert " changed from " not in log.read_text()
    run(finished, "run.name=other", "seed=9", only=["split"], new=True)
    assert "changed from 8 to 9" in log.read_text()
