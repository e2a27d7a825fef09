"""A run's trackers receive what its files contain, and one that fails changes nothing in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.running import ONE_PROMPT, run

pytestmark = pytest.mark.integration


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_mlflow_has_the_curves_once_though_another_tracker_fails(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="needs the extra: mlflow")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(project.parent))  # where a key may lie
    uri = f"sqlite:///{project.parent}/mlflow.db"
    trackers = [f"trackers.mlflow.tracking_uri={uri}", "trackers.wandb={}", "trackers.patience_s=90"]
    changes = (*ONE_PROMPT, "student.steps=4", *trackers)
    folder = run(project, *changes)
    (warning,) = [row for row in (folder / "train.log").read_text().splitlines() if " tracker " in row]
    assert "WARNING core.tracking.trackers: tracker wandb: " in warning
    assert warning.endswith("; the run continues without it")
    run(project, *changes)

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("understudy")
    assert experiment is not None
    (there,) = client.search_runs([experiment.experiment_id])

    def curve(name: str) -> list[tuple[int, float]]:
        return sorted((m.step, m.value) for m in client.get_metric_history(there.info.run_id, name))

    history = lines(folder / "student_phase/train_history.jsonl")
    assert curve("train/trainer_loss") == [(row["step"] + 1, row["loss"]) for row in history]
    assert curve("train/lr") == [(row["step"] + 1, row["learning_rate"]) for row in history]
    evaluations = lines(folder / "student_phase/eval_history.jsonl")
    assert curve("val/macro_f1") == [(row["step"], row["metrics"]["macro_f1"]) for row in evaluations]
    summary = json.loads((folder / "run_summary.json").read_text())
    metrics = there.data.metrics
    assert metrics["bestval_test/accuracy"] == summary["test"]["student"]["accuracy"]
    assert metrics["teacher/accepted_samples"] == summary["teacher_summary"]["accepted_samples"]
    assert metrics["best_step"] == summary["best_step"]
    assert there.data.params["student.learning_rate"] == "0.01"
    assert there.info.status == "FINISHED"
    assert json.loads((folder / "run_state.json").read_text())["state"] == "finished"
