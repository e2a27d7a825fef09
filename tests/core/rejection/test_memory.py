"""Sampling and rejection need no more memory for many texts than for few."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest

from core.config import RULES, PromptsConfig, RejectionConfig, RulesConfig, TeacherConfig
from core.records import Example, write_examples
from core.rejection import stage as reject_stage
from core.stage import StageIO
from core.teacher import stage as sample_stage

REPO = Path(__file__).resolve().parents[3]
FEW, MANY = 1_500, 5_000  # the fewer are enough to fill Python's lists of free objects
ALLOWED = 200_000  # bytes; held texts would be 3 MB more, digests in a dictionary 0.3 MB
TEXT = "Are you coming to the game tonight, or shall I ask the others first? " * 10


def prepare(folder: Path, rows: int) -> None:
    """Every ninth text has no answer, every seventh the same one, each other one its own."""
    for name in ("split", "sample", "reject"):
        (folder / name).mkdir(parents=True)
    write_examples(folder / "split/train.csv", [Example(f"t{i}", f"{TEXT}{i}", i % 2) for i in range(rows)])
    with (folder / "answers.jsonl").open("w", encoding="utf-8") as f:
        for i in (i for i in range(rows) if i % 9):
            why = f'It asks "are you coming to the game", text {i % 7 and i}, so it is personal [R4].'
            raw = json.dumps({"reasoning": why, "label": i % 2})
            f.write(json.dumps({"id": f"t{i}", "raw_output": raw}) + "\n")


def run(folder: Path) -> None:
    settings = sample_stage.SampleSettings(
        teacher=TeacherConfig(answers=str(folder / "answers.jsonl")),
        rules=RulesConfig(dir=str(REPO / "rules/sms")),
        prompts=PromptsConfig(file=str(REPO / "prompts/sms.yaml")),
    )
    inputs = {name: folder / name for name in ("split", "sample")}
    sample_stage.sample(settings, StageIO(inputs, folder / "sample"))
    rules = RejectionConfig.model_validate({"rules": tuple(RULES)})
    summary = reject_stage.reject(
        reject_stage.RejectSettings(rejection=rules, rules=settings.rules), StageIO(inputs, folder / "reject")
    )
    assert 0 < summary["accepted_samples"] < summary["requested_samples"] < summary["examples"]


def peaks(folders: Iterable[Path]) -> list[int]:
    """The most bytes that Python held at once above those at the start, for each folder."""
    found = []
    for folder in folders:
        gc.collect()
        tracemalloc.start()
        run(folder)
        found.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return found


def measured(folder: Path) -> list[int]:
    """Peaks with few texts and with many."""
    for name, rows in (("first", 100), ("few", FEW), ("many", MANY)):
        prepare(folder / name, rows)
    run(folder / "first")  # what is imported and cached once belongs to neither
    return peaks([folder / "few", folder / "many"])


@pytest.mark.integration
def test_memory_does_not_grow_with_the_texts(tmp_path: Path) -> None:
    """In a process of its own: threads that other tests left would be counted too."""
    code = (
        "from pathlib import Path; from tests.core.rejection.test_memory import measured; "
        f"print(*measured(Path({str(tmp_path)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    few, many = map(int, done.stdout.split())
    assert many < few + ALLOWED
