"""Runs of a config in this process, without Prefect, and their results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from core.config.loading import load
from core.errors import ConfigError, UserError
from core.pipeline.run import run
from core.stage import STAGES
from tests.pipeline.running import LABELS_ONLY
from tests.small_project import REPO


@pytest.mark.integration
def test_a_run_returns_its_result_and_a_second_one_reuses_every_stage(project: Path) -> None:
    config = load(project, list(LABELS_ONLY))
    result = run(config)
    assert result is not None
    folder = project.parent / "out/runs/small"
    assert result.run_dir == "runs/small"
    assert result.best_step == json.loads((folder / "run_summary.json").read_text())["best_step"]
    assert (folder / "report.html").is_file()
    assert (project.parent / "out/model/latest.json").is_file()
    assert run(config.config) == result
    record = json.loads((folder / "stages.json").read_text())
    assert [slot for slot, entry in record.items() if not entry["reused"]] == []


def test_stages_can_be_switched_off(project: Path) -> None:
    assert run(load(project, list(LABELS_ONLY)), only=["split"]) is None
    assert (project.parent / "out/runs/small/data_splits/test.csv").is_file()
    with pytest.raises(UserError, match="unknown stage"):
        run(load(project, list(LABELS_ONLY)), only=["splitt"])


def test_a_config_without_a_name_is_rejected(project: Path) -> None:
    config = load(project, list(LABELS_ONLY)).config
    nameless = config.model_copy(update={"run": config.run.model_copy(update={"name": None})})
    with pytest.raises(ConfigError, match=r"run\.name is missing"):
        run(nameless)


def test_running_and_planning_import_neither_prefect_nor_torch() -> None:
    code = (
        "import sys, core.pipeline.run, understudy; understudy.run; "
        "print({'prefect', 'torch'} & sys.modules.keys())"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_every_stage_names_a_switch_of_the_config_or_is_always_on() -> None:
    from core.pipeline import distillation, reinforcement  # noqa: F401  # they declare all stages
    from core.pipeline.runners import SWITCHES

    assert {stage.switch for stage in STAGES.values()} - {None} == set(SWITCHES)
