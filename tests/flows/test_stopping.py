"""Ctrl-C and SIGTERM: the run ends cleanly, says how to go on, and the same command does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.store.objects import Store

pytestmark = pytest.mark.usefixtures("prefect_server")

PATIENCE = 120.0


def started(config: Path) -> subprocess.Popen[str]:
    """The command in a process of its own, against the tests' Prefect server."""
    from prefect.settings import PREFECT_API_URL

    env = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
    }
    command = [sys.executable, "-m", "flows.distill", str(config)]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_a_segment(process: subprocess.Popen[str], root: Path) -> None:
    """Return as soon as one training segment is safe."""
    until = time.monotonic() + PATIENCE
    while not list((root / "objects/train").glob("*.json")):
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < until, "no segment was finished in time"
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_ends_cleanly_says_how_to_go_on_and_goes_on(
    project: Path, number: signal.Signals, code: int
) -> None:
    from flows.distill import distill

    root = project.parent / "out"
    process = started(project)
    wait_for_a_segment(process, root)
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE)

    assert process.returncode == code, said
    assert "Stopped. What is finished is kept: run the same command again to go on." in said
    assert "Traceback" not in said
    assert json.loads((root / "runs/small/run_state.json").read_text())["state"] == "stopped"
    store = Store.at(str(root))
    assert store.backend.list("leases") == []
    named = {p.stem for p in root.glob("objects/*/*.json")}
    assert {p.parent.name for p in root.glob("objects/*/*/*")} <= named, "something half made was left"

    distill(str(project))
    assert json.loads((root / "runs/small/run_state.json").read_text())["state"] == "finished"
