"""Trackers receive the metrics of a run once; a failing tracker causes one warning."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.config import Config
from core.errors import Failures
from core.results import Ledger, RunResult, StudentLedger
from core.store import RunView, Store
from core.store.run_view import SUMMARY
from core.student.train_stage import TrainStep
from core.tracking.child import main
from core.tracking.trackers import FILE, TrackerProcess, evaluation_point, tracked, training_points
from tests.core.export.making import metrics, with_values

pytestmark = pytest.mark.integration

HISTORY = [TrainStep(step=i, loss=2.0 - i, learning_rate=1e-3, grad_norm=None, tokens=7) for i in (0, 1)]
EVALUATION = evaluation_point(2, with_values(metrics(90), macro_f1=0.8, f1=0.7, auroc=None))
RESULT = RunResult(
    run_dir="runs/small",
    best_step=2,
    report_path="runs/small/test_report.md",
    selection_metric="macro_f1",
    best_val_selection_metric_value=0.8,
    test={"student": with_values(metrics(90), accuracy=0.85)},
    ledger=Ledger(student=StudentLedger(trained_tokens=14), seconds={"train": 1.5}),
)


@pytest.fixture
def view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunView:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    return RunView(Store.open(str(tmp_path / "out")), "small")


def config(**trackers: Any) -> Config:
    return Config.model_validate(
        {
            "data": {"path": "texts.csv"},
            "teacher": {"answers": "answers.jsonl"},
            "trackers": {"patience_s": 90.0, **trackers},
        }
    )


def follow(config: Config, view: RunView) -> None:
    """Track a whole run of two steps with one evaluation."""
    with tracked(config, view) as trackers:
        trackers.send(training_points(HISTORY))
        trackers.send([EVALUATION])
        view.write_json(SUMMARY, RESULT.to_json())


def fail_after_a_step(config: Config, view: RunView) -> None:
    with tracked(config, view) as trackers:
        trackers.send(training_points(HISTORY[:1]))
        raise ValueError("failed in a step")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Warnings of this project; threads of other libraries may warn at any time."""
    ours = [r for r in caplog.records if r.name.startswith("core.")]
    return [r.getMessage() for r in ours if r.levelno >= logging.WARNING]


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def mlflow_run(uri: str) -> tuple[Any, Any]:
    """The client and the only run."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("understudy")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def test_mlflow_receives_config_and_metrics_and_a_resumed_run_continues(
    view: RunView, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("mlflow", reason="needs the extra: mlflow")
    to = config(mlflow={"tracking_uri": sqlite(tmp_path)})
    with pytest.raises(ValueError, match="failed in a step"):
        fail_after_a_step(to, view)
    _, run = mlflow_run(sqlite(tmp_path))
    assert run.info.status == "FAILED"
    follow(to, view)

    client, run = mlflow_run(sqlite(tmp_path))
    assert warnings(caplog) == []
    assert run.info.run_name == "small"
    assert run.info.status == "FINISHED"
    assert run.data.params["student.learning_rate"] == "0.0002"
    losses = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "train/trainer_loss")]
    assert losses == [(1, 2.0), (2, 1.0)]
    metrics = run.data.metrics
    assert (metrics["val/macro_f1"], metrics["val/f1"]) == (0.8, 0.7)
    assert "val/auroc" not in metrics, "undefined metrics are not sent"
    assert metrics["bestval_test/accuracy"] == 0.85
    assert metrics["selection/best_val_metric"] == 0.8
    assert metrics["best_step"] == 2
    assert metrics["cost/trained_tokens"] == 14
    assert run.data.tags["selection/metric_name"] == "macro_f1"
    assert run.data.tags["report"] == "runs/small/test_report.md"


def sent_to_wandb(folder: Path) -> list[Any]:
    """The records of the offline run, from its LevelDB log: blocks of 32 kB, headers of 7 bytes."""
    from wandb.proto import wandb_internal_pb2 as wandb

    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    data, at, found, whole = path.read_bytes(), 7, [], b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb.Record()
            record.ParseFromString(whole)
            found.append(record)
            whole = b""
    return found


def test_wandb_receives_config_and_metrics_offline(
    view: RunView, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("wandb", reason="needs the extra: wandb")
    follow(config(wandb={"project": "mine", "mode": "offline"}), view)
    assert warnings(caplog) == []
    records = sent_to_wandb(tmp_path)
    run = next(r.run for r in records if r.HasField("run"))
    assert (run.project, run.display_name) == ("mine", "small")
    assert run.run_id == json.loads(view.read(FILE) or "")["id"]
    assert {c.key: c.value_json for c in run.config.update}["student.learning_rate"] == "0.0002"

    rows = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in r.history.item}
        for r in records
        if r.HasField("history")
    ]
    assert [(row["step"], row["train/trainer_loss"]) for row in rows if "train/trainer_loss" in row] == [
        (1, 2.0),
        (2, 1.0),
    ]
    assert [(row["step"], row["val/macro_f1"]) for row in rows if "val/macro_f1" in row] == [(2, 0.8)]
    summary = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for r in records
        if r.HasField("summary")
        for item in r.summary.update
    }
    assert summary["bestval_test/accuracy"] == 0.85
    assert summary["selection/metric_name"] == "macro_f1"


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_hanging_tracker_is_one_warning_and_delays_the_run_by_patience_at_most(
    view: RunView, silent: str, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("mlflow", reason="needs the extra: mlflow")
    began = time.monotonic()
    failures = Failures()
    settings = config(mlflow={"tracking_uri": silent}, patience_s=0.5)
    with tracked(settings, view, failures) as trackers:
        (tracker,) = trackers.processes
        trackers.send(training_points(HISTORY))
    took = time.monotonic() - began
    os.killpg(tracker.pid, signal.SIGKILL)
    assert took < 3.0
    (warning,) = warnings(caplog)
    assert warning.startswith("tracker mlflow: no answer within 0.5 s")
    (failure,) = failures
    assert (failure.part, failure.error) == ("Tracker: mlflow", "TimeoutError")
    assert "0.5 s" in failure.message


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Config]:
    """Install a module `wandb` with the given code, and return a config that uses it."""

    def install(code: str) -> Config:
        (tmp_path / "wandb.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
        return config(wandb={"project": "p", "mode": "offline"})

    return install


def test_a_record_that_cannot_be_written_does_not_stop_the_run(
    view: RunView, tmp_path: Path, library: Callable[[str], Config]
) -> None:
    (tmp_path / "out/runs/small" / FILE / "in the way").mkdir(parents=True)
    failures = Failures()
    with tracked(library("raise OSError('no wandb')"), view, failures) as trackers:
        trackers.send(training_points(HISTORY))
    assert [f.part for f in failures] == [f"Tracker: {FILE}", "Tracker: wandb"]
    assert failures.to_json()[1]["error"] == "ChildProcessError"


def test_an_error_of_a_tracker_in_the_run_is_recorded(
    view: RunView, monkeypatch: pytest.MonkeyPatch, library: Callable[[str], Config]
) -> None:
    def broken(self: TrackerProcess, points: object) -> None:
        raise TypeError("not JSON")

    monkeypatch.setattr(TrackerProcess, "send", broken)
    failures = Failures()
    with tracked(library("raise OSError('no wandb')"), view, failures) as trackers:
        trackers.send(training_points(HISTORY))
        assert [(f.part, f.error) for f in failures] == [("Tracker: wandb", "TypeError")]


def test_a_failing_tracker_is_one_warning_with_its_message(
    view: RunView, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("mlflow", reason="needs the extra: mlflow")
    follow(config(mlflow={"tracking_uri": "nonsense://somewhere"}), view)
    (said,) = warnings(caplog)
    assert said.startswith("tracker mlflow: ")
    assert "nonsense" in said
    assert json.loads(view.read(FILE) or "")["told"] == {}, "so that the next try sends all"


def test_a_tracker_that_exits_early_without_an_error_is_one_warning(
    view: RunView, library: Callable[[str], Config], caplog: pytest.LogCaptureFixture
) -> None:
    follow(library("import os\nos._exit(0)\n"), view)
    (warning,) = warnings(caplog)
    assert "its process ended unexpectedly (exit code 0)" in warning


def test_the_error_for_a_missing_library_has_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as the import system marks missing modules
    settings = {"project": "p", "entity": None, "mode": "offline"}
    first = {"tracker": "wandb", "settings": settings, "run": {"id": "1", "name": "r", "config": {}}}
    (tmp_path / "records.jsonl").write_text(json.dumps(first) + "\n")
    assert main(tmp_path) == 1
    remedy = "pip install 'understudy-distill[wandb]'"
    assert (tmp_path / "error.txt").read_text() == f"it is not installed: {remedy}"
    assert signal.alarm(0) == 0, "no alarm is left behind"


def test_without_trackers_nothing_is_started_or_written(view: RunView) -> None:
    with tracked(config(), view) as trackers:
        assert not trackers.processes
        trackers.send(training_points(HISTORY))
    assert view.read(FILE) is None
