"""Ctrl-C, SIGTERM and failures: the run ends cleanly, and goes on from what is finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from prefect.artifacts import Artifact

from core import durable
from core.store import Store
from tests.flows.running import distill, environment

pytestmark = pytest.mark.usefixtures("prefect_server")

PATIENCE = 120.0


def started(config: Path) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "flows.cli", "run", str(config)]
    return subprocess.Popen(
        command, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for_a_segment(process: subprocess.Popen[str], root: Path) -> None:
    """Return as soon as one training segment is safe."""
    until = time.monotonic() + PATIENCE
    while not list((root / "objects/train").glob("*.json")):
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < until, "no segment was finished in time"
        time.sleep(0.01)


def test_ctrl_c_in_a_terminal_ends_the_run_before_its_own_server(project: Path) -> None:
    """A terminal sends it to the whole group of processes, Prefect's temporary server among them."""
    env = {k: v for k, v in environment().items() if k != "PREFECT_API_URL"}
    command = [sys.executable, "-m", "flows.cli", "run", str(project)]
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for_a_segment(process, project.parent / "out")
    sent = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    assert "Stopped. Finished stages are kept" in said
    assert "Traceback" not in said
    assert "Errno 111" not in said
    assert time.monotonic() - sent < 60, "it waited for a server that was gone"


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_a_stopped_run_ends_cleanly_says_how_to_go_on_and_goes_on(
    project: Path, number: signal.Signals, code: int
) -> None:
    root = project.parent / "out"
    process = started(project)
    wait_for_a_segment(process, root)
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE)

    assert process.returncode == code, said
    assert "Stopped. Finished stages are kept, and the same command continues from there." in said
    assert f"To continue: understudy run {project}" in said
    assert "Traceback" not in said
    assert json.loads((root / "runs/small/run_state.json").read_text())["state"] == "stopped"
    store = Store.at(str(root))
    assert store.backend.list("leases") == []
    named = {p.stem for p in root.glob("objects/*/*.json")}
    assert {p.parent.name for p in root.glob("objects/*/*/*")} <= named, "something half made was left"

    distill(project)
    assert json.loads((root / "runs/small/run_state.json").read_text())["state"] == "finished"


@pytest.mark.slow
def test_a_failed_run_goes_on_when_prefects_command_line_retries_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project.parent / "out"

    def fail(name: str, about: str) -> None:
        if (name, about) == (durable.STATE_SAVED, "6"):
            raise RuntimeError("the machine had a bad day")

    monkeypatch.setattr(durable, "on_failpoint", fail)
    state = distill(project, return_state=True)
    assert state.is_failed()
    shown: Any = Artifact.get("what-happened")
    assert "the machine had a bad day" in shown.data
    assert f"prefect flow-run retry {state.state_details.flow_run_id} --entrypoint" in shown.data
    safe = {p: p.stat().st_mtime_ns for p in root.glob("objects/*/*.json")}
    assert {p.parent.name for p in safe} == {"split", "sample", "reject", "encode", "train", "evaluate"}
    assert json.loads((root / "runs/small/run_state.json").read_text())["state"] == "failed"

    command = [sys.executable, "-m", "prefect", "--no-prompt", "flow-run", "retry"]
    which = [str(state.state_details.flow_run_id), "--entrypoint", "flows.distill.distill"]
    done = subprocess.run(
        [*command, *which], env=environment(), capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (root / "runs/small/test_report.md").is_file()
    assert {p: p.stat().st_mtime_ns for p in safe} == safe
    record = json.loads((root / "runs/small/stages.json").read_text())
    assert {slot for slot, entry in record.items() if entry["reused"]} >= {"sample", "train/2", "train/4"}
    assert not record["train/6"]["reused"]
