"""A run again with everything made: calls of teacher and engine, and seconds beyond Prefect's own start.

python tests/benchmarks/bench_rerun.py [rounds]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.killing.driver import project
from tests.servers import s3

REPO = Path(__file__).resolve().parents[2]
START = """
from flows import environment
environment.prepare()
from prefect import flow
@flow(persist_result=False)
def nothing() -> None: ...
nothing()
"""
RUN = """
import json, sys
from core import durable
from core.engines.local.engine import LocalEngine
calls = {"teacher": 0, "engine": 0}
def passing(name, about):
    calls["teacher"] += name == durable.TEACHER_ASKED
durable.on_failpoint = passing
opened = LocalEngine.__init__
def counted(self, *arguments, **options):
    calls["engine"] += 1
    opened(self, *arguments, **options)
LocalEngine.__init__ = counted
from flows.cli import main
try:
    main(["run", *sys.argv[1:]])
finally:
    print(json.dumps(calls))
"""


def main(rounds: int = 3) -> None:
    """Print both kinds of root, and Prefect alone between them."""
    with tempfile.TemporaryDirectory() as folder, s3.serve(_folder(folder, "s3")) as server:
        home = _folder(folder, "work")
        project(home)
        roots = {"disk": (str(home / "out"), {}), "S3": (f"s3://{s3.BUCKET}/rerun", server.environment())}
        for kind, (root, environment) in roots.items():
            first, made = _timed(home, environment, RUN, "small.yaml", "--set", f"run.root={root}")
            again, alone, calls = [], [], ""
            for _ in range(rounds):
                alone.append(_timed(home, environment, START)[0])
                took, calls = _timed(home, environment, RUN, "small.yaml", "--set", f"run.root={root}")
                again.append(took)
            once, start = statistics.median(again), statistics.median(alone)
            print(f"{kind}: first {first:.1f} s with {made}; again {once:.1f} s with {calls}")
            print(f"{kind}: Prefect alone {start:.1f} s, so {once - start:.1f} s beyond it (goal at most 3)")


def _folder(parent: str, name: str) -> Path:
    path = Path(parent) / name
    path.mkdir()
    return path


def _timed(home: Path, environment: Mapping[str, str], code: str, *arguments: str) -> tuple[float, str]:
    env = {**os.environ, **environment, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *arguments]
    started = time.monotonic()
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=True)
    took = time.monotonic() - started
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    counts = json.loads(lines[-1]) if lines else {}
    return took, ", ".join(f"{n} {what} calls" for what, n in counts.items())


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
