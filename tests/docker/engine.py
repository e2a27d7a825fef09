"""Podman and podman-compose as the check calls them."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.docker.reading import DOCKER, TOOLS

PROJECT = "understudy-check"
LIMIT = 16384


class CheckFailed(Exception):
    """What was to be seen was not seen."""


def missing() -> str | None:
    """Why nothing can be started here, or None."""
    if os.name != "posix" or not shutil.which("podman"):
        return "podman is not installed (Debian: apt-get install podman catatonit iptables)"
    if os.geteuid() != 0:
        return "it bridges networks and makes a base image, and needs root for both"
    if not os.environ.get("PYTHON_IMAGE") and not shutil.which("debootstrap"):
        return "no PYTHON_IMAGE is set, and debootstrap, which would make one, is not installed"
    return None


@dataclass(frozen=True, slots=True)
class Engine:
    """Podman, with a folder for what it is told and the project's own copy of docker/."""

    folder: Path

    @property
    def compose_folder(self) -> Path:
        """The copy of docker/, with an .env of its own."""
        return self.folder / "docker"

    def prepare(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Lay out the copy of docker/ and its .env, these settings added; returns all that is in .env."""
        shutil.copytree(DOCKER, self.compose_folder, ignore=shutil.ignore_patterns(".env", "__pycache__"))
        subprocess.run(["sh", "new_env.sh"], cwd=self.compose_folder, check=True, capture_output=True)
        file = self.compose_folder / ".env"
        file.write_text(file.read_text() + "".join(f"{k}={v}\n" for k, v in settings.items()))
        lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
        return dict(line.split("=", 1) for line in lines)

    def podman(self, *arguments: str, cwd: Path | None = None) -> str:
        """What podman prints; raises CheckFailed with the end of its errors where it fails."""
        return self._run(["podman", *arguments], cwd)

    def compose(self, *arguments: str) -> str:
        """What podman-compose prints, from the copy of docker/."""
        program = str(TOOLS / "podman-compose")
        command = [program, "--project-name", PROJECT, "--profile", "tools", *arguments]
        return self._run(command, self.compose_folder)

    def up(self, service: str) -> str:
        """Start one service, and give its container's name.

        One by one and without the others, since older versions of podman wait for no health and start
        nothing that leans on a container which has ended.
        """
        self.compose("up", "--detach", "--no-build", "--no-deps", service)
        return f"{PROJECT}_{service}_1"

    def healthy(self, container: str, within_s: float) -> float:
        """The seconds until the container's own health check passes; raises CheckFailed.

        Podman leaves the asking to systemd, which need not be there, so it is asked for.
        """
        begun = time.monotonic()
        while time.monotonic() - begun < within_s:
            asked = subprocess.run(
                ["podman", "healthcheck", "run", container],
                env=self._environment(),
                capture_output=True,
                check=False,
            )
            if asked.returncode == 0:
                return time.monotonic() - begun
            time.sleep(1)
        raise CheckFailed(f"{container} was not healthy within {within_s:.0f} s:\n{self.logs(container)}")

    def logs(self, container: str) -> str:
        """The end of what a container has said."""
        command = ["podman", "logs", "--tail", "30", container]
        said = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        return said.stdout + said.stderr

    def remove(self) -> None:
        """Containers, networks and volumes of the project, if there are any."""
        for kind, options in (("container", ["-f", "-t", "5"]), ("network", ["-f"]), ("volume", ["-f"])):
            label = f"label=io.podman.compose.project={PROJECT}"
            everything = ["-a"] if kind == "container" else []
            found = self.podman(kind, "ls", "-q", *everything, "--filter", label).split()
            if found:
                self.podman(kind, "rm", *options, *found)

    def _run(self, command: list[str], cwd: Path | None) -> str:
        done = subprocess.run(
            command, cwd=cwd, env=self._environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CheckFailed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return done.stdout

    def _environment(self) -> dict[str, str]:
        """With limits that podman need not raise, which not every root may."""
        conf = self.folder / "containers.conf"
        if not conf.exists():
            limits = ", ".join(f'"{name}={value}:{value}"' for name, value in _limits().items())
            conf.write_text(f"[containers]\ndefault_ulimits = [{limits}]\n")
        return {**os.environ, "CONTAINERS_CONF": str(conf)}


def _limits() -> dict[str, int]:
    asked = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    hard = {name: resource.getrlimit(limit)[1] for name, limit in asked.items()}
    return {
        name: LIMIT if value == resource.RLIM_INFINITY else min(LIMIT, value) for name, value in hard.items()
    }
