"""The journal: replies a second with fsync, and a million replies opened: seconds and memory.

python tests/benchmarks/bench_journal.py [replies to open]
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from core import jsonio
from core.completions.chat import Reply, encode_reply
from core.completions.journal import Journal
from core.store import Store

APPENDERS, APPENDED = 256, 50_000
READS = 20_000
TEXT = "The message asks the reader to call a number that costs money, which rule R2 names as spam; " * 6
RATE, SECONDS, MEGABYTES = 2000, 10.0, 150.0


def main(rows: int = 1_000_000) -> None:
    """Print a table; the goals are 2,000 replies/s, 10 s, and 150 MB above the imports."""
    with tempfile.TemporaryDirectory() as folder:
        _append(folder)
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder) / "answers", rows)
        # In a process of its own: the peak of memory is a process's.
        command = [sys.executable, "-m", "tests.benchmarks.bench_journal", "open", folder, str(rows)]
        subprocess.run(command, check=True)


def _append(folder: str) -> None:
    with Journal.open(Store.open(folder), "bench") as journal:
        started, cpu = time.perf_counter(), time.process_time()
        asyncio.run(_appenders(journal))
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    print(
        f"append: {APPENDED} replies by {APPENDERS} at once: {APPENDED / seconds:.0f} replies/s "
        f"(goal {RATE}), {1000 * cpu / APPENDED:.3f} ms of CPU each, "
        f"{1000 * seconds * APPENDERS / APPENDED:.0f} ms from append to safe"
    )


async def _appenders(journal: Journal) -> None:
    async def one(first: int) -> None:
        for i in range(first, APPENDED, APPENDERS):
            await journal.append(_reply(i))

    await asyncio.gather(*(one(first) for first in range(APPENDERS)))


def _write(folder: Path, rows: int) -> None:
    """Four writers' spools of lines of about 1 kB."""
    folder.mkdir(parents=True)
    for writer in range(4):
        with (folder / f"{writer}.jsonl").open("wb") as f:
            f.write(json.dumps({"holder": {}, "run": "bench", "version": 1}).encode() + b"\n")
            f.writelines(encode_reply(_reply(i)) for i in range(writer, rows, 4))


def _open(folder: str, rows: int) -> None:
    store = Store.at(folder)
    before, started, cpu = _megabytes(), time.perf_counter(), time.process_time()
    with Journal.open(store, "bench") as journal:
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        assert journal.count() == rows
        print(
            f"open: {rows} replies of {len(encode_reply(_reply(0)))} bytes: {seconds:.1f} s wall (goal "
            f"{SECONDS:.0f}), {cpu:.1f} s CPU, {_megabytes() - before:.0f} MB above the imports "
            f"(goal {MEGABYTES:.0f})"
        )
        keys = [_reply(i).key for i in random.Random(0).choices(range(rows), k=READS)]
        started = time.perf_counter()
        assert all(journal.get(key) is not None for key in keys)
        print(f"get: {1e6 * (time.perf_counter() - started) / READS:.0f} µs a reply, in any order")


def _reply(i: int) -> Reply:
    return Reply(
        key=jsonio.digest(i)[:32],
        run=f"run{i % 3}",
        example_id=f"{i:016x}",
        attempt=0,
        temperature=0.0,
        hinted=False,
        model="teacher",
        raw_output=json.dumps({"reasoning": TEXT, "label": i % 2}),
        reasoning_content=None,
        finish_reason="stop",
        prompt_tokens=1200,
        cached_tokens=1024,
        completion_tokens=120,
        latency_s=1.25,
        output_format="json_schema",
        at="2026-01-01T00:00:00.000000+00:00",
    )


def _megabytes() -> float:
    """Peak resident memory so far (ru_maxrss is kB on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["open"]:
        _open(sys.argv[2], int(sys.argv[3]))
    else:
        main(*(int(argument) for argument in sys.argv[1:]))
