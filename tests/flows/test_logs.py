"""Log lines: the same in the run's train.log and in Prefect, and JSON objects where machines read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.flows.running import distill, environment, run

pytestmark = pytest.mark.usefixtures("prefect_server")

LINE = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (?P<level>[A-Z]+) (?P<logger>[\w.]+): (?P<message>.*)")


def ours(name: str) -> bool:
    return name.split(".")[0] in ("core", "tasks", "flows")


def in_prefect() -> list[str]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        latest = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
        assert latest.name == "logged: texts.csv, tiny-model0"
        of_it = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[latest.id]))
        return [log.message for log in client.read_logs(log_filter=of_it, limit=200) if ours(log.name)]


def command(config: Path, override: str) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-m", "flows.cli", "run", str(config), "--set", override]
    env = {**environment(), "UNDERSTUDY_LOG_FORMAT": "json"}
    return subprocess.run(run, env=env, capture_output=True, text=True, check=False)


def test_train_log_and_prefect_have_the_same_lines(project: Path) -> None:
    folder = run(project, "run.name=logged")
    text = (folder / "train.log").read_text()
    written = [m["message"] for m in map(LINE.fullmatch, text.splitlines()) if m]
    assert "evaluate step 6 on val: run: not cached" in written
    until = time.monotonic() + 30
    while sorted(in_prefect()) != sorted(written) and time.monotonic() < until:
        time.sleep(0.5)  # they are sent in batches
    assert sorted(in_prefect()) == sorted(written)


def test_a_new_run_is_not_compared_with_another_run_of_the_root(finished: Path) -> None:
    """TER3: a difference is logged only against the run's own record."""
    log = finished.parent / "out/runs/other/train.log"
    distill(finished, "run.name=other", "seed=8", only=("split",))
    assert "split: run: not cached" in log.read_text()
    assert " changed from " not in log.read_text()
    distill(finished, "run.name=other", "seed=9", only=("split",), new=True)
    assert "changed from 8 to 9" in log.read_text()


def test_with_json_every_line_on_stderr_is_an_object_mistakes_too(finished: Path) -> None:
    done = command(finished, "run.log_level=INFO")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all(set(line) == {"time", "level", "logger", "message"} for line in lines)
    assert any(line["message"].startswith("evaluate step 2 on val: ") for line in lines)

    wrong = command(finished, "student.steps=x")
    assert wrong.returncode == 2
    said = [json.loads(line) for line in wrong.stderr.splitlines()]
    assert [line["level"] for line in said] == ["ERROR"]
    assert "student.steps" in said[0]["message"]
