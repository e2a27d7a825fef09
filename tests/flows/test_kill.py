"""kill -9 in the middle of a run, then the same command: the result of an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import AnsweringModel
from tests.flows.running import REINFORCED, environment, reinforce, run
from tests.small_project import write_project

pytestmark = pytest.mark.usefixtures("prefect_server")

PATIENCE = 180.0


def started(*command: str) -> subprocess.Popen[bytes]:
    """`understudy` in a process of its own, with everything it starts in one group."""
    whole = [sys.executable, "-c", "from flows.cli import main; main()", *command]
    return subprocess.Popen(whole, env=environment(), start_new_session=True, stderr=subprocess.DEVNULL)


def segments(root: Path, stage: str) -> list[Path]:
    """Manifests of the segments that are finished."""
    return sorted((root / f"objects/{stage}").glob("*.json"))


def kill_after_the_first_segment(process: subprocess.Popen[bytes], root: Path, stage: str) -> dict[Path, int]:
    """kill -9 as soon as one segment is safe; what is safe, with the times it was written."""
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
    """What a run is made of, by slot."""
    stages = json.loads((run / "stages.json").read_text())
    return {slot: entry["digest"] for slot, entry in stages.items()}


def test_a_killed_run_goes_on_from_its_last_segment_to_the_same_end(project: Path) -> None:
    undisturbed = run(project, "run.root=whole")
    process = started("run", str(project), "--set", "run.root=broken")
    safe = kill_after_the_first_segment(process, project.parent / "broken", "train")

    resumed = run(project, "run.root=broken")
    assert {p: p.stat().st_mtime_ns for p in safe} == safe
    for name in ("test.json", "train_history.jsonl"):
        assert (resumed / "student_phase" / name).read_bytes() == (
            undisturbed / "student_phase" / name
        ).read_bytes()
    assert digests(undisturbed) == digests(resumed)


@pytest.mark.slow
def test_a_killed_reinforcement_goes_on_from_its_last_segment_to_the_same_end(
    tmp_path: Path, answering_model: AnsweringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = write_project(tmp_path, answering_model("label_only"))
    settings = (*REINFORCED, "reinforce.interval=2")
    undisturbed = reinforce(config, *settings, "run.root=whole", start="base")
    changes = [part for change in (*settings, "run.root=broken") for part in ("--set", change)]
    process = started("reinforce", str(config), "--from", "base", *changes)
    safe = kill_after_the_first_segment(process, tmp_path / "broken", "reinforce")

    resumed = reinforce(config, *settings, "run.root=broken", start="base")
    assert {p: p.stat().st_mtime_ns for p in safe} == safe
    assert (resumed / "test.json").read_bytes() == (undisturbed / "test.json").read_bytes()
    assert digests(undisturbed.parent) == digests(resumed.parent)
