"""Processor time per teacher row of the whole command, next to a bare client that sends the same requests.

`python -m tests.benchmarks.live_cpu URL FILE` is the bare client: AsyncOpenAI on aiohttp in a plain loop.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from core.config import PromptsConfig, RulesConfig
from core.prompts import load_prompts
from core.rulebook import load_rulebook
from core.teacher.live import ANSWER_SCHEMA
from tests.killing.driver import project
from tests.servers import prefect_api
from tests.servers.prefect_api import PrefectServer
from tests.servers.teacher import TeacherServer

REPO = Path(__file__).resolve().parents[2]
TRAIN, FEW, AT_ONCE, ROUNDS = 3000, 30, 64, 3
WORDS = 900
TEXT = "Message {i} of round {round}: are you coming to the harbor tonight, or shall I ask the others first?"
GOAL = 1.6


def measure(server: TeacherServer, folder: Path, rounds: int = ROUNDS) -> Iterator[str]:
    """Yield the medians of some rounds. Each runs the command for all rows, for a few rows, and once more
    with nothing to do, and the bare client; the Prefect server is a process of its own and is not counted.
    """
    config = Path(project(folder))
    (folder / "rules/R3_long.txt").write_text("R3 " + " ".join(f"word{i % 90}" for i in range(WORDS)))
    each, whole, loop, bare, start = [], [], [], [], []
    home = folder / "prefect"
    home.mkdir()
    with prefect_api.serve(home) as prefect:
        for number in range(rounds):
            all_rows, few = (
                _command(config, _prepare(config, f"{number}{name}", server.base_url, rows), prefect)
                for name, rows in (("all", TRAIN), ("few", FEW))
            )
            again = _command(config, _prepare(config, f"{number}few", server.base_url, FEW), prefect)
            each.append(1000 * (all_rows - few) / (TRAIN - FEW))
            whole.append(1000 * (all_rows - again) / TRAIN)
            start.append(few - again)
            requests, process = _bare(config, number, server.base_url)
            loop.append(1000 * requests / TRAIN)
            bare.append(1000 * process / TRAIN)
    ratios = [a / b for a, b in zip(each, loop, strict=True)]
    started = [a / b for a, b in zip(whole, bare, strict=True)]
    yield (
        f"whole command, {TRAIN} rows, rulebook of {WORDS} words, {AT_ONCE} at once: "
        f"{statistics.median(each):.2f} ms CPU a row more than with {FEW} rows; bare AsyncOpenAI "
        f"{statistics.median(loop):.2f} ms; ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}, goal {GOAL})"
    )
    yield (
        f"with all that a first start imports and loads, on both sides: {statistics.median(whole):.2f} ms a "
        f"row more than the same command with nothing to do; bare process {statistics.median(bare):.2f} ms; "
        f"ratio {statistics.median(started):.2f} ({min(started):.2f} to {max(started):.2f}, goal {GOAL}). "
        f"The start takes {statistics.median(start):.1f} s, most of it to load the student's tokenizer"
    )


def _prepare(config: Path, name: str, base_url: str, train: int) -> list[str]:
    """Write texts, and return the changes of the config that ask a live teacher about them."""
    rows = round(train / 0.7)
    with (config.parent / "texts.csv").open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(("id", "text", "label"))
        writer.writerows((f"t{i}", TEXT.format(i=i, round=name), int(i % 3 == 0)) for i in range(rows))
    teacher = {
        "kind": "openai",
        "base_url": base_url,
        "model": "gpt-4o-mini",
        "api_key_env": None,
        "attempts": 1,
        "prices": str(REPO / "configs/prices.yaml"),
        "limits": {"concurrency": AT_ONCE},
    }
    return [f"run.root=out{name}", f"teacher={json.dumps(teacher)}"]


def _command(config: Path, changes: list[str], prefect: PrefectServer) -> float:
    """Seconds of processor time that a run up to the teacher's answers takes."""
    options = [part for change in changes for part in ("--set", change)]
    code = "import sys; from flows.cli import main; main(sys.argv[1:])"
    command = [
        sys.executable,
        "-c",
        code,
        "run",
        config.name,
        *options,
        "--only",
        "split",
        "--only",
        "sample",
    ]
    return _processor_time(command, config.parent, prefect.environment(OMP_NUM_THREADS="1"))[0]


def _bare(config: Path, number: int, base_url: str) -> tuple[float, float]:
    """Seconds of processor time that the bare client takes for its requests, and with its imports."""
    settings = yaml.safe_load(config.read_text())
    prompts = load_prompts(PromptsConfig(file=settings["prompts"]["file"]))
    rulebook = load_rulebook(RulesConfig(dir=str(config.parent / "rules"))).text
    path = config.parent / "bodies.jsonl"
    with path.open("w") as f:
        for i in range(TRAIN):
            messages = prompts.teacher_messages(TEXT.format(i=i, round=f"{number} bare"), rulebook)
            f.write(json.dumps([{"role": m.role, "content": m.content} for m in messages]) + "\n")
    command = [sys.executable, "-m", "tests.benchmarks.live_cpu", base_url, str(path)]
    process, output = _processor_time(command, config.parent, {**os.environ, "PYTHONPATH": str(REPO)})
    return float(output), process


def _processor_time(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, str]:
    """Run a command to its end: seconds of processor time, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


async def _send_all(base_url: str, path: str) -> float:
    from openai import AsyncOpenAI, DefaultAioHttpClient

    bodies = [json.loads(line) for line in Path(path).read_text().splitlines()]
    schema = {"name": ANSWER_SCHEMA.name, "strict": True, "schema": ANSWER_SCHEMA.schema}
    response_format: Any = {"type": "json_schema", "json_schema": schema}
    client = AsyncOpenAI(api_key="none", base_url=base_url, max_retries=0, http_client=DefaultAioHttpClient())
    slots = asyncio.Semaphore(AT_ONCE)

    async def send(messages: Any) -> None:
        async with slots:
            await client.chat.completions.create(
                model="gpt-4o-mini",
                messages=messages,
                temperature=0.0,
                max_tokens=4096,
                response_format=response_format,
            )

    started = time.process_time()
    await asyncio.gather(*map(send, bodies))
    taken = time.process_time() - started
    await client.close()
    return taken


if __name__ == "__main__":
    print(asyncio.run(_send_all(sys.argv[1], sys.argv[2])))
