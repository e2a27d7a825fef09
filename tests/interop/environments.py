"""Two virtual environments: SkyRL's, whose requirements contradict ours, and ours with an older SDK."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
UV = REPO / ".venv" / "bin" / "uv"
SKYRL = HERE / "requirements-skyrl.lock"
SDK = HERE / "requirements-sdk.lock"
HASHED, LOCAL, DATA = (REPO / f"requirements{name}" for name in (".lock", "-local.lock", "-data.txt"))


def server_python(folder: Path) -> Path:
    """The interpreter of an environment in `folder` that has exactly what SkyRL's lock names."""
    return _made(folder, [["--no-deps", "-r", str(SKYRL)]], [SKYRL])


def client_python(folder: Path) -> Path:
    """The interpreter of an environment in `folder` with Understudy, where the SDK is the older one."""
    steps = [
        ["--require-hashes", "-r", str(HASHED)],
        ["-r", str(LOCAL)],
        ["--no-deps", "-r", str(DATA)],
        ["--no-deps", "--editable", str(REPO)],
        # Last: it stands in for the one that our lock names.
        ["--no-deps", "-r", str(SDK)],
    ]
    return _made(folder, steps, [HASHED, LOCAL, DATA, SDK, REPO / "pyproject.toml"])


def _made(folder: Path, steps: Sequence[Sequence[str]], locks: Sequence[Path]) -> Path:
    python, marker = folder / "bin" / "python", folder / ".installed"
    wanted = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()
    if marker.is_file() and marker.read_text() == wanted:
        return python
    print(f"installing {folder}", flush=True)
    _run([str(UV), "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    for step in steps:
        _run([str(UV), "pip", "install", "--quiet", "--python", str(python), *_wheels(), *step])
    marker.write_text(wanted)
    return python


def _wheels() -> list[str]:
    """uv does not read pip's setting for a local folder of wheels."""
    folder = os.environ.get("PIP_FIND_LINKS")
    return ["--find-links", folder] if folder else []


def _run(command: Sequence[str]) -> None:
    # What an installation needs is set by who runs this; a virtual environment of theirs is not.
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    subprocess.run(command, check=True, env=environment)
