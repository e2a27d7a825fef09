"""`health` tells a service that answers from one that does not, and finds out what runs."""

from __future__ import annotations

import runpy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.docker.reading import DOCKER

HEALTH = DOCKER / "health.py"
SERVER = ["/usr/bin/python3.11", "/opt/understudy/bin/prefect", "server", "start", "--host", "0.0.0.0"]
WORKER = ["python3.11", "/opt/understudy/bin/prefect", "worker", "start", "--pool=understudy"]


class Answers(BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.removeprefix("/")))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def health(*addresses: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HEALTH), *addresses]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_well_when_all_answer(address: str) -> None:
    assert health(f"{address}/200", f"{address}/200").returncode == 0


@pytest.mark.parametrize("status", [204, 401, 404, 503])
def test_any_other_answer_is_a_reason(status: int, address: str) -> None:
    found = health(f"{address}/200", f"{address}/{status}")
    assert found.returncode == 1
    assert f"{address}/{status}" in found.stderr
    assert str(status) in found.stderr


def test_no_answer_is_a_reason(address: str) -> None:
    found = health("http://127.0.0.1:1/200")
    assert found.returncode == 1
    assert "refused" in found.stderr


@pytest.fixture
def processes(tmp_path: Path) -> Callable[..., list[str]]:
    """What is served where these processes run."""

    def found(*commands: list[str]) -> list[str]:
        for number, command in enumerate(commands, start=1):
            (tmp_path / str(number)).mkdir()
            (tmp_path / str(number) / "cmdline").write_text("\0".join(command) + "\0")
        served: list[str] = runpy.run_path(str(HEALTH))["served"](tmp_path)
        return served

    return found


def test_the_server_and_a_worker_that_tells_are_found(
    processes: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_WORKER_WEBSERVER_PORT", "9000")
    found = processes(["/sbin/docker-init", "--", *SERVER], SERVER, [*WORKER, "--with-healthcheck"])
    assert found == ["http://127.0.0.1:4200/api/health", "http://127.0.0.1:9000/health"]


def test_a_worker_that_does_not_tell_and_the_command_line_are_not_asked(
    processes: Callable[..., list[str]],
) -> None:
    assert processes(WORKER, ["python3.11", "/opt/understudy/bin/understudy", "run", "x.yaml"], []) == []
