"""A million recorded answers through the stages sample and reject: rate and memory.

python tests/benchmarks/bench_teacher.py [rows]
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.config import RULES, ParseConfig, PromptsConfig, RejectionConfig, RulesConfig, TeacherConfig
from core.progress import Silent
from core.records import Example, write_examples
from core.rejection import stage as reject_stage
from core.stage import StageIO
from core.teacher import stage as sample_stage
from core.teacher.parsing import LabelNames
from core.teacher.recorded import RecordedTeacher
from core.teacher.samples import AttemptPolicy

MEGABYTES = 400
REPO = Path(__file__).resolve().parents[2]
TEXT = "Message {i}: are you coming to the game tonight, or shall I ask the others first? " * 2
REASON = 'One person asks another "are you coming to the game tonight", text {i}, so it is personal [R4].'


def main(rows: int = 1_000_000) -> None:
    """Print rows a second and megabytes above the imports, teacher alone and both stages.

    A million rows are meant to take no more than 400 MB; what SQLite keeps in temporary files is
    not counted.
    """
    before = _megabytes()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_answers(folder / "answers.jsonl", rows)
        _timed("recorded teacher alone", rows, before, lambda: _teacher(folder, rows))
        split = folder / "split/train.csv"
        _timed("texts of train written", rows, before, lambda: write_examples(split, _Made(rows)))
        _timed("stage sample", rows, before, lambda: _sample(folder))
        _timed("stage reject, all rules", rows, before, lambda: _reject(folder))
    print(f"  memory above the imports {_megabytes() - before:.0f} MB, goal {MEGABYTES} MB")


def _timed(what: str, rows: int, before: float, work: Callable[[], None]) -> None:
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    print(
        f"{what}: {rows} rows, {seconds:.1f} s, {rows / max(seconds, 1e-9):.0f} rows/s, "
        f"peak so far {_megabytes() - before:.0f} MB above the imports"
    )


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@dataclass(frozen=True)
class _Made(Collection[Example]):
    """Texts that are made when they are asked for, so that the benchmark itself holds none."""

    rows: int

    def __iter__(self) -> Iterator[Example]:
        return (Example(f"{i:016x}", TEXT.format(i=i), i % 2) for i in range(self.rows))

    def __len__(self) -> int:
        return self.rows

    def __contains__(self, example: object) -> bool:
        return any(each == example for each in self)


def _write_answers(path: Path, rows: int) -> None:
    """In another order than the texts, so that the index has something to do."""
    with path.open("w", encoding="utf-8") as f:
        for n in range(rows):
            i = (n * 7919) % rows
            raw = json.dumps({"reasoning": REASON.format(i=i), "label": i % 2})
            f.write(json.dumps({"id": f"{i:016x}", "model": "m", "raw_output": raw}) + "\n")


def _teacher(folder: Path, rows: int) -> None:
    teacher = RecordedTeacher(str(folder / "answers.jsonl"), ParseConfig(), LabelNames(), AttemptPolicy(1, 1))
    answered = sum(len(a.answers) for a in teacher.answers(_Made(rows), rows, Silent()))
    assert answered == rows


def _settings(folder: Path) -> sample_stage.SampleSettings:
    return sample_stage.SampleSettings(
        teacher=TeacherConfig(answers=str(folder / "answers.jsonl")),
        rules=RulesConfig(dir=str(REPO / "rules/sms")),
        prompts=PromptsConfig(file=str(REPO / "prompts/sms.yaml")),
    )


def _sample(folder: Path) -> None:
    (folder / "sample").mkdir()
    sample_stage.sample(_settings(folder), StageIO({"split": folder / "split"}, folder / "sample"))


def _reject(folder: Path) -> None:
    (folder / "reject").mkdir()
    settings = reject_stage.RejectSettings(
        rejection=RejectionConfig.model_validate({"rules": tuple(RULES)}), rules=_settings(folder).rules
    )
    inputs = {"split": folder / "split", "sample": folder / "sample"}
    reject_stage.reject(settings, StageIO(inputs, folder / "reject"))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
