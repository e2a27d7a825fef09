"""A real PostgreSQL, as Debian packs it, on a free loopback port, in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOOPBACK = "127.0.0.1"
STARTS_WITHIN_S = 60.0
OWNER = "postgres"
"""Whom the server runs as where the tests run as root, which it refuses."""


def binaries() -> Path | None:
    """The folder with initdb and postgres; None where there is none, or nobody who may run them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or (os.geteuid() == 0 and not _known(OWNER)):
        return None
    return found[-1].parent


@contextmanager
def serve() -> Iterator[str]:
    """Serve an empty database; yields its URL for Prefect's server.

    Its folder is not among pytest's, which nobody else may enter.
    """
    there = binaries()
    if there is None:
        raise RuntimeError("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(prefix="understudy-postgres-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, OWNER, OWNER)
        with socket.create_server((LOOPBACK, 0)) as s:
            port = s.getsockname()[1]
        data = str(folder / "data")
        _call([str(there / "initdb"), "-D", data, "-U", "prefect", "-A", "trust", "--no-sync"], folder)
        with _started(there, data, port, folder):
            yield f"postgresql+asyncpg://prefect@{LOOPBACK}:{port}/postgres"


@contextmanager
def _started(there: Path, data: str, port: int, folder: Path) -> Iterator[None]:
    log = folder / "postgres.log"
    options = ["-h", LOOPBACK, "-p", str(port), "-k", "", "-c", "fsync=off"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(there / "postgres"), "-D", data, *options],
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            user=_owner(),
            group=_owner(),
        )
    try:
        _wait(there, port, process, log)
        yield
    finally:
        process.send_signal(signal.SIGINT)  # ends connections and shuts down in order
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _owner() -> str | None:
    return OWNER if os.geteuid() == 0 else None


def _known(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _call(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, user=_owner(), group=_owner()
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def _wait(there: Path, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    ready = [str(there / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(port)]
    until = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        if subprocess.run(ready, check=False).returncode == 0:
            return
        time.sleep(0.2)
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')[-3000:]}")
