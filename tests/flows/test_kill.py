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

from tests.flows.running import run

pytestmark = pytest.mark.usefixtures("prefect_server")

PATIENCE = 180.0


def started(config: Path, root: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own, with everything it starts in one group."""
    command = [sys.executable, "-m", "flows.distill", str(config), "--set", f"run.root={root}"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.Popen(command, env=env, start_new_session=True, stderr=subprocess.DEVNULL)


def trained(root: Path) -> list[Path]:
    """Manifests of the segments that are finished."""
    return sorted((root / "objects/train").glob("*.json"))


def kill_after_the_first_segment(process: subprocess.Popen[bytes], root: Path) -> None:
    """kill -9 as soon as one segment is safe."""
    until = time.monotonic() + PATIENCE
    while not trained(root):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < until, "no segment was finished in time"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_run_goes_on_from_its_last_segment_to_the_same_end(project: Path) -> None:
    undisturbed = run(project, "run.root=whole")
    root = project.parent / "broken"
    kill_after_the_first_segment(started(project, "broken"), root)
    safe = {p.name: p.stat().st_mtime_ns for p in trained(root)}
    assert len(safe) < 3, "the run was killed too late to show anything"
    assert not (root / "model").exists()

    resumed = run(project, "run.root=broken")
    assert {name: (root / "objects/train" / name).stat().st_mtime_ns for name in safe} == safe
    for name in ("test.json", "train_history.jsonl"):
        assert (resumed / "student_phase" / name).read_bytes() == (
            undisturbed / "student_phase" / name
        ).read_bytes()
    digests = [
        {slot: entry["digest"] for slot, entry in json.loads((run / "stages.json").read_text()).items()}
        for run in (undisturbed, resumed)
    ]
    assert digests[0] == digests[1]
