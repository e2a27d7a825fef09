"""Workers of a real Prefect server, the runs they carry out, and the small project these are about."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.config.loading import load
from tests.servers.prefect_api import PrefectServer, started
from tests.small_project import write_project

FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
PATIENCE_S = 240.0
LONG = ("student.steps=100000", "evaluation.interval=200", "student.save_every=20")
"""More than any test waits for."""


@dataclass(frozen=True, slots=True)
class Project:
    """A folder in which a worker is started; its config's paths are relative to it."""

    folder: Path

    @classmethod
    def write(cls, folder: Path, model: Path) -> Project:
        """The small project, in a new folder."""
        folder.mkdir()
        write_project(folder, model)
        return cls(folder)

    def config(self, *overrides: str) -> dict[str, Any]:
        """The config as a flow's parameter."""
        resolved = load(self.folder / "small.yaml", list(overrides))
        return resolved.config.model_dump(mode="json", exclude_unset=True)

    def run(self, name: str, root: str = "out") -> Path:
        """A run's folder."""
        return self.folder / root / "runs" / name


def deploy(server: PrefectServer, project: Project) -> None:
    """Deploy `distill` as it is in the file, on the small project."""
    server.prefect("work-pool", "create", "understudy", "--type", "process", "--overwrite")
    config = json.dumps({"config": project.config()})
    server.prefect(
        "deploy", "-n", "distill", "--prefect-file", "deployments/prefect.yaml", "--params", config
    )


@contextlib.contextmanager
def working(server: PrefectServer, project: Project, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that was started in the project's folder."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "understudy", "--limit", "3"]
    with started(command, project.folder, server.environment(**more), log_of(project)) as process:
        try:
            yield process
        finally:
            for pid in offspring(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def log_of(project: Project) -> Path:
    """What the project's worker printed."""
    return project.folder / "worker.log"


def offspring(pid: int) -> list[int]:
    """All processes that a process started, and those that these did; what only waits to be read is none."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    found, look = [], [pid]
    while look:
        these = children.get(look.pop(), [])
        found += these
        look += these
    return found


def start(server: PrefectServer, parameters: dict[str, Any], deployment: str = "distill") -> str:
    """Start a run of a deployment; its id."""
    (found,) = server.post("deployments/filter", deployments={"name": {"any_": [deployment]}})
    made = server.post(f"deployments/{found['id']}/create_flow_run", parameters=parameters)
    return str(made["id"])


def flow_run(server: PrefectServer, run: str) -> dict[str, Any]:
    """A run as the server knows it."""
    (found,) = server.post("flow_runs/filter", flow_runs={"id": {"any_": [run]}})
    assert isinstance(found, dict)
    return found


def states_of_tasks(server: PrefectServer, run: str) -> dict[str, str]:
    """How each task of a run ended."""
    tasks = server.post("task_runs/filter", flow_runs={"id": {"any_": [run]}}, sort="EXPECTED_START_TIME_ASC")
    return {each["name"]: each["state_name"] for each in tasks}


def events(server: PrefectServer, run: str, name: str) -> int:
    """How many events of a name the server has of a run."""
    wanted = {"event": {"name": [name]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
    return int(server.post("events/filter", filter=wanted)["total"])


def ended(server: PrefectServer, run: str) -> str:
    """Wait for a run's end; the name of its state."""
    until(lambda: flow_run(server, run)["state_type"] in FINAL, f"run {run} did not end")
    return str(flow_run(server, run)["state_name"])


def until(holds: Callable[[], object], complaint: str, patience_s: float = PATIENCE_S) -> None:
    """Return as soon as something holds."""
    limit = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < limit, complaint
        time.sleep(0.25)


def whole(project: Project, root: str = "out") -> bool:
    """Nothing half made is under the root, nobody holds a lease, and every object is sound."""
    from core.store import Store

    store = Store.at(str(project.folder / root))
    made = list((project.folder / root).glob("objects/*/*.json"))
    named = {path.stem for path in made}
    parts = {path.parent.name for path in (project.folder / root).glob("objects/*/*/*")}
    sound = all(store.sound(path.parent.name, path.stem) is not None for path in made)
    return store.backend.list("leases") == [] and parts <= named and sound
