"""The other flows through Prefect: what each returns and shows on Prefect's pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefect.artifacts import Artifact

from core.config.loading import load
from core.errors import StageError
from tests.conftest import AnsweringModel
from tests.flows.running import distill, understudy
from tests.pipeline.running import LABELS_ONLY, REINFORCED, folder_of
from tests.small_project import write_project

pytestmark = pytest.mark.usefixtures("prefect_server")


def shown(key: str) -> Any:
    found: Any = Artifact.get(key)
    return found.data


def test_the_baseline_flow_shows_its_report(finished: Path) -> None:
    from flows.baseline import baseline

    report = Path(baseline(load(finished).as_parameter()))
    assert report == folder_of(finished) / "baseline_phase/baseline_report.md"
    assert shown("baseline-report") == report.read_text()


def test_the_evaluate_flow_returns_the_folder_with_the_metrics(finished: Path) -> None:
    from flows.distill import evaluate_checkpoint

    measured = Path(evaluate_checkpoint("small", "out", "step_4"))
    assert (measured / "metrics_test.json").is_file()


def test_the_reinforce_flow_shows_its_report(
    tmp_path: Path, answering_model: AnsweringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.distill import reinforce

    monkeypatch.chdir(tmp_path)
    config = write_project(tmp_path, answering_model("label_only"))
    changes = [*REINFORCED, "reinforce.steps=1", "reinforce.interval=1", "export.splits=[test]"]
    page = Path(reinforce(load(config, changes).as_parameter(), start="base"))
    assert page == folder_of(config) / "rl_phase/report.html"
    assert shown("rl-report") == (page.parent / "rl_report.md").read_text()


def test_the_sweep_flow_runs_each_arm_and_then_fails_if_one_did(project: Path) -> None:
    from flows.distill import sweep

    file = project.parent / "sweep.yaml"
    arms = {"ends": ["student.steps=2"], "fails": ["student.model=elsewhere"]}
    file.write_text(json.dumps({"base": "small.yaml", "arms": arms}))
    with pytest.raises(StageError, match=r"1 of 2 arms did not finish.*\narm fails: .*elsewhere"):
        sweep(str(file), list(LABELS_ONLY))
    folder = project.parent / "out/sweeps/sweep"
    assert json.loads((folder / "sweep.json").read_text())["finished"] == ["ends"]
    assert shown("sweep-report") == (folder / "sweep_report.md").read_text()


def test_a_run_that_fails_shows_why_and_how_to_continue(project: Path) -> None:
    state = distill(project, only=["train"], return_state=True)
    assert state.is_failed()
    text = shown("what-happened")
    assert "train.csv" in text
    assert f"prefect flow-run retry {state.state_details.flow_run_id} --entrypoint" in text


def test_the_command_exits_with_0_after_building_only_the_split(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert understudy("run", project, "--only", "train") == 2
    error = capsys.readouterr().err
    assert "data_splits/train.csv" in error
    assert "Traceback" not in error
    assert understudy("run", project, "--only", "split") == 0
    assert str(folder_of(project)) in capsys.readouterr().out
    assert (folder_of(project) / "data_splits/test.csv").is_file()
