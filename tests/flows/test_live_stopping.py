"""A run that is stopped while a live teacher answers keeps every answer it was given."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.completions.journal import Journal
from core.store import Store
from tests.flows.running import environment
from tests.servers import teacher as endpoint
from tests.servers.teacher import TeacherServer

pytestmark = pytest.mark.usefixtures("prefect_server")

PATIENCE = 120.0


def started(config: Path, server: TeacherServer) -> subprocess.Popen[str]:
    """The command in a process of its own, asking the server."""
    teacher = {
        "kind": "openai",
        "base_url": server.base_url,
        "model": "m",
        "api_key_env": None,
        "prices": None,
        "limits": {"concurrency": 4},
    }
    command = [
        sys.executable,
        "-m",
        "flows.cli",
        "run",
        str(config),
        "--set",
        f"teacher={json.dumps(teacher)}",
    ]
    return subprocess.Popen(
        command, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143)])
def test_a_run_stopped_while_it_asks_keeps_every_answer_and_says_how_to_go_on(
    project: Path, number: signal.Signals, code: int
) -> None:
    with endpoint.serve() as server:
        server.delay(0.5)
        process = started(project, server)
        until = time.monotonic() + PATIENCE
        while server.totals().answered < 8:
            assert process.poll() is None, "the run ended before it could be stopped"
            assert time.monotonic() < until, "nothing was asked in time"
            time.sleep(0.02)
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
        answered = server.totals().answered
    assert process.returncode == code, said
    assert "Stopped. Finished stages are kept, and the same command continues from there." in said
    assert f"To continue: understudy run {project}" in said
    assert "Traceback" not in said
    with Journal.open(Store.at(str(project.parent / "out")), "small") as journal:
        # The last ones may have been under way to us when the run ended.
        assert answered - 4 <= journal.count() <= answered
        assert journal.count() >= 5
