"""A job cut into shards of consecutive parts, each of which another process may answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from core import jsonio
from core.batches import batched
from core.engines.base import Device
from core.predict import sink
from core.predict.job import PART_ROWS, Job, Within, answer
from core.predict.source import InputRow
from core.predict.student import Student
from core.progress import Progress

MOST = 200
"""Shards of one job: a task costs Prefect up to 60 ms and 20 kB."""


@dataclass(frozen=True, slots=True)
class Shard:
    """`rows` rows of a job from part `first` on, in a file of their own, and how the model is opened."""

    job: Job
    number: int
    first: int
    rows: int
    base: str | None
    device: Device

    @property
    def file(self) -> Path:
        """Where the rows are."""
        return self.job.parts / f"shard-{self.number:04d}.rows"


def shards(job: Job, rows: int, base: str | None, device: Device) -> Iterator[Shard]:
    """Write every shard's rows down and give it, in order; the input is then no longer needed."""
    parts = -(-rows // PART_ROWS)
    size = max(1, -(-parts // MOST))
    chunks = job.chunks()
    for number, first in enumerate(range(0, parts, size)):
        taken = [row for chunk in islice(chunks, size) for row in chunk]
        shard = Shard(job, number, first, len(taken), base, device)
        with shard.file.open("w", encoding="utf-8") as f:
            f.writelines(sink.line(asdict(row)) + "\n" for row in taken)
        yield shard


def answer_shard(shard: Shard, student: Callable[[], Student], progress: Progress) -> int:
    """Answer the parts that are not answered yet; `student` is asked for only if there is one."""
    done, answered = 0, 0
    rows = (InputRow(**row) for row in jsonio.read_jsonl(shard.file))
    for i, chunk in enumerate(batched(rows, PART_ROWS), start=shard.first):
        if not shard.job.part(i).is_file():
            answer(shard.job, i, chunk, student(), Within(progress, done, shard.rows))
            answered += len(chunk)
        done += len(chunk)
        progress.update(done, shard.rows)
    return answered
