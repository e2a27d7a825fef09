"""After kill -9, the same command gives the result of an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import AnsweringModel
from tests.flows.running import distill, started
from tests.pipeline.running import LABELS_ONLY, REINFORCED, reinforce, run
from tests.small_project import write_project

pytestmark = pytest.mark.usefixtures("prefect_server")

PATIENCE = 180.0


def segments(root: Path, stage: str) -> list[Path]:
    """Manifests of the segments that are finished."""
    return sorted((root / f"objects/{stage}").glob("*.json"))


def kill_after_the_first_segment(process: subprocess.Popen[str], root: Path, stage: str) -> dict[Path, int]:
    """kill -9 after the first finished segment; return the finished files with their times."""
    until = time.monotonic() + PATIENCE
    while not segments(root, stage):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < until, "no segment was finished in time"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    safe = {p: p.stat().st_mtime_ns for p in segments(root, stage)}
    assert len(safe) < 3, "the run was killed too late to show anything"
    assert not (root / "model").exists()
    return safe


def digests(run: Path) -> dict[str, str]:
    """The digests of a run's objects by slot."""
    stages = json.loads((run / "stages.json").read_text())
    return {slot: entry["digest"] for slot, entry in stages.items()}


def options(*changes: str) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


def test_a_killed_run_ends_as_an_undisturbed_run_without_prefect(
    project: Path,
) -> None:
    changes = (*LABELS_ONLY, "student.steps=6")
    broken = (*changes, "run.root=broken")
    process = started("run", str(project), *options(*broken))
    safe = kill_after_the_first_segment(process, project.parent / "broken", "train")
    resumed = Path(distill(project, *broken)).parent
    assert {p: p.stat().st_mtime_ns for p in safe} == safe

    undisturbed = run(project, *changes, "run.root=whole")
    for name in ("test.json", "train_history.jsonl"):
        assert (resumed / "student_phase" / name).read_bytes() == (
            undisturbed / "student_phase" / name
        ).read_bytes()
    assert digests(undisturbed) == digests(resumed)


@pytest.mark.slow
def test_a_killed_reinforcement_ends_as_an_undisturbed_one(
    tmp_path: Path, answering_model: AnsweringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = write_project(tmp_path, answering_model("label_only"))
    settings = (*REINFORCED, "reinforce.interval=2")
    undisturbed = reinforce(config, *settings, "run.root=whole", start="base")
    process = started("reinforce", str(config), "--from", "base", *options(*settings, "run.root=broken"))
    safe = kill_after_the_first_segment(process, tmp_path / "broken", "reinforce")

    resumed = reinforce(config, *settings, "run.root=broken", start="base")
    assert {p: p.stat().st_mtime_ns for p in safe} == safe
    assert (resumed / "test.json").read_bytes() == (undisturbed / "test.json").read_bytes()
    assert digests(undisturbed.parent) == digests(resumed.parent)
