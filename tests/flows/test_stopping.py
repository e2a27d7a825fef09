"""Ctrl-C, SIGTERM and failures: the run ends cleanly, and continues from what is finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import task, task_engine
from prefect.artifacts import Artifact

from core import durable
from core.completions.journal import Journal
from core.store import Store
from flows.runtime import signals_raised
from tests.flows.running import distill, environment, started
from tests.pipeline.running import LABELS_ONLY, folder_of
from tests.pipeline.running import run as run_inline
from tests.servers import teacher as endpoint

pytestmark = pytest.mark.usefixtures("prefect_server")

PATIENCE = 120.0
CHANGES = (*LABELS_ONLY, "student.steps=4")
SET = [part for change in CHANGES for part in ("--set", change)]


def wait_until(reached: Callable[[], object], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + PATIENCE
    while not reached():
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < until, "the run did not come so far in time"
        time.sleep(0.01)


def a_segment_is_recorded(root: Path) -> Callable[[], object]:
    record = root / "runs/small/stages.json"
    return lambda: record.is_file() and "train/2" in record.read_text()


def state(root: Path) -> str:
    return str(json.loads((root / "runs/small/run_state.json").read_text())["state"])


def assert_stopped(process: subprocess.Popen[str], code: int, root: Path) -> str:
    """Check the process's exit code and that it leaves no lock or unfinished file; return its messages."""
    _, messages = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, messages
    assert "Stopped. Finished stages are kept, and the same command continues from there." in messages
    assert "To continue: understudy run " in messages
    assert "Traceback" not in messages
    assert state(root) == "stopped"
    assert Store.at(str(root)).backend.list("leases") == []
    named = {p.stem for p in root.glob("objects/*/*.json")}
    assert {p.parent.name for p in root.glob("objects/*/*/*")} <= named, "something half made was left"
    return messages


def test_ctrl_c_in_a_terminal_ends_the_run_before_its_own_server(project: Path) -> None:
    """A terminal sends it to the whole process group, which includes Prefect's temporary server."""
    root = project.parent / "out"
    env = {k: v for k, v in environment().items() if k != "PREFECT_API_URL"}
    process = started("run", str(project), *SET, env=env)
    wait_until(a_segment_is_recorded(root), process)
    sent = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    messages = assert_stopped(process, 130, root)
    assert "Errno 111" not in messages
    assert time.monotonic() - sent < 60, "it waited for a server that was gone"

    folder = run_inline(project, *CHANGES)
    assert state(root) == "finished"
    assert json.loads((folder / "stages.json").read_text())["train/2"]["reused"]


def test_a_signal_while_prefect_creates_a_task_run_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a task run, Prefect raises ValueError where it would record that it crashed."""

    def interrupted(**arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(task_engine, "_create_task_run_locally", interrupted)
    with pytest.raises(ValueError, match="Task run is not set"):
        task(lambda: None)()
    with pytest.raises(KeyboardInterrupt), signals_raised():
        task(lambda: None)()


def test_other_errors_of_a_task_are_raised_as_they_are() -> None:
    error = ValueError("mine")
    error.__context__ = KeyError("first")
    with pytest.raises(ValueError, match="mine") as e, signals_raised():
        raise error
    assert isinstance(e.value.__context__, KeyError)


def test_a_run_stopped_while_sampling_keeps_every_answer(project: Path) -> None:
    root = project.parent / "out"
    with endpoint.serve() as server:
        server.delay(0.5)
        teacher = {
            "kind": "openai",
            "base_url": server.base_url,
            "model": "m",
            "api_key_env": None,
            "prices": None,
            "limits": {"concurrency": 4},
        }
        process = started("run", str(project), "--set", f"teacher={json.dumps(teacher)}")
        wait_until(lambda: server.totals().answered >= 8, process)
        process.send_signal(signal.SIGTERM)
        assert_stopped(process, 143, root)
        answered = server.totals().answered
    with Journal.open(Store.at(str(root)), "small") as journal:
        # The process may have ended before it received the last answers.
        assert answered - 4 <= journal.count() <= answered
        assert journal.count() >= 5


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_stopped_during_training_continues(project: Path, number: signal.Signals, code: int) -> None:
    root = project.parent / "out"
    process = started("run", str(project), *SET)
    wait_until(a_segment_is_recorded(root), process)
    process.send_signal(number)
    assert_stopped(process, code, root)
    distill(project, *CHANGES)
    assert state(root) == "finished"


@pytest.mark.slow
def test_a_failed_run_continues_on_prefects_retry_command(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project.parent / "out"

    def fail(name: str, about: str) -> None:
        if (name, about) == (durable.STATE_SAVED, "6"):
            raise RuntimeError("the machine had a bad day")

    monkeypatch.setattr(durable, "on_failpoint", fail)
    failed = distill(project, return_state=True)
    assert failed.is_failed()
    shown: Any = Artifact.get("what-happened")
    assert "the machine had a bad day" in shown.data
    assert f"prefect flow-run retry {failed.state_details.flow_run_id} --entrypoint" in shown.data
    safe = {p: p.stat().st_mtime_ns for p in root.glob("objects/*/*.json")}
    assert {p.parent.name for p in safe} == {"split", "sample", "reject", "encode", "train", "evaluate"}
    assert state(root) == "failed"

    command = [sys.executable, "-m", "prefect", "--no-prompt", "flow-run", "retry"]
    which = [str(failed.state_details.flow_run_id), "--entrypoint", "flows.distill.distill"]
    done = subprocess.run(
        [*command, *which], env=environment(), capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (root / "runs/small/test_report.md").is_file()
    assert {p: p.stat().st_mtime_ns for p in safe} == safe
    record = json.loads((folder_of(project) / "stages.json").read_text())
    assert {slot for slot, entry in record.items() if entry["reused"]} >= {"sample", "train/2", "train/4"}
    assert not record["train/6"]["reused"]
