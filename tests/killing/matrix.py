"""Many trials on both kinds of root, and the table of what they found: make kill-matrix."""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.servers import s3

REPO = Path(__file__).resolve().parents[2]
ROW = "{:<8} {:>7} {:>6} {:>22} {:>30} {:>20} {:>7}"
LIVE_ROW = "{:<8} {:>7} {:>6} {:>22} {:>12} {:>5} {:>6} {:>20} {:>7}"


@dataclass(frozen=True, slots=True)
class Count:
    """What the trials on one kind of root found; all but the first two should be 0."""

    trials: int
    kills: int
    answers_twice: int
    steps_twice: int
    differing: int
    failed: int

    @classmethod
    def of(cls, results: Sequence[Mapping[str, Any]]) -> Count:
        """Add up."""
        return cls(
            len(results),
            sum(r["kills"] for r in results),
            sum(r["answers_twice"] for r in results),
            sum(r["steps_twice"] for r in results),
            sum(bool(r["differing"]) for r in results),
            sum(bool(r["failed"]) for r in results),
        )

    @property
    def faults(self) -> int:
        """How much is wrong."""
        return self.answers_twice + self.steps_twice + self.differing + self.failed


@dataclass(frozen=True, slots=True)
class LiveCount:
    """What the trials with a live teacher found; from `lost` on all should be 0."""

    trials: int
    kills: int
    under_way: int
    asked_again: int
    lost: int
    twice: int
    differing: int
    failed: int

    @classmethod
    def of(cls, results: Sequence[Mapping[str, Any]]) -> LiveCount:
        """Add up."""
        return cls(
            len(results),
            sum(r["kills"] for r in results),
            sum(r["under_way"] for r in results),
            sum(r["asked_again"] for r in results),
            sum(r["lost"] for r in results),
            sum(r["twice"] for r in results),
            sum(r["differing"] for r in results),
            sum(bool(r["failed"]) for r in results),
        )

    @property
    def faults(self) -> int:
        """How much is wrong."""
        again = max(0, self.asked_again - self.under_way)
        return again + self.lost + self.twice + self.differing + self.failed


def start(
    root: str, environment: Mapping[str, str], *arguments: str, module: str = "tests.killing.driver"
) -> subprocess.Popen[str]:
    """A driver in a process of its own; its results come on its standard output."""
    command = [sys.executable, "-m", module, "--root", root, *arguments]
    env = {**os.environ, **environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)}
    return subprocess.Popen(command, cwd=REPO, env=env, stdout=subprocess.PIPE, text=True)


def python(code: str) -> int:
    """Run code in a fresh process, which has one thread; its exit code."""
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    return subprocess.run([sys.executable, "-c", code], cwd=REPO, env=env, check=False).returncode


def read(out: IO[str] | None) -> Iterable[dict[str, Any]]:
    """Results as they come."""
    assert out is not None
    return (json.loads(line) for line in out)


def main() -> None:
    """Run the trials and print the table; ends with 1 where anything but trials is not 0."""
    parser = argparse.ArgumentParser(prog="make kill-matrix")
    parser.add_argument("--each", type=int, default=6)
    parser.add_argument("--random", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    arguments = (f"--each={given.each}", f"--random={given.random}", f"--seed={given.seed}")
    with tempfile.TemporaryDirectory() as folder, s3.serve(_folder(folder, "s3")) as server:
        processes = {
            "disk": start(str(_folder(folder, "disk")), {}, *arguments),
            "S3": start(f"s3://{s3.BUCKET}/kills", server.environment(), *arguments),
        }
        counts = {name: _collected(name, process) for name, process in processes.items()}
        live = "tests.killing.live"
        asking = {
            "disk": start(str(_folder(folder, "live")), {}, *arguments, module=live),
            "S3": start(f"s3://{s3.BUCKET}/live", server.environment(), *arguments, module=live),
        }
        asked = {name: LiveCount.of(list(read(p.stdout))) for name, p in asking.items()}
        assert [p.wait() for p in asking.values()] == [0, 0], "the live trials could not be run; see above"
    _print(counts, given.seed)
    _print_live(asked)
    faults = sum(c.faults for c in counts.values()) + sum(c.faults for c in asked.values())
    sys.exit(1 if faults else 0)


def _folder(parent: str, name: str) -> Path:
    path = Path(parent) / name
    path.mkdir()
    return path


def _collected(name: str, process: subprocess.Popen[str]) -> Count:
    results = []
    for result in read(process.stdout):
        results.append(result)
        wrong = {k: v for k, v in result.items() if k not in ("where", "kills") and v}
        print(
            f"{name} {len(results)}: killed {result['where']}: {wrong or 'as if nothing had been'}",
            flush=True,
        )
    assert process.wait() == 0, f"the trials on {name} could not be run; see above"
    return Count.of(results)


def _print(counts: Mapping[str, Count], seed: int) -> None:
    print(f"seed {seed}")
    head = ("root", "trials", "kills", "answers asked twice", "steps before the save again")
    print(ROW.format(*head, "results that differ", "failed"))
    for name, c in counts.items():
        print(ROW.format(name, c.trials, c.kills, c.answers_twice, c.steps_twice, c.differing, c.failed))


def _print_live(counts: Mapping[str, LiveCount]) -> None:
    print("a live teacher, killed while it is asked")
    head = ("root", "trials", "kills", "under way when killed", "asked again", "lost", "twice")
    print(LIVE_ROW.format(*head, "results that differ", "failed"))
    for name, c in counts.items():
        sums = (c.under_way, c.asked_again, c.lost, c.twice, c.differing, c.failed)
        print(LIVE_ROW.format(name, c.trials, c.kills, *sums))


if __name__ == "__main__":
    main()
