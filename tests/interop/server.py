"""SkyRL's Tinker server on loopback, on the CPU: started, waited for, and ended with all its children."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.interop.environments import HERE, UV

NAME = "SmolLM2-135M-Instruct"
BACKEND = {
    # The base model's takes one of them, each session another. All are computed with, used or not.
    "max_lora_adapters": 4,
    "max_lora_rank": 16,
    "train_micro_batch_size": 4,
    # Every batch of samples is filled up to this: another number of rows would compile anew.
    "sample_max_num_sequences": 8,
}
_START_S = 300.0
_END_S = 20.0


@dataclass(frozen=True, slots=True)
class Running:
    """Where it answers, and what it says."""

    url: str
    log: Path

    def said(self, words: str) -> int:
        """How often the log has these words, however its lines were broken."""
        return " ".join(self.log.read_text(errors="replace").split()).count(words)


@contextmanager
def skyrl(python: Path, model: Path, folder: Path) -> Iterator[Running]:
    """A server of the base model in the folder `model`, under the name NAME; `folder` is its own."""
    folder.mkdir(parents=True)
    # A model's name may be a folder's, as seen from where the server runs.
    (folder / NAME).symlink_to(model)
    port, log = _free_port(), folder / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            _command(python, folder, port),
            cwd=folder,
            env=_environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            running = Running(f"http://127.0.0.1:{port}", log)
            _await(running, process)
            yield running
        finally:
            _end(process)


def _command(python: Path, folder: Path, port: int) -> list[str]:
    """The server starts its engine by `uv run` with the flags that it was itself started with."""
    flags = ["--no-project", "--no-config", "--python", str(python)]
    settings = {
        "base-model": NAME,
        "backend": "jax",
        "backend-config": json.dumps(BACKEND),
        "checkpoints-base": str(folder / "checkpoints"),
        "database-url": f"sqlite:///{folder / 'tinker.db'}",
        # Where a session ends, its checkpoints cannot be sampled any more.
        "session-timeout-sec": "-1",
        "host": "127.0.0.1",
        "port": str(port),
    }
    named = [word for key, value in settings.items() for word in (f"--{key}", value)]
    return [str(UV), "run", *flags, "-m", "skyrl.tinker.api", *named]


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    return {
        **kept,
        "PATH": f"{UV.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(HERE / "python311"),
        "JAX_PLATFORMS": "cpu",
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(running: Running, process: subprocess.Popen[bytes]) -> None:
    """Requests wait for the engine, which takes longer than the server that takes them in."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(running.url + "/api/v1/healthz", timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise SystemExit(f"SkyRL's server did not start; it said:\n{running.log.read_text()[-3000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its own process group: the server, its engine, and the two uv's that started them."""
    for number, patience in ((signal.SIGTERM, _END_S), (signal.SIGKILL, _END_S)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
