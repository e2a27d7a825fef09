"""A live teacher against the test endpoint: CPU a row, and the share of concurrency/latency it reaches.

python tests/benchmarks/bench_live.py
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from core.config.teacher import PromptsConfig, RulesConfig, TeacherConfig
from core.progress import Silent
from core.prompts import TEXT_SLOT, load_prompts
from core.records import Example
from core.rulebook import load_rulebook
from core.store.objects import Store
from core.teacher.journal import Journal
from core.teacher.labels import LabelNames
from core.teacher.live.teacher import LiveTeacher
from tests.servers import teacher as endpoint
from tests.servers.teacher_answers import invented_label

REPO = Path(__file__).resolve().parents[2]
PROMPTS = load_prompts(PromptsConfig(file=str(REPO / "prompts/quickstart.yaml")))
RULES = load_rulebook(RulesConfig(dir=str(REPO / "rules/quickstart"))).text
TEXT = "Message {i} of {name}: are you coming to the harbour tonight, or shall I ask the others first?"


def main() -> None:
    """Three settings: no delay (CPU), 1 s at 256 at once, 0.1 s at 64 at once."""
    os.environ["BENCH_TEACHER_KEY"] = "key"
    before, _, after = PROMPTS.teacher_messages(TEXT_SLOT, RULES)[-1].content.partition(TEXT_SLOT)
    with tempfile.TemporaryDirectory() as folder, endpoint.serve(frames=[(before, after)]) as server:
        store = Store.open(folder)
        seconds, cpu = _asked(server, store, "cpu", 3000, 64)
        print(f"no delay, 64 at once: {3000 / seconds:.0f} rows/s, {1000 * cpu / 3000:.2f} ms CPU (goal 2.5)")
        for name, delay, at_once, rows, goal in (
            ("slow", 1.0, 256, 256 * 30, 0.95),
            ("quick", 0.1, 64, 64 * 150, 0.60),
        ):
            server.delay(delay)
            seconds, cpu = _asked(server, store, name, rows, at_once)
            share = rows / seconds * delay / at_once
            print(
                f"{delay:g} s, {at_once} at once: {rows / seconds:.0f} rows/s, {share:.2f} of "
                f"concurrency/latency, start included (goal {goal}), {1000 * cpu / rows:.2f} ms CPU a row"
            )


def _asked(
    server: endpoint.TeacherServer, store: Store, name: str, rows: int, at_once: int
) -> tuple[float, float]:
    """Seconds, and seconds of CPU, that asking so many new texts takes."""
    config = TeacherConfig.model_validate(
        {
            "kind": "openai",
            "base_url": server.base_url,
            "api_key_env": "BENCH_TEACHER_KEY",
            "model": "gpt-4o-mini",
            "attempts": 1,
            "prices": str(REPO / "configs/prices.yaml"),
            "limits": {"concurrency": at_once},
        }
    )
    names = LabelNames.of({}, (), ())
    teacher = LiveTeacher(config, PROMPTS, RULES, names, lambda: Journal.open(store, name))
    texts = [TEXT.format(i=i, name=name) for i in range(rows)]
    examples = [Example(f"{name}{i}", text, invented_label(text)) for i, text in enumerate(texts)]
    started, cpu = time.perf_counter(), time.process_time()
    assert all(a.answers for a in teacher.answers(examples, rows, Silent()))
    return time.perf_counter() - started, time.process_time() - cpu


if __name__ == "__main__":
    main()
