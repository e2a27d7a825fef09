"""A real Prefect server, on a free loopback port, with a database in a folder of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
STARTS_WITHIN_S = 120.0
ENDS_WITHIN_S = 15.0
TRIES = 10


@dataclass(frozen=True, slots=True)
class PrefectServer:
    """Where a server listens, and the home of the processes that talk to it."""

    url: str
    home: Path

    def environment(self, **more: str) -> dict[str, str]:
        """What a process needs to find this server and our packages, and nothing of this user's own."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        return {
            **inherited,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(REPO),
            "PREFECT_API_URL": self.url,
            **quiet(self.home),
            **more,
        }

    def prefect(self, *arguments: str, cwd: Path = REPO, **more: str) -> str:
        """What Prefect's command line says. Raises AssertionError where it fails."""
        return self.call([sys.executable, "-m", "prefect", "--no-prompt", *arguments], cwd, **more)

    def prefect_here(self, *arguments: str) -> str:
        """The same in this process, which has imported what each command would import for seconds."""
        from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
        from prefect.testing.cli import invoke_and_assert

        with chdir(REPO), temporary_settings({PREFECT_API_URL: self.url, PREFECT_HOME: self.home}):
            return invoke_and_assert(["--no-prompt", *arguments]).stdout

    def understudy(self, *arguments: str, cwd: Path = REPO, **more: str) -> str:
        """What our command line says. Raises AssertionError where it fails."""
        code = "from flows.cli import main; main()"
        return self.call([sys.executable, "-c", code, *arguments], cwd, **more)

    def call(self, command: list[str], cwd: Path, **more: str) -> str:
        """Run a command to its end; its output."""
        done = subprocess.run(
            command, cwd=cwd, env=self.environment(**more), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def post(self, path: str, **body: Any) -> Any:
        """The server's answer to a request with a JSON body.

        Asked again on a 503, which is SQLite being written by somebody else; Prefect's clients do so too.
        """
        import httpx

        for _ in range(TRIES):
            response = httpx.post(f"{self.url}/{path}", json=body, timeout=60)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(1)
        response.raise_for_status()
        return response.json()


def quiet(home: Path) -> dict[str, str]:
    """A home of one's own, and nothing reported to anybody."""
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def serve(folder: Path, **settings: str) -> Iterator[PrefectServer]:
    """Serve from an empty folder, on SQLite unless `settings` name another database.

    Raises RuntimeError, with the end of the server's log, where it is not ready in time.
    """
    with socket.create_server((LOOPBACK, 0)) as s:
        port = s.getsockname()[1]
    server = PrefectServer(f"http://{LOOPBACK}:{port}/api", folder / "home")
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", LOOPBACK, "--port", str(port)]
    # Its pages ask the port of the settings otherwise, whatever --port says.
    of_pages = {"PREFECT_SERVER_UI_API_URL": server.url}
    given = server.environment(**of_pages, **settings)
    environment = {k: v for k, v in given.items() if k != "PREFECT_API_URL"}
    with started(command, folder, environment, folder / "server.log") as process:
        wait(server, process, folder / "server.log")
        yield server


@contextmanager
def started(
    command: list[str], cwd: Path, environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that lasts as long as the block, in a group of its own; then nothing of it is left."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, then kill what is left of its group."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDS_WITHIN_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait(server: PrefectServer, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server answers; raise when it ended or does not answer in time."""
    until = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    what = "ended" if process.poll() is not None else f"did not answer within {STARTS_WITHIN_S:.0f} s"
    raise RuntimeError(f"Prefect's server {what}:\n{log.read_text(errors='replace')[-3000:]}")
