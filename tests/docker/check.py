"""`make docker-check`: builds the images, starts what compose.yaml starts, and looks at it from outside.

`python -m tests.docker.check [--quickstart]`; the whole quickstart inside takes as long as outside. Where
PYTHON_IMAGE and POSTGRES_IMAGE are not set, stand-ins are made from Debian's packages.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, TypeVar

from tests.docker import standins
from tests.docker.engine import CheckFailed, Engine, missing
from tests.docker.reading import REPO

IMAGES = {"understudy": "localhost/understudy-check:latest", "s3": "localhost/understudy-check-s3:latest"}
PREFECT_PORT, S3_PORT = "24200", "28333"
ROOT = "s3://understudy/runs"
SHORT = ["--skip=export", "--set=student.epochs=0.1", "--set=evaluation.max_examples=20"]
T = TypeVar("T")


def main(arguments: list[str]) -> int:
    """0 where all was seen, or where it cannot be tried and the reason is printed; 1 where it failed."""
    reason = missing()
    if reason:
        print(f"skipped: {reason}")
        return 0
    with tempfile.TemporaryDirectory(prefix="understudy-check-") as folder:
        engine = Engine(Path(folder))
        try:
            engine.remove()
            settings = build(engine)
            look_at_image(engine)
            look_at_services(engine, settings, whole="--quickstart" in arguments)
        except CheckFailed as e:
            print(f"failed: {e}")
            return 1
        finally:
            engine.remove()
    print("All was seen.")
    return 0


def build(engine: Engine) -> dict[str, str]:
    """Build both targets; returns the .env that names them."""
    python = standins.python_image(engine)
    for target, tag in IMAGES.items():
        begun = time.monotonic()
        engine.podman("build", *build_options(python), "--target", target, "--tag", tag, ".", cwd=REPO)
        size = int(engine.podman("image", "inspect", "--format", "{{.Size}}", tag))
        seen(f"{target}: built in {time.monotonic() - begun:.0f} s, {size / 1e6:.0f} MB")
    return engine.prepare(
        {
            "POSTGRES_IMAGE": standins.postgres_image(engine, python),
            "UNDERSTUDY_IMAGE": IMAGES["understudy"],
            "S3_IMAGE": IMAGES["s3"],
            "PREFECT_PORT": PREFECT_PORT,
            "S3_PORT": S3_PORT,
        }
    )


def build_options(python: str) -> list[str]:
    """Of the Dockerfile's arguments those that matter here; a local folder of wheels stands for an index."""
    wheels = os.environ.get("PIP_FIND_LINKS")
    backend = os.environ.get("UV_TORCH_BACKEND", "" if wheels else "cpu")
    values = {"PYTHON_IMAGE": python, "TORCH_BACKEND": backend, "UNDERSTUDY_COMMIT": commit()}
    return [
        *("--file", "docker/Dockerfile", "--network", "host", "--format", "docker"),
        *(["--build-context", f"wheels={wheels}"] if wheels else []),
        *(word for name, value in values.items() for word in ("--build-arg", f"{name}={value}")),
    ]


def commit() -> str:
    """The commit as made_by.json has it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout.strip()


def look_at_image(engine: Engine) -> None:
    """It runs with nothing it may write but /tmp and its home, as nobody special."""
    locked = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]

    def run(*command: str) -> str:
        return engine.podman("run", "--rm", *locked, IMAGES["understudy"], *command).strip()

    seen(f"{run('understudy', '--version')}, as uid {expect(run('id', '-u'), '10001')}")
    program = "from core.store.run_view import current_code; print(current_code().commit)"
    seen(f"it knows its commit: {expect(run('python', '-c', program), commit())}")
    expect(run("sh", "-c", "command -v uv gcc git weed || echo none"), "none")
    seen("no tool of the build is in it")


def look_at_services(engine: Engine, settings: dict[str, str], *, whole: bool) -> None:
    """Each is healthy by its own check, and the server answers nobody whom it does not know."""
    for service, within in (("postgres", 60), ("s3", 60), ("server", 180)):
        seen(f"{service} is healthy after {engine.healthy(engine.up(service), within):.0f} s")
    expect(status("/api/health"), 200)
    expect(status("/api/admin/version"), 401)
    seen("the server answers, and refuses who has no password")
    engine.podman("wait", engine.up("bucket"))
    seen(expect(engine.logs("understudy-check_bucket_1").strip(), "Made the bucket understudy"))
    seen(f"the worker is healthy after {engine.healthy(engine.up('worker'), 120):.0f} s")
    password = settings["PREFECT_PASSWORD"]
    workers = asked("/api/work_pools/understudy/workers/filter", password, within_s=60)
    seen(f"the server calls it {expect(workers[0]['status'], 'ONLINE')}")
    look_at_a_run(engine, password, whole=whole)


def look_at_a_run(engine: Engine, password: str, *, whole: bool) -> None:
    """The quickstart, or a few steps of it, goes to S3 and is known to the server, after a restart too."""
    begun = time.monotonic()
    command(engine, "run", "configs/quickstart.yaml", *([] if whole else SHORT))
    runs = asked("/api/flow_runs/filter", password, within_s=10)
    seen(
        f"a run took {time.monotonic() - begun:.0f} s and is {expect(runs[0]['state']['type'], 'COMPLETED')}"
    )
    engine.compose("down")
    for service, within in (("postgres", 60), ("s3", 60), ("server", 180)):
        engine.healthy(engine.up(service), within)
    plan = command(engine, "plan", "configs/quickstart.yaml")
    expect(next(line.split()[1] for line in plan.splitlines() if line.startswith("split ")), "reuse")
    expect(len(asked("/api/flow_runs/filter", password, within_s=10)), len(runs))
    seen("after a restart with the same volumes both are there")


def command(engine: Engine, *words: str) -> str:
    """What the command line prints inside, on the S3 root."""
    return engine.compose("run", "--no-deps", "--rm", "-T", "understudy", *words, "--set", f"run.root={ROOT}")


def status(path: str) -> int:
    """The status with which the server answers somebody without a password."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PREFECT_PORT}{path}", timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as e:
        return e.code


def asked(path: str, password: str, within_s: float) -> list[dict[str, Any]]:
    """What the server lists for somebody with the password, once it lists anything."""
    who = base64.b64encode(f"understudy:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {who}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{PREFECT_PORT}{path}", b"{}", headers)
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                found = json.load(response)
            if found:
                return list(found)
        except urllib.error.HTTPError as e:
            if e.code != 404:  # a worker makes its pool first
                raise
        time.sleep(1)
    raise CheckFailed(f"{path} lists nothing after {within_s:.0f} s")


def expect(found: T, wanted: T) -> T:
    """The one if it is the other; raises CheckFailed."""
    if found != wanted:
        raise CheckFailed(f"found {found!r}, not {wanted!r}")
    return found


def seen(what: str) -> None:
    """Say what was seen."""
    print(f"seen: {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
