"""A live teacher against the test endpoint: CPU a row, how much of what the endpoint gives it takes, and what
the canary costs at the start.

python tests/benchmarks/bench_live.py
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.completions.journal import Journal
from core.config import PromptsConfig, RulesConfig, TeacherConfig
from core.progress import Silent
from core.prompts import TEXT_SLOT, load_prompts
from core.records import Example
from core.rulebook import load_rulebook
from core.store import Store
from core.teacher.live import LiveTeacher
from core.teacher.parsing import LabelNames
from tests.benchmarks import live_cpu
from tests.servers import teacher as endpoint
from tests.servers.teacher_answers import invented_label
from tests.servers.teacher_limits import Work
from tests.servers.teacher_orders import Delay

REPO = Path(__file__).resolve().parents[2]
PROMPTS = load_prompts(PromptsConfig(file=str(REPO / "prompts/sms.yaml")))
RULES = load_rulebook(RulesConfig(dir=str(REPO / "rules/sms"))).text
TEXT = "Message {i} of {name}: are you coming to the harbour tonight, or shall I ask the others first?"
RAMP_S = 10.0
"""Left out of what is called steady: five round trips of a second double 8 to 256."""


@dataclass(frozen=True, slots=True)
class Took:
    """What asking took: seconds, seconds of this process's CPU, and when each request reached the server."""

    rows: int
    seconds: float
    cpu: float
    arrivals: Sequence[float]

    @property
    def rate(self) -> float:
        """Rows a second, start and end included."""
        return self.rows / self.seconds

    def steady(self, tail: float) -> float:
        """Requests a second between the ramp and the last `tail` seconds."""
        first, last = self.arrivals[0] + RAMP_S, self.arrivals[-1] - tail
        return sum(first <= at < last for at in self.arrivals) / (last - first)


def main() -> None:
    """CPU of the whole command and of the teacher alone; two fixed delays; a heavy tail; a hidden limit;
    the start with and without a canary.
    """
    os.environ["BENCH_TEACHER_KEY"] = "key"
    before, _, after = PROMPTS.teacher_messages(TEXT_SLOT, RULES)[-1].content.partition(TEXT_SLOT)
    with tempfile.TemporaryDirectory() as folder, endpoint.serve(frames=[(before, after)]) as server:
        store = Store.open(folder)
        _asked(server, store, "warm", 200, 64)
        for part in (_command, _processor, _fixed, _tail, _hidden, _start):
            for line in part(server, store):
                print(line, flush=True)
            server.recover()


def _command(server: endpoint.TeacherServer, store: Store) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield from live_cpu.measure(server, Path(folder))


def _processor(server: endpoint.TeacherServer, store: Store) -> Iterator[str]:
    took = _asked(server, store, "cpu", 5000, 64)
    yield f"no delay, 64 at once: {took.rate:.0f} rows/s, {_ms(took):.2f} ms CPU a row (goal 2.5)"


def _fixed(server: endpoint.TeacherServer, store: Store) -> Iterator[str]:
    for name, delay, at_once, rows, goal in (
        ("quick", 0.1, 64, 64 * 200, 0.60),
        ("slow", 1.0, 256, 256 * 100, 0.95),
    ):
        server.delay(delay)
        took = _asked(server, store, name, rows, at_once)
        ideal = at_once / delay
        yield (
            f"{delay:g} s, {at_once} at once, {rows} rows: {took.rate / ideal:.3f} of concurrency/latency "
            f"with the start, {took.steady(2 * delay) / ideal:.3f} after {RAMP_S:g} s (goal {goal}), "
            f"{_ms(took):.2f} ms CPU a row"
        )


def _tail(server: endpoint.TeacherServer, store: Store) -> Iterator[str]:
    """The ideal starts each text as soon as a place is free, with the server's own times in their order."""
    rows, at_once = 6000, 64
    delay = Delay(tail="lognormal", seconds=0.4, spread=1.0, seed=11)
    server.delay(delay.seconds, tail="lognormal", spread=delay.spread, seed=delay.seed)
    took, work = _asked(server, store, "tail", rows, at_once), Work(delay)
    free = [0.0] * at_once
    for _ in range(rows):
        first = min(range(at_once), key=free.__getitem__)
        free[first] += work.seconds()
    yield (
        f"lognormal tail (median {delay.seconds:g} s, sigma 1), {at_once} at once, {rows} rows: "
        f"{took.seconds:.1f} s, {took.seconds / max(free):.3f} of the ideal {max(free):.1f} s (goal 1.15)"
    )


def _hidden(server: endpoint.TeacherServer, store: Store) -> Iterator[str]:
    """429 without a header above 1,800 a minute; a bucket of two seconds, full at first."""
    a_minute, rows = 1800.0, 5400
    server.delay(0.5)
    server.reset_counts()
    server.limit(a_minute, burst_s=2.0, hidden=True)
    took = _asked(server, store, "hidden", rows, 256)
    totals = server.totals()
    refused = totals.statuses.get("429", 0) / totals.received
    yield (
        f"hidden limit of {a_minute:g} a minute, {rows} rows: {took.rate * 60 / a_minute:.3f} of it with the "
        f"start (goal .90), {refused:.3f} of all requests refused (goal .05)"
    )


def _start(server: endpoint.TeacherServer, store: Store) -> Iterator[str]:
    """The first 400 rows, in turns with and without a canary: under a new root, where the first request goes
    out alone, and for a new prompt of an endpoint whose format is settled, where only the canary waits.
    """
    server.delay(0.1)
    rows, rounds = 400, 7
    for where in ("new root", "new prompt"):
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for i in range(rounds):
            for canary in (True, False) if i % 2 else (False, True):
                name = f"{where} {i} {canary}"
                changes = {"canary": 50 if canary else None, "extra_body": {"user": name}}
                with tempfile.TemporaryDirectory() as folder:
                    root = Store.open(folder) if where == "new root" else store
                    seconds[canary].append(_asked(server, root, name, rows, 256, **changes).seconds)
        ratios = [a / b for a, b in zip(seconds[True], seconds[False], strict=True)]
        yield (
            f"canary, {where}, 0.1 s, {rows} rows: median {statistics.median(seconds[True]):.3f} s with it, "
            f"{statistics.median(seconds[False]):.3f} s without; ratio of neighbors: median "
            f"{statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f} (goal 1.05)"
        )


def _ms(took: Took) -> float:
    return 1000 * took.cpu / took.rows


def _asked(
    server: endpoint.TeacherServer, store: Store, name: str, rows: int, at_once: int, **changes: object
) -> Took:
    """Ask so many new texts."""
    config = TeacherConfig.model_validate(
        {
            "kind": "openai",
            "base_url": server.base_url,
            "api_key_env": "BENCH_TEACHER_KEY",
            "model": "gpt-4o-mini",
            "attempts": 1,
            "prices": str(REPO / "configs/prices.yaml"),
            "limits": {"concurrency": at_once, "tries": 20},
            **changes,
        }
    )
    names = LabelNames()
    teacher = LiveTeacher(config, PROMPTS, RULES, names, lambda: Journal.open(store, name))
    texts = [TEXT.format(i=i, name=name) for i in range(rows)]
    examples = [Example(f"{name}{i}", text, invented_label(text)) for i, text in enumerate(texts)]
    before = len(server.arrivals())
    started, cpu = time.perf_counter(), time.process_time()
    assert all(a.answers for a in teacher.answers(examples, rows, Silent()))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return Took(rows, seconds, cpu, sorted(server.arrivals())[before:])


if __name__ == "__main__":
    main()
